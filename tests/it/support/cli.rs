//! Runs one command of the binary under test to its end and keeps what it printed.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::home::Home;

/// Longer than any command may take, so that a hang fails the test and not the whole run.
const LIMIT: Duration = Duration::from_mins(1);

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// Runs `ostler` with `arguments`, and with this home's configuration if it has one.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.ostler();
        command.args(arguments).args(self.config());
        run(command).await
    }
}

/// Runs a prepared command to its end.
pub(crate) async fn run(mut command: Command) -> Ran {
    let running = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = timeout(LIMIT, running).await.expect("the command ends in time").expect("the command starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

impl Ran {
    /// The same, after checking that it ended well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The same, after checking that it ended with an error.
    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "{self:#?}");
        self
    }

    /// Checks that standard output says all of `parts`.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "'{part}' is missing in {self:#?}");
        }
        self
    }

    /// Both streams, for what may be said in either.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|why| panic!("{why} in {self:#?}"))
    }
}
