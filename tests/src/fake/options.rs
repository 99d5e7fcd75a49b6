//! The behaviours of the fake server: one table from which parsing, checking and `--help` follow.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What a behaviour takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Number(&'static str),
    Text(&'static str),
}

use Takes::{Nothing, Number, Text};

/// Name, what it takes, what it does. The names are the whole interface; all of them combine.
const BEHAVIOURS: &[(&str, Takes, &str)] = &[
    ("help", Nothing, "print this and leave"),
    ("era", Text("ERA"), "legacy (default: initialize, up to 2025-11-25), 2024-11-05, or modern (2026-07-28)"),
    ("record", Text("FILE"), "append every byte that the client sends to FILE"),
    ("pids", Text("FILE"), "append a line with the pid of this process, and of its grandchild, to FILE"),
    ("stderr", Number("LINES"), "write so many lines to standard error at the start"),
    ("product", Number("N"), "multiply answers N, whatever the factors are"),
    ("start-delay-ms", Number("MS"), "wait before the first byte is read"),
    ("cpu-ms", Number("MS"), "burn processor time before the first byte is read"),
    ("crash-at-start", Number("CODE"), "say something on standard error and exit with CODE at once"),
    ("hang-initialize", Nothing, "never answer initialize and server/discover"),
    ("die-on-unknown", Nothing, "leave an unknown request unanswered and exit at the message after it"),
    ("crash-on-call", Number("N"), "exit when call N arrives, without an answer"),
    ("exit-code", Number("CODE"), "the exit code of crash-on-call (default 1)"),
    ("on-call", Number("N"), "the call at which the next five happen (default 1)"),
    ("close-stdout", Nothing, "close standard output instead of answering, and live on"),
    ("close-stdin", Nothing, "answer, close standard input, and live on"),
    ("garbage", Number("LINES"), "write so many lines that are not JSON, then the answer"),
    ("broken", Nothing, "answer with half a JSON object"),
    ("oversize", Number("BYTES"), "answer with a text of so many bytes"),
    ("once", Text("FILE"), "what is bound to a call happens only if FILE does not exist; it is created"),
    ("ignore-sigterm", Nothing, "block SIGTERM"),
    ("ignore-eof", Nothing, "live on when standard input ends"),
    ("grandchild", Nothing, "start a 'sleep' that holds standard output"),
    (
        "daemonise",
        Text("FILE"),
        "start a daemon in a session of its own, orphaned, deaf to SIGTERM; its pid goes to FILE",
    ),
    ("flood", Number("N"), "send N notifications of three kinds before each answer to a call"),
    ("list-changed", Nothing, "each call adds a tool and announces the change before the answer"),
    ("progress", Nothing, "send three progress notifications before each answer, if a token was given"),
    ("wrong-id", Nothing, "send an answer to a request that nobody made before each answer to a call"),
    ("duplicate", Nothing, "send each answer to a call twice"),
    ("nonce", Nothing, "put the argument 'nonce' of a call into its answer"),
    ("name", Text("NAME"), "put NAME into each answer to a call"),
    ("executed", Text("FILE"), "append the argument 'nonce' of each call that arrives to FILE, a line each"),
    (
        "orders",
        Text("SOCKET"),
        "obey datagrams at SOCKET: hang, garbage, oversize, exit, daemonise, close-stdout, flood",
    ),
    ("slow-once", Text("FILE"), "wait as many milliseconds as FILE says before the first byte is read, and remove it"),
    ("more-tools", Number("N"), "list so many tools more"),
    ("bad-tool", Nothing, "list three malformed tools among the good ones"),
    ("daemon-stage", Text("FILE"), "for the server's own use: on the way to the daemon"),
    ("daemon", Text("FILE"), "for the server's own use: the daemon itself"),
];

/// What one run of the server was asked to do.
#[derive(Debug, Default)]
pub(super) struct Options {
    given: BTreeMap<&'static str, String>,
}

impl Options {
    /// Reads `--name value` and `--name=value`. Errors: the first thing that is not in the table.
    pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.strip_prefix("--") else {
                return Err(format!("'{argument}' is not a behaviour"));
            };
            let (name, inline) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            let Some((name, takes, _)) = BEHAVIOURS.iter().find(|(known, ..)| *known == name) else {
                return Err(format!("there is no behaviour '--{name}'"));
            };
            let value = match takes {
                Nothing if inline.is_some() => return Err(format!("--{name} takes no value")),
                Nothing => String::new(),
                Number(_) | Text(_) => {
                    inline.or_else(|| arguments.next()).ok_or_else(|| format!("--{name} needs a value"))?
                }
            };
            if matches!(takes, Number(_)) && value.parse::<u64>().is_err() {
                return Err(format!("--{name} needs a number, not '{value}'"));
            }
            if *name == "era" && !["legacy", "2024-11-05", "modern"].contains(&value.as_str()) {
                return Err(format!("--era knows legacy, 2024-11-05 and modern, not '{value}'"));
            }
            options.given.insert(name, value);
        }
        Ok(options)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        debug_assert!(BEHAVIOURS.iter().any(|(known, ..)| *known == name), "{name} is not in the table");
        self.given.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(BEHAVIOURS.iter().any(|(known, ..)| *known == name), "{name} is not in the table");
        self.given.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).map(|value| value.parse().expect("numbers were checked when they were read"))
    }

    pub(super) fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    pub(super) fn exit_code(&self, name: &str) -> Option<i32> {
        self.number(name).map(|code| i32::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }
}

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "fake_server: an MCP server over stdio that misbehaves as told.\n\
         Tools: echo, multiply, save, recall, slow, pid, env. Without arguments all is well.\n\n",
    );
    for (name, takes, what) in BEHAVIOURS {
        let usage = match takes {
            Nothing => format!("--{name}"),
            Number(value) | Text(value) => format!("--{name} {value}"),
        };
        writeln!(text, "  {usage:<24} {what}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn behaviours_combine_and_take_their_value_in_both_forms() {
        let options = parse("--era modern --flood=10 --ignore-eof").expect("all of these are in the table");
        assert_eq!((options.text("era"), options.number("flood")), (Some("modern"), Some(10)));
        assert!(options.has("ignore-eof") && !options.has("garbage"));
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_with_its_name() {
        let check = |line: &str, complaint: &str| {
            assert_eq!(parse(line).expect_err("it must be refused"), complaint, "{line}");
        };
        check("echo", "'echo' is not a behaviour");
        check("--floods 3", "there is no behaviour '--floods'");
        check("--flood", "--flood needs a value");
        check("--flood many", "--flood needs a number, not 'many'");
        check("--ignore-eof=yes", "--ignore-eof takes no value");
        check("--era roman", "--era knows legacy, 2024-11-05 and modern, not 'roman'");
    }

    #[test]
    fn the_help_names_every_behaviour() {
        let help = help();
        for (name, ..) in BEHAVIOURS {
            assert!(help.contains(&format!("--{name}")), "{name} is missing");
        }
    }
}
