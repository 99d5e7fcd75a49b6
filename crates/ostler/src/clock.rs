//! The only place of this crate that reads time, so that a paused tokio clock is the whole truth in tests.

use std::time::Instant;

/// What time it is for deadlines.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
