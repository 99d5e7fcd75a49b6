//! The event log: a bounded ring with sequence numbers. A slow reader misses events and is told how many.
//!
//! It never blocks a writer and holds no reader's state. Streams, notices and answers to "why" all read it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::port::EventSink;
use ostler_core::status::What;
use ostler_core::{Incarnation, ServerEvent, ServerId};
use tokio::sync::watch;

use crate::clock;

/// How many events are kept.
const CAPACITY: usize = 4096;

/// The log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    /// The sequence number of the next event: readers wait on it.
    next: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<ServerEvent>>,
    next: u64,
}

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event.
    Event(Arc<ServerEvent>),
    /// The reader was too slow: this many events are gone.
    Gap {
        /// How many.
        missed: u64,
    },
}

/// A reader's place in the log.
#[derive(Debug)]
pub struct Subscription {
    log: EventLog,
    next: u64,
    changed: watch::Receiver<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        let (next, _) = watch::channel(0);
        Self { inner: Arc::new(Inner { ring: Mutex::default(), next }) }
    }
}

impl EventLog {
    /// Reads everything from now on.
    pub fn subscribe(&self) -> Subscription {
        let changed = self.inner.next.subscribe();
        Subscription { next: self.ring().next, log: self.clone(), changed }
    }

    /// The newest `count` events, oldest first.
    pub fn recent(&self, count: usize) -> Vec<Arc<ServerEvent>> {
        let ring = self.ring();
        let skip = ring.events.len().saturating_sub(count);
        ring.events.iter().skip(skip).cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic between the two lines that write cannot leave the ring in a state worth refusing.
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for EventLog {
    fn emit(&self, server: &ServerId, incarnation: Option<Incarnation>, what: What) {
        let next = {
            let mut ring = self.ring();
            let sequence = ring.next;
            ring.next += 1;
            if ring.events.len() == CAPACITY {
                ring.events.pop_front();
            }
            let event = ServerEvent { sequence, at: clock::wall(), server: server.clone(), incarnation, what };
            ring.events.push_back(Arc::new(event));
            ring.next
        };
        self.inner.next.send_replace(next);
    }
}

impl Subscription {
    /// Waits for the next entry. Cancel-safe.
    pub async fn next(&mut self) -> Entry {
        loop {
            if let Some(entry) = self.try_next() {
                return entry;
            }
            // The sender lives in the log that this subscription holds.
            self.changed.changed().await.expect("the log outlives its subscriptions");
        }
    }

    /// The next entry, if there is one now.
    pub fn try_next(&mut self) -> Option<Entry> {
        self.changed.borrow_and_update();
        let ring = self.log.ring();
        let oldest = ring.next - u64::try_from(ring.events.len()).expect("the ring is small");
        if self.next < oldest {
            let missed = oldest - self.next;
            self.next = oldest;
            return Some(Entry::Gap { missed });
        }
        let index = usize::try_from(self.next - oldest).expect("the ring is small");
        let event = Arc::clone(ring.events.get(index)?);
        self.next += 1;
        Some(Entry::Event(event))
    }
}

#[cfg(test)]
mod tests {
    use ostler_core::status::Notice;

    use super::*;

    fn emit(log: &EventLog) {
        let server = ServerId::new("math").expect("an id");
        log.emit(&server, None, What::Notice(Notice::Recovered));
    }

    fn sequence(entry: &Entry) -> Option<u64> {
        match entry {
            Entry::Event(event) => Some(event.sequence),
            Entry::Gap { .. } => None,
        }
    }

    #[tokio::test]
    async fn a_reader_gets_every_event_in_order() {
        let log = EventLog::default();
        emit(&log);
        let mut reader = log.subscribe();
        emit(&log);
        emit(&log);
        assert_eq!(sequence(&reader.next().await), Some(1));
        assert_eq!(sequence(&reader.next().await), Some(2));
        assert!(reader.try_next().is_none());
        assert_eq!(log.recent(2).len(), 2);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let log = EventLog::default();
        let mut reader = log.subscribe();
        for _ in 0..CAPACITY + 5 {
            emit(&log);
        }
        let Entry::Gap { missed } = reader.next().await else { panic!("a gap comes first") };
        assert_eq!(missed, 5);
        assert_eq!(sequence(&reader.next().await), Some(5));
    }
}
