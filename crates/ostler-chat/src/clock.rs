//! The one place of this crate that reads the time. It follows tokio's clock, so that paused time is total.

use std::time::Instant;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
