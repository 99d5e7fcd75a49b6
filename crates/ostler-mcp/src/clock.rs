//! The one place of this crate that reads time, so that a paused clock is paused for everything.

use std::time::Instant;

/// The time by the executor's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
