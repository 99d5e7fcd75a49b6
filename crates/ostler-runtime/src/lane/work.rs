//! What one incarnation works on, and whether that explains that it says nothing: busy is not hung.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The calls in flight at one incarnation. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// When each call in flight began.
    begun: BTreeMap<u64, Instant>,
    /// When the oldest call began that has run out of its time since the server last spoke.
    expired: Option<Instant>,
}

/// One call in flight.
#[derive(Debug)]
pub(crate) struct Call {
    work: Work,
    number: u64,
    begun: Instant,
}

impl Work {
    pub(crate) fn begin(&self, now: Instant) -> Call {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        inner.begun.insert(number, now);
        drop(inner);
        Call { work: self.clone(), number, begun: now }
    }

    /// Whether calls within their deadlines explain that the server says nothing.
    ///
    /// A call that began after one that has run out of its time explains nothing: the server did not say a word to that
    /// one either. So constant traffic does not hide a server that hangs, and one long call still keeps it alive.
    pub(crate) fn explains_silence(&self) -> bool {
        let inner = self.inner();
        inner.begun.values().any(|begun| inner.expired.is_none_or(|expired| *begun <= expired))
    }

    /// The server has spoken: what went before is forgiven.
    pub(crate) fn forgive(&self) {
        self.inner().expired = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// It has run out of its time.
    pub(crate) fn expire(&self) {
        let mut inner = self.work.inner();
        inner.expired = Some(inner.expired.map_or(self.begun, |expired| expired.min(self.begun)));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.work.inner().begun.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn only_calls_that_are_older_than_an_expired_one_explain_silence() {
        let (work, now) = (Work::default(), clock::now());
        assert!(!work.explains_silence(), "nobody calls");
        let long = work.begin(now);
        let short = work.begin(now + Duration::from_secs(1));
        assert!(work.explains_silence());
        short.expire();
        drop(short);
        assert!(work.explains_silence(), "the long one may be what it works on");
        let later = work.begin(now + Duration::from_secs(2));
        drop(long);
        assert!(!work.explains_silence(), "it has not answered the one before either");
        work.forgive();
        assert!(work.explains_silence());
        drop(later);
        assert!(!work.explains_silence());
    }
}
