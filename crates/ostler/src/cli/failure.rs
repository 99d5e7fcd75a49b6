//! How a command ends: the exit codes, and what is said with them.

use std::io;
use std::process::ExitCode;

use super::house::Complaint;
use crate::http::error::ErrorDto;
use crate::socket::JoinError;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Success = 0,
    /// What was asked for failed: the model, the tool, the call.
    Answer = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// The daemon or the fleet failed.
    Daemon = 3,
    /// Somebody pressed the interrupt key.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What to say; `None` if it was said, or if there is nobody to say it to.
    pub(crate) error: Option<Box<ErrorDto>>,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: Some(Box::new(ErrorDto::new("usage", message))) }
    }

    pub(crate) fn daemon(message: impl Into<String>) -> Self {
        Self { exit: Exit::Daemon, error: Some(Box::new(ErrorDto::new("daemon", message))) }
    }

    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, error: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.error = self.error.map(|error| Box::new(error.with_hint(hint)));
        self
    }
}

impl From<ErrorDto> for Failure {
    /// An error of the fleet, or of the daemon's door.
    fn from(error: ErrorDto) -> Self {
        let exit = match error.code.as_str() {
            "bad_request" | "model_config" => Exit::Usage,
            "forbidden"
            | "unauthorized"
            | "not_found"
            | "method_not_allowed"
            | "unsupported_media_type"
            | "request_timeout"
            | "internal"
            | "daemon"
            | "conversation_lost"
            | "lobby_lost"
            | "lobby_timeout" => Exit::Daemon,
            _ => Exit::Answer,
        };
        Self { exit, error: Some(Box::new(error)) }
    }
}

impl From<io::Error> for Failure {
    /// Our own output cannot be written. A reader who has seen enough is no failure.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Success);
        }
        let error = ErrorDto::new("output", format!("the output cannot be written: {error}"));
        Self { exit: Exit::Answer, error: Some(Box::new(error)) }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let hint = match &error {
            JoinError::NoDaemon(_) => "start one with 'ostler up'",
            JoinError::Foreign { .. } | JoinError::Io { .. } => "choose another with --socket, or add --standalone",
        };
        Self::daemon(error.to_string()).with_hint(hint)
    }
}

impl From<Complaint> for Failure {
    fn from(complaint: Complaint) -> Self {
        match complaint {
            Complaint::Config(text) => Self::usage(text),
            Complaint::Failed(text) => Self::daemon(text),
        }
    }
}
