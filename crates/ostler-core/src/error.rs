//! How a call can fail. One enum for the whole way, with stable codes.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::status::ServerState;

/// Why a call has no result. A result with `isError` is not here: it is a result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No tool has this name.
    #[error("no tool is called '{name}'{hint}")]
    UnknownTool {
        /// The name asked for.
        name: String,
        /// Empty, or what to do, from a semicolon on.
        hint: String,
    },
    /// A policy forbids the call.
    #[error("the call is not allowed: {why}")]
    Denied {
        /// Which policy.
        why: String,
    },
    /// Too many calls already wait for this server.
    #[error("server '{server}' has too many calls waiting; try again later")]
    Overloaded {
        /// Which server.
        server: String,
    },
    /// The server is down; nothing was sent.
    #[error("{}", down(.server, *.state, .why.as_deref(), *.retry_after))]
    Unavailable {
        /// Which server.
        server: String,
        /// Its state.
        state: ServerState,
        /// What put it there, with advice if there is some.
        why: Option<String>,
        /// When a try makes sense, if that is known.
        retry_after: Option<Duration>,
    },
    /// The deadline passed. The server was told to stop; it may have finished all the same.
    #[error("no answer within {} ms; the call may have run", .after.as_millis())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The caller gave up.
    #[error("the call was cancelled")]
    Cancelled,
    /// The server died with the call in flight.
    #[error("the server was lost: {why}{}", may_have(*.may_have_run))]
    ServerLost {
        /// What happened to it.
        why: String,
        /// Whether the request had been written.
        may_have_run: bool,
    },
    /// The server's answer breaks the protocol.
    #[error("the server broke the protocol: {why}")]
    Protocol {
        /// How.
        why: String,
    },
    /// The server answered with a JSON-RPC error.
    #[error("the server says: {message} (code {code})")]
    Remote {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
        /// Its data, byte for byte.
        data: Option<Box<RawValue>>,
    },
}

fn down(server: &str, state: ServerState, why: Option<&str>, retry_after: Option<Duration>) -> String {
    let what = match state {
        ServerState::Disabled => format!("server '{server}' is disabled in the configuration"),
        ServerState::Stopped => format!("server '{server}' was stopped; start it with `ostler start {server}`"),
        ServerState::NeedsAction => format!("server '{server}' cannot run until somebody acts"),
        ServerState::Queued => format!("server '{server}' waits for its turn to start"),
        ServerState::Starting => format!("server '{server}' is starting"),
        ServerState::Stopping => format!("server '{server}' is being stopped"),
        ServerState::Backoff => format!("server '{server}' is down and will be restarted"),
        ServerState::Quarantined => format!("server '{server}' failed too often and is only tried now and then"),
        ServerState::Idle | ServerState::Ready | ServerState::Degraded => format!("server '{server}' is {state}"),
    };
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let again = retry_after.map_or(String::new(), |after| format!("; try again in {:.1} s", after.as_secs_f64()));
    what + &why + &again
}

fn may_have(run: bool) -> &'static str {
    if run { "; the call may have run" } else { "; the call was not sent" }
}

impl CallError {
    /// The stable code, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTool { .. } => "unknown_tool",
            Self::Denied { .. } => "denied",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled => "cancelled",
            Self::ServerLost { .. } => "server_lost",
            Self::Protocol { .. } => "protocol",
            Self::Remote { .. } => "remote",
        }
    }

    /// The `outcome` label of the call's metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::UnknownTool { .. } | Self::Denied { .. } | Self::Overloaded { .. } => "rejected",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut { .. } => "timeout",
            Self::Cancelled => "cancelled",
            Self::ServerLost { .. } => "lost",
            Self::Protocol { .. } | Self::Remote { .. } => "error",
        }
    }

    /// The JSON-RPC code that a gateway answers with. `None`: a cancelled call gets no answer.
    pub fn json_rpc_code(&self) -> Option<i64> {
        match self {
            Self::UnknownTool { .. } => Some(-32602),
            Self::Denied { .. } => Some(-32014),
            Self::Overloaded { .. } => Some(-32011),
            Self::Unavailable { .. } => Some(-32010),
            Self::TimedOut { .. } => Some(-32013),
            Self::Cancelled => None,
            Self::ServerLost { .. } => Some(-32012),
            Self::Protocol { .. } => Some(-32015),
            Self::Remote { code, .. } => Some(*code),
        }
    }

    /// Whether the tool may have run. If not, the call can be made again without harm.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::UnknownTool { .. } | Self::Denied { .. } | Self::Overloaded { .. } | Self::Unavailable { .. } => {
                false
            }
            Self::TimedOut { .. } | Self::Cancelled | Self::Protocol { .. } | Self::Remote { .. } => true,
            Self::ServerLost { may_have_run, .. } => *may_have_run,
        }
    }

    /// When a new try makes sense, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::UnknownTool { .. }
            | Self::Denied { .. }
            | Self::Overloaded { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled
            | Self::ServerLost { .. }
            | Self::Protocol { .. }
            | Self::Remote { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_server_says_why_and_what_to_do() {
        let check = |state, why: Option<&str>, retry_after, text: &str| {
            let server = "math".to_owned();
            let error = CallError::Unavailable { server, state, why: why.map(str::to_owned), retry_after };
            assert_eq!(error.to_string(), text);
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        check(
            ServerState::Backoff,
            Some("it ended with exit code 3"),
            seconds(2),
            "server 'math' is down and will be restarted: it ended with exit code 3; try again in 2.0 s",
        );
        check(ServerState::Stopped, None, None, "server 'math' was stopped; start it with `ostler start math`");
        check(ServerState::Disabled, None, None, "server 'math' is disabled in the configuration");
    }
}
