//! The clock of this crate: the only place that reads the time.

use std::time::{Duration, Instant, SystemTime};

/// Now, by tokio's clock; outside a runtime, by the system's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time since 1970 by the wall clock: for names that are never used again, not for measuring.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
