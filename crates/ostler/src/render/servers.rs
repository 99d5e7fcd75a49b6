//! The table of servers, and everything that is known of one.

use super::text::{clean, one_line, span};
use super::{Paint, Style};
use crate::http::dto::ServerDto;

const HEADER: [&str; 8] = ["NAME", "STATE", "TOOLS", "PID", "INC.", "UPTIME", "RESTARTS", "NEXT TRY / WHY"];

/// The longest reason in the table; `ostler why` has all of it.
const WHY: usize = 160;

/// Whether the server can be called.
pub(crate) fn is_up(server: &ServerDto) -> bool {
    matches!(server.state.as_str(), "ready" | "degraded" | "idle")
}

/// One row a server, in the given order.
pub(crate) fn table(servers: &[ServerDto], style: Style) -> String {
    let mut lines = style.table(&HEADER, servers.iter().map(row)).into_iter();
    let mut text = String::new();
    if let Some(header) = lines.next() {
        text.push_str(&style.paint(Paint::Faint, &header));
        text.push('\n');
    }
    let mut rows = servers.iter().peekable();
    for line in lines {
        // A row can go on for several lines; its first has the name and the state.
        let begins = rows.peek().filter(|server| line.split_whitespace().take(2).eq([&*server.server, &*server.state]));
        match begins {
            Some(server) => text.push_str(&painted(&line, server, style)),
            None => text.push_str(&line),
        }
        if begins.is_some() {
            rows.next();
        }
        text.push('\n');
    }
    text
}

fn painted(line: &str, server: &ServerDto, style: Style) -> String {
    let paint = match server.state.as_str() {
        "ready" => Paint::Good,
        "degraded" | "starting" | "queued" | "stopping" | "backoff" => Paint::Wait,
        "quarantined" | "needs_action" => Paint::Bad,
        _ => Paint::Faint,
    };
    let (name, rest) = line.split_at(server.server.len());
    format!("{name}{}", rest.replacen(&server.state, &style.paint(paint, &server.state), 1))
}

fn row(server: &ServerDto) -> Vec<String> {
    let dash = || "-".to_owned();
    let uptime = matches!(server.state.as_str(), "ready" | "degraded").then(|| span(server.since_ms));
    let tools = if is_up(server) || server.tools > 0 { server.tools.to_string() } else { dash() };
    vec![
        server.server.clone(),
        server.state.clone(),
        tools,
        server.pid.map_or_else(dash, |pid| pid.to_string()),
        server.incarnation.map_or_else(dash, |incarnation| incarnation.to_string()),
        uptime.unwrap_or_else(dash),
        server.restarts.to_string(),
        why(server),
    ]
}

/// When it is tried again, and why it is down. A server that is up has neither.
fn why(server: &ServerDto) -> String {
    if is_up(server) {
        return "-".to_owned();
    }
    if server.state == "stopped" {
        return format!("stopped by a person; start it with `ostler start {}`", server.server);
    }
    if server.state == "queued" && server.next_try_in_ms.is_none() {
        return "waits for its turn to start".to_owned();
    }
    let next = match (server.next_try_in_ms, server.gives_up_in_ms) {
        (Some(ms), _) => Some(format!("in {}", span(ms))),
        (None, Some(ms)) => Some(format!("no answer for {} yet, given up in {}", span(server.since_ms), span(ms))),
        (None, None) => None,
    };
    let fault = server.last_fault.as_ref().map(|fault| match &fault.hint {
        Some(hint) => format!("{}; {hint}", fault.message),
        None => fault.message.clone(),
    });
    match (next, fault) {
        (None, None) => "-".to_owned(),
        (Some(next), None) => next,
        (None, Some(fault)) => one_line(&fault, WHY),
        (Some(next), Some(fault)) => format!("{next}: {}", one_line(&fault, WHY)),
    }
}

