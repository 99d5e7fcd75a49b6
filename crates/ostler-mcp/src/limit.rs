//! The bounds of a session: what one server may make us hold, read or wait for.

use std::time::Duration;

/// The largest cap on one frame that a configuration can ask for, in bytes.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// The bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line that is read, in bytes. More than [`MAX_FRAME_BYTES`] counts as that.
    pub frame_bytes: usize,
    /// How many requests can wait for an answer at once.
    pub pending: usize,
    /// A server that takes no byte of a waiting write for this long counts as hung.
    pub write_stall: Duration,
    /// How long the era probe may stay unanswered before `initialize` is sent too.
    pub probe_window: Duration,
    /// How long one listing with all its pages may take.
    pub list_window: Duration,
    /// How many pages of one list are read.
    pub pages: usize,
    /// How many items of one list are read.
    pub items: usize,
    /// How many bytes of one list are kept.
    pub list_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 4 << 20,
            pending: 4096,
            write_stall: Duration::from_secs(30),
            probe_window: Duration::from_secs(3),
            list_window: Duration::from_secs(30),
            pages: 1_000,
            items: 10_000,
            list_bytes: 32 << 20,
        }
    }
}

impl Limits {
    /// The cap on one frame that is in force.
    pub(crate) fn frame_cap(&self) -> usize {
        self.frame_bytes.min(MAX_FRAME_BYTES)
    }
}
