//! The one place where this room reads time. Follows tokio's clock, so that a paused clock is total.

use std::time::{Instant, SystemTime};

/// Now, by the clock that deadlines use.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, by the wall clock, for events and people.
pub(crate) fn wall() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    SystemTime::now()
}
