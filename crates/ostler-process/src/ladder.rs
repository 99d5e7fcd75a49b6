//! The stop ladder: how long each step of an asked stop may take. Climbing it is [`Child::stop`](crate::Child::stop).

use std::time::Duration;

/// The waits of a stop that we ask for. A spontaneous end knows no ladder: the rest is killed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// From the closed stdin to SIGTERM.
    pub eof: Duration,
    /// From SIGTERM to SIGKILL.
    pub term: Duration,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { eof: Duration::from_secs(2), term: Duration::from_secs(3) }
    }
}