/// Everything that is known of a server, one fact a line.
pub(crate) fn details(server: &ServerDto) -> String {
    let mut facts: Vec<(&str, String)> = Vec::new();
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact(
        "tools",
        Some(match server.refused_tools {
            0 => server.tools.to_string(),
            refused => format!("{} ({refused} refused)", server.tools),
        }),
    );
    fact("process", server.pid.map(|pid| format!("pid {pid}")));
    fact("incarnation", server.incarnation.map(|number| format!("{number} ({} restarts)", server.restarts)));
    fact("failures", (server.failures > 0).then(|| format!("{} in a row", server.failures)));
    fact("next try", server.next_try_in_ms.map(|ms| format!("in {}", span(ms))));
    fact("given up", server.gives_up_in_ms.map(|ms| format!("in {}, if there is no answer until then", span(ms))));
    fact(
        "revision",
        server.revision.as_ref().map(|revision| match &server.transport {
            Some(transport) => format!("{revision} over {transport}"),
            None => revision.clone(),
        }),
    );
    fact(
        "server",
        server.server_name.as_ref().map(|name| match &server.server_version {
            Some(version) => format!("{name} {version}"),
            None => name.clone(),
        }),
    );
    fact("capabilities", server.capabilities.as_ref().map(|raw| one_line(raw.get(), 1000)));
    if let Some(fault) = &server.last_fault {
        let exit = fault.exit.as_ref().map_or(String::new(), |exit| format!(", {exit}"));
        fact("last end", Some(format!("{} ({}{exit})", fault.message, fault.reason)));
        fact("hint", fault.hint.clone());
    }
    let mut text = format!("{}  {} for {}\n", server.server, server.state, span(server.since_ms));
    for (name, value) in facts {
        text.extend(["  ", &format!("{name:<13}"), &one_line(&value, 1000), "\n"]);
    }
    if let Some(fault) = server.last_fault.as_ref().filter(|fault| !fault.stderr_tail.is_empty()) {
        text.push_str("  last words on standard error\n");
        for line in clean(&fault.stderr_tail).lines() {
            text.extend(["    | ", line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::FaultDto;
    use crate::http::fake::{raw, server};
    use crate::render::Colour;

    fn fleet() -> Vec<ServerDto> {
        let fault = FaultDto {
            reason: "config".to_owned(),
            class: "not_found".to_owned(),
            message: "command not found: nosuch".to_owned(),
            hint: Some("check the path in ostler.toml".to_owned()),
            exit: None,
            stderr_tail: "first\n\x1b[2Jsecond".to_owned(),
        };
        vec![
            ServerDto {
                since_ms: 192_000,
                pid: Some(4711),
                tools: 2,
                refused_tools: 1,
                transport: Some("stdio".to_owned()),
                revision: Some("2025-11-25".to_owned()),
                server_name: Some("demo".to_owned()),
                server_version: Some("1.0".to_owned()),
                capabilities: Some(raw(r#"{"tools":{}}"#)),
                ..server("math", "ready")
            },
            ServerDto {
                incarnation: Some(3),
                failures: 2,
                restarts: 2,
                next_try_in_ms: Some(2_100),
                last_fault: Some(fault),
                ..server("bad", "backoff")
            },
            ServerDto { since_ms: 4_000, gives_up_in_ms: Some(26_000), ..server("slow", "starting") },
            ServerDto { incarnation: None, ..server("off", "disabled") },
        ]
    }

    #[test]
    fn in_a_pipe_a_row_is_a_plain_line() {
        insta::assert_snapshot!(table(&fleet(), Style::Plain), @r#"
NAME  STATE     TOOLS  PID   INC.  UPTIME    RESTARTS  NEXT TRY / WHY
math  ready     2      4711  1     3 m 12 s  0         -
bad   backoff   -      -     3     -         2         in 2.1 s: command not found: nosuch; check the path in ostler.toml
slow  starting  -      -     1     -         0         no answer for 4.0 s yet, given up in 26.0 s
off   disabled  -      -     -     -         0         -
"#);
    }

    #[test]
    fn a_terminal_has_coloured_states_and_wraps_the_reason_alone() {
        let style = Style::Terminal { width: Some(80), colour: Colour::On };
        insta::assert_snapshot!(table(&fleet(), style).replace('\x1b', "^"), @r#"
^[2mNAME  STATE     TOOLS  PID   INC.  UPTIME    RESTARTS  NEXT TRY / WHY^[0m
math  ^[32mready^[0m     2      4711  1     3 m 12 s  0         -
bad   ^[33mbackoff^[0m   -      -     3     -         2         in 2.1 s: command not
                                                       found: nosuch; check
                                                       the path in ostler.toml
slow  ^[33mstarting^[0m  -      -     1     -         0         no answer for 4.0 s
                                                       yet, given up in 26.0 s
off   ^[2mdisabled^[0m  -      -     -     -         0         -
"#);
    }

    #[test]
    fn the_details_have_all_that_is_known_and_nothing_that_moves_the_cursor() {
        let all: String = fleet().iter().map(details).collect();
        insta::assert_snapshot!(all, @r#"
math  ready for 3 m 12 s
  tools        2 (1 refused)
  process      pid 4711
  incarnation  1 (0 restarts)
  revision     2025-11-25 over stdio
  server       demo 1.0
  capabilities {"tools":{}}
bad  backoff for 0 ms
  tools        0
  incarnation  3 (2 restarts)
  failures     2 in a row
  next try     in 2.1 s
  last end     command not found: nosuch (config)
  hint         check the path in ostler.toml
  last words on standard error
    | first
    | �[2Jsecond
slow  starting for 4.0 s
  tools        0
  incarnation  1 (0 restarts)
  given up     in 26.0 s, if there is no answer until then
off  disabled for 0 ms
  tools        0
"#);
    }

    #[test]
    fn a_hundred_servers_are_a_hundred_lines() {
        let fleet: Vec<_> = (0..100).map(|number| server(&format!("server-{number}"), "ready")).collect();
        assert_eq!(table(&fleet, Style::Plain).lines().count(), 101);
    }
}
