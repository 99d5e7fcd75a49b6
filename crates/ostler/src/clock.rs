//! The only place of this crate that reads time, so that a paused tokio clock is the whole truth in tests.

use std::time::Instant;
#[cfg(feature = "http")]
use std::time::SystemTime;

/// What time it is for deadlines.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What time it is for people and for what is remembered. Can jump.
#[cfg(feature = "http")]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
