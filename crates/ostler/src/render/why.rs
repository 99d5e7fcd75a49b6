//! The answer of `ostler why`: what is the case, what is known, what to do.

use super::text::{clean, one_line, span};
use super::{Paint, Style};
use crate::http::dto::{ServerDto, Subject, WhyDto};

/// How many of a server's last words are shown; `ostler logs` has more.
const WORDS: usize = 12;

/// The whole answer.
pub(crate) fn answer(why: &WhyDto, style: Style) -> String {
    let paint = if why.well { Paint::Good } else { Paint::Bad };
    let mut text = format!("{}\n", style.paint(paint, &one_line(&why.verdict, 2000)));
    if let Some(server) = &why.server {
        for (name, value) in facts(server, why.subject) {
            text.extend(["  ", &format!("{name:<13}"), &one_line(&value, 1000), "\n"]);
        }
        if !why.well {
            text.push_str(&last_words(server));
        }
    }
    if !why.advice.is_empty() {
        text.push_str("what to do\n");
    }
    for (number, advice) in (1_usize..).zip(&why.advice) {
        text.extend(["  ", &number.to_string(), ". ", &one_line(advice, 2000), "\n"]);
    }
    text
}

fn facts(server: &ServerDto, subject: Subject) -> Vec<(&'static str, String)> {
    let mut facts = vec![("state", format!("{} for {}", server.state, span(server.since_ms)))];
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("server", (subject == Subject::Tool).then(|| server.server.clone()));
    fact("group", server.group.clone());
    fact("process", server.pid.map(|pid| format!("pid {pid}")));
    let fault = server.last_fault.as_ref();
    fact("last failure", fault.map(|fault| format!("{}: {}", fault.class, fault.message)));
    fact("last exit", fault.and_then(|fault| fault.exit.clone()));
    fact("failures", (server.failures > 0).then(|| format!("{} in a row", server.failures)));
    fact("restarts", (server.restarts > 0).then(|| server.restarts.to_string()));
    fact("next try", server.next_try_in_ms.map(|ms| format!("in {}", span(ms))));
    fact("given up", server.gives_up_in_ms.map(|ms| format!("in {}, if there is no answer until then", span(ms))));
    facts
}

fn last_words(server: &ServerDto) -> String {
    let tail = server.last_fault.as_ref().map_or("", |fault| fault.stderr_tail.as_str());
    let lines: Vec<&str> = tail.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = "  last words on standard error\n".to_owned();
    for line in &lines[lines.len().saturating_sub(WORDS)..] {
        text.extend(["    | ", &clean(line), "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::FaultDto;
    use crate::http::fake::server;

    #[test]
    fn an_answer_is_a_verdict_what_is_known_and_what_to_do() {
        let fault = FaultDto {
            reason: "exit".to_owned(),
            class: "crash_on_start".to_owned(),
            message: "it ended with exit code 3 during the handshake".to_owned(),
            hint: None,
            exit: Some("exit code 3".to_owned()),
            stderr_tail: (1..=14).map(|line| format!("line {line}\x1b[2J")).collect::<Vec<_>>().join("\n"),
        };
        let server = ServerDto {
            group: Some("tools".to_owned()),
            since_ms: 900,
            failures: 3,
            restarts: 2,
            next_try_in_ms: Some(2_100),
            last_fault: Some(fault),
            ..server("bad", "backoff")
        };
        let why = WhyDto {
            name: "bad".to_owned(),
            subject: Subject::Server,
            well: false,
            verdict: "server 'bad' is down".to_owned(),
            server: Some(server),
            advice: vec!["Read what it said.".to_owned(), "Wait.".to_owned()],
        };
        insta::assert_snapshot!(answer(&why, Style::Plain), @r#"
server 'bad' is down
  state        backoff for 900 ms
  group        tools
  last failure crash_on_start: it ended with exit code 3 during the handshake
  last exit    exit code 3
  failures     3 in a row
  restarts     2
  next try     in 2.1 s
  last words on standard error
    | line 3�[2J
    | line 4�[2J
    | line 5�[2J
    | line 6�[2J
    | line 7�[2J
    | line 8�[2J
    | line 9�[2J
    | line 10�[2J
    | line 11�[2J
    | line 12�[2J
    | line 13�[2J
    | line 14�[2J
what to do
  1. Read what it said.
  2. Wait.
"#);
        let well = WhyDto { well: true, advice: Vec::new(), ..why };
        assert!(!answer(&well, Style::Plain).contains("last words"));
    }
}
