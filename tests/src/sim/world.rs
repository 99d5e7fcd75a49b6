//! What everybody in a run shares: the clock, the seed, the trace, the book and the word that something is broken.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::book::Book;
use super::dice::Dice;
use super::invariant::{Broken, Invariant};
use super::trace::{Told, Trace};

/// How much happened: a run in which nothing does proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lives that were begun.
    pub starts: u64,
    /// Starts that failed by themselves.
    pub failed_starts: u64,
    /// Lives that ended without being asked to.
    pub deaths: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Calls that ended with a result.
    pub answered: u64,
    /// Calls that ended with the death of their server.
    pub lost: u64,
    /// Calls whose caller left.
    pub dropped: u64,
    /// Orders of the operator.
    pub orders: u64,
    /// Registries that were killed.
    pub registries: u64,
    /// Notices given.
    pub notices: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.starts += other.starts;
        self.failed_starts += other.failed_starts;
        self.deaths += other.deaths;
        self.calls += other.calls;
        self.answered += other.answered;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.orders += other.orders;
        self.registries += other.registries;
        self.notices += other.notices;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} starts ({} failed), {} deaths, {} calls ({} answered, {} lost, {} dropped), {} orders, {} registries killed, {} notices",
            self.starts,
            self.failed_starts,
            self.deaths,
            self.calls,
            self.answered,
            self.lost,
            self.dropped,
            self.orders,
            self.registries,
            self.notices
        )
    }
}

pub(super) struct World {
    seed: u64,
    began: tokio::time::Instant,
    trace: Mutex<Option<Trace>>,
    book: Mutex<Book>,
    broken: watch::Sender<Option<Broken>>,
}

impl World {
    /// An empty world. Needs tokio's clock.
    pub(super) fn new(seed: u64, keep: bool, slots: usize) -> Arc<Self> {
        Arc::new(Self {
            seed,
            began: tokio::time::Instant::now(),
            trace: Mutex::new(Some(Trace::new(keep))),
            book: Mutex::new(Book::new(slots)),
            broken: watch::channel(None).0,
        })
    }

    /// The stream of choices of `what` number `number`.
    pub(super) fn dice(&self, what: &str, number: u64) -> Dice {
        Dice::of(self.seed, what, number)
    }

    /// Adds a line to the trace.
    pub(super) fn say(&self, line: String) {
        let at = self.began.elapsed();
        let at = Duration::from_millis(at.as_millis().try_into().unwrap_or(u64::MAX));
        // Once something is broken, what follows is only the end of the run.
        if self.broken.borrow().is_none()
            && let Some(trace) = &mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner)
        {
            trace.say(at, line);
        }
    }

    /// Reads or writes the book; says so if that shows a broken promise. `about` must not come back here.
    pub(super) fn book<T>(&self, about: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let value = about(&mut book);
        let broken = book.broken.take();
        drop(book);
        if let Some(broken) = broken {
            self.fail(broken);
        }
        value
    }

    pub(super) fn breaks(&self, invariant: Invariant, how: String) {
        self.fail(Broken { invariant, how });
    }

    fn fail(&self, broken: Broken) {
        self.say(format!("=> broken: {broken}"));
        // The first one counts: what follows may come of it.
        self.broken.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(broken);
            }
            is_first
        });
    }

    /// What is broken, if something is.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.borrow().clone()
    }

    /// Resolves when something is broken. Cancel-safe.
    pub(super) async fn until_broken(&self) {
        let mut broken = self.broken.subscribe();
        // The sender lives in here.
        let _ = broken.wait_for(Option::is_some).await;
    }

    /// Ends the trace and gives it away.
    pub(super) fn told(&self) -> Told {
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner).take();
        trace.unwrap_or_else(|| Trace::new(false)).finish()
    }
}

/// Now, by the virtual clock.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
