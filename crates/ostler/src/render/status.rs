//! The head of `ostler status`: one line about all, and what is wrong with the configuration.

use std::collections::BTreeMap;

use ostler_core::ServerState;

use super::text::{count, one_line, span};
use super::{Paint, Style};
use crate::http::dto::{ServerDto, StatusDto};

/// How many problems of a refused configuration are shown.
const PROBLEMS: usize = 5;

/// `12 servers: 10 ready, 1 backoff, 1 needs action; 47 tools; up 3 h 2 m`, and below it what a person must know.
pub(crate) fn head(status: &StatusDto, servers: &[ServerDto], style: Style) -> String {
    let mut states: BTreeMap<usize, (&str, usize)> = BTreeMap::new();
    for server in servers {
        states.entry(rank(&server.state)).or_insert((&server.state, 0)).1 += 1;
    }
    let states: Vec<String> =
        states.values().map(|(state, number)| format!("{number} {}", state.replace('_', " "))).collect();
    let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    let tools = servers.iter().map(|server| server.tools).sum();
    let mut text = format!(
        "{}{states}; {}; up {}\n",
        count(servers.len(), "server"),
        count(tools, "tool"),
        span(status.uptime_ms)
    );
    if let Some(refused) = &status.reload.refused {
        let line = "the newest configuration is wrong; the one before it is in use:";
        text.extend([&style.paint(Paint::Bad, line), "\n"]);
        for problem in refused.lines().take(PROBLEMS) {
            text.extend(["  ", &one_line(problem, 1000), "\n"]);
        }
        let more = refused.lines().count().saturating_sub(PROBLEMS);
        if more > 0 {
            text.extend(["  and ", &more.to_string(), " more; 'ostler check' has all\n"]);
        }
    }
    if !status.reload.waiting.is_empty() {
        text.extend([&style.paint(Paint::Wait, "not in use before the daemon is started again:"), "\n"]);
        for change in &status.reload.waiting {
            text.extend(["  ", &one_line(change, 1000), "\n"]);
        }
    }
    text
}

/// Well ones first, then in the order of a life.
fn rank(state: &str) -> usize {
    if state == ServerState::Ready.as_str() {
        return 0;
    }
    1 + ServerState::ALL.iter().position(|known| known.as_str() == state).unwrap_or(ServerState::ALL.len())
}

/// The same text over the one that a terminal shows now, without a moment of nothing between.
pub(crate) fn redraw(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::backend::Backend;
    use crate::http::dto::ReloadDto;
    use crate::http::fake::{Fake, server};

    fn status(reload: ReloadDto) -> StatusDto {
        StatusDto { uptime_ms: 10_900_000, reload, ..Fake::new().status() }
    }

    #[test]
    fn the_whole_fleet_is_one_line() {
        let mut fleet = vec![server("a", "needs_action"), server("b", "backoff")];
        fleet.extend((0..10).map(|number| ServerDto { tools: 4, ..server(&format!("s{number}"), "ready") }));
        let head = head(&status(ReloadDto::default()), &fleet, Style::Plain);
        assert_eq!(head, "12 servers: 10 ready, 1 backoff, 1 needs action; 40 tools; up 3 h 1 m\n");
        let none = super::head(&status(ReloadDto::default()), &[], Style::Plain);
        assert_eq!(none, "0 servers; 0 tools; up 3 h 1 m\n");
    }

    #[test]
    fn a_configuration_that_is_not_in_use_is_told() {
        let reload = ReloadDto {
            refused: Some((1..=6).map(|line| format!("ostler.toml:{line}: wrong")).collect::<Vec<_>>().join("\n")),
            waiting: vec!["daemon.ops off -> 127.0.0.1:9999".to_owned()],
        };
        insta::assert_snapshot!(head(&status(reload), &[server("a", "ready")], Style::Plain), @r#"
1 server: 1 ready; 0 tools; up 3 h 1 m
the newest configuration is wrong; the one before it is in use:
  ostler.toml:1: wrong
  ostler.toml:2: wrong
  ostler.toml:3: wrong
  ostler.toml:4: wrong
  ostler.toml:5: wrong
  and 1 more; 'ostler check' has all
not in use before the daemon is started again:
  daemon.ops off -> 127.0.0.1:9999
"#);
    }

    #[test]
    fn a_frame_clears_what_was_behind_and_below_it() {
        assert_eq!(redraw("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
