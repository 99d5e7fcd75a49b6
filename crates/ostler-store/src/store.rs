//! The store: callers push into a queue, one thread empties it into the database.
//!
//! Whoever writes or reads takes the database first and the queue second, so a batch that was taken is written before
//! anybody else sees the queue without it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ostler_core::id::ServerId;
use ostler_core::memory::{Consent, ServerMemory, Spawned};
use ostler_core::port::{Ledger, Store};

use crate::database::{Database, Failure};
use crate::error::OpenError;
use crate::open::{self, Held};
use crate::queue::{Change, MAX_LISTING, Queue, Taken};

/// How long the end may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How long the writer waits after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// What survives us, in `ostler.db` below one folder.
///
/// `remember`, `forget`, `spawned` and `gone` push into a bounded queue and return; of each server and of each process
/// the newest is written, at once if the disk is free. `consent` and `leftovers` answer from memory. `servers` and
/// `approve` **block on the disk**: in async code they belong into `spawn_blocking`.
///
/// Dropping the last handle closes the store as [`SqliteStore::close`] does.
pub struct SqliteStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// `None` once it is closed.
    held: Mutex<Option<Held>>,
    inbox: Mutex<Inbox>,
    /// The writer waits here for work and for the end.
    work: Condvar,
    /// Whoever closes waits here for the writer.
    ended: Condvar,
    consents: Mutex<BTreeMap<ServerId, Consent>>,
    leftovers: Mutex<Vec<Spawned>>,
}

struct Inbox {
    queue: Queue,
    stage: Stage,
    /// Whether it was said that the queue is full.
    is_overflow_told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Closing,
    Ended,
}

impl SqliteStore {
    /// Opens the store in `folder`, which is made if it is missing. A broken database is moved aside, with a warning.
    /// Blocks on the disk. Errors: another process has it, a newer version of ours wrote it, or the folder is no good.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let held = open::open(folder)?;
        let failed = |source: Failure| OpenError::Database { path: folder.to_owned(), source: Box::new(source) };
        let consents = held.database.consents().map_err(failed)?;
        let leftovers = held.database.processes().map_err(failed)?;
        let shared = Arc::new(Shared {
            held: Mutex::new(Some(held)),
            inbox: Mutex::new(Inbox { queue: Queue::default(), stage: Stage::Open, is_overflow_told: false }),
            work: Condvar::new(),
            ended: Condvar::new(),
            consents: Mutex::new(consents.into_iter().map(|consent| (consent.server.clone(), consent)).collect()),
            leftovers: Mutex::new(leftovers),
        });
        let for_writer = Arc::clone(&shared);
        let writer = thread::Builder::new().name("ostler-store".to_owned()).spawn(move || for_writer.run());
        let writer = writer.map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// Writes what waits and gives the file back, within 2 s; if the disk takes longer, a warning says so. What is
    /// pushed afterwards is lost. Blocks. Closing twice is harmless.
    pub fn close(&self) {
        let mut inbox = self.shared.inbox();
        if inbox.stage == Stage::Open {
            inbox.stage = Stage::Closing;
        }
        self.shared.work.notify_one();
        let ended = self.shared.ended.wait_timeout_while(inbox, CLOSE, |inbox| inbox.stage != Stage::Ended);
        let (inbox, timeout) = ended.unwrap_or_else(PoisonError::into_inner);
        let (stage, waiting) = (inbox.stage, inbox.queue.len());
        drop(inbox);
        if timeout.timed_out() && stage != Stage::Ended {
            tracing::warn!(waiting, "the store does not come to its end in time and is left alone");
            return;
        }
        if let Some(writer) = lock(&self.writer).take() {
            // If it panicked, that was printed, and there is nothing to be done about it here.
            let _ = writer.join();
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for SqliteStore {
    /// Also what still waited; that is written first. Blocks on the disk. If it cannot be read, nothing is remembered.
    fn servers(&self) -> Vec<ServerMemory> {
        let mut held = lock(&self.shared.held);
        let Some(Held { database, .. }) = held.as_mut() else { return Vec::new() };
        let found = self.shared.flush(database).and_then(|()| database.servers());
        found.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "what is remembered of servers cannot be read");
            Vec::new()
        })
    }

    /// A list of more than 4 MiB is not stored, the rest is.
    fn remember(&self, memory: ServerMemory) {
        let server = memory.server.clone();
        match self.shared.push(|queue| queue.remember(memory)) {
            Taken::Whole | Taken::Nothing => {}
            Taken::WithoutTools => tracing::warn!(
                server.id = %server,
                max_bytes = MAX_LISTING,
                "the list of tools is too big to be stored; it is not there after a restart until the server is",
            ),
        }
    }

    /// What was approved stays: it is a person's word, and it holds for its launch line alone.
    fn forget(&self, server: &ServerId) {
        self.shared.push(|queue| queue.forget(server.clone()));
    }

    fn consent(&self, server: &ServerId) -> Option<Consent> {
        lock(&self.shared.consents).get(server).cloned()
    }

    /// Blocks until the disk has it.
    fn approve(&self, consent: Consent) -> Result<(), String> {
        let mut held = lock(&self.shared.held);
        let Some(Held { database, .. }) = held.as_mut() else { return Err("the store is closed".to_owned()) };
        database.approve(&consent).map_err(|error| format!("the approval cannot be stored: {error}"))?;
        lock(&self.shared.consents).insert(consent.server.clone(), consent);
        Ok(())
    }
}

impl Ledger for SqliteStore {
    fn spawned(&self, process: Spawned) {
        self.shared.push(|queue| queue.process(process.cookie.clone(), Change::Put(process)));
    }

    fn gone(&self, cookie: &str) {
        lock(&self.shared.leftovers).retain(|process| process.cookie != cookie);
        self.shared.push(|queue| queue.process(cookie.to_owned(), Change::Gone));
    }

    /// As it was when the store was opened, without those that have gone since. Never a process of our own.
    fn leftovers(&self) -> Vec<Spawned> {
        lock(&self.shared.leftovers).clone()
    }
}

impl Shared {
    /// Pushes one change and wakes the writer.
    fn push(&self, change: impl FnOnce(&mut Queue) -> Taken) -> Taken {
        let mut inbox = self.inbox();
        if inbox.stage != Stage::Open {
            return Taken::Nothing;
        }
        let taken = change(&mut inbox.queue);
        let is_news = taken == Taken::Nothing && !inbox.is_overflow_told;
        inbox.is_overflow_told |= is_news;
        drop(inbox);
        if is_news {
            tracing::warn!("too much waits to be stored; what is new is lost until the disk takes it");
        }
        self.work.notify_one();
        taken
    }

    /// What the writer does, from the first moment to the last.
    fn run(&self) {
        let _end = End(self);
        let mut is_failing = false;
        while self.wait_for_work(is_failing) {
            match self.write() {
                Ok(()) if is_failing => {
                    is_failing = false;
                    tracing::info!("the store writes again");
                }
                Ok(()) => {}
                Err(error) => {
                    let inbox = self.inbox();
                    let (stage, waiting) = (inbox.stage, inbox.queue.len());
                    drop(inbox);
                    if stage != Stage::Open {
                        tracing::warn!(error = %error, waiting, "the last changes cannot be stored and are lost");
                        return;
                    }
                    if !is_failing {
                        tracing::warn!(error = %error, waiting, "changes cannot be stored; tried again every second");
                    }
                    is_failing = true;
                }
            }
        }
    }

    /// Waits until something is to be written, after a failure at least for a while. `false`: nothing is and nothing
    /// will be.
    fn wait_for_work(&self, is_failing: bool) -> bool {
        let mut inbox = self.inbox();
        if is_failing {
            let waited = self.work.wait_timeout_while(inbox, RETRY, |inbox| inbox.stage == Stage::Open);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_idle = |inbox: &mut Inbox| inbox.queue.is_empty() && inbox.stage == Stage::Open;
        let inbox = self.work.wait_while(inbox, is_idle).unwrap_or_else(PoisonError::into_inner);
        !inbox.queue.is_empty()
    }

    fn write(&self) -> Result<(), Failure> {
        let mut held = lock(&self.held);
        let held = held.as_mut().expect("only the writer's end gives the file back");
        self.flush(&mut held.database)
    }

    /// Writes what waits. What could not be written waits again.
    fn flush(&self, database: &mut Database) -> Result<(), Failure> {
        let mut inbox = self.inbox();
        let batch = std::mem::take(&mut inbox.queue);
        inbox.is_overflow_told = false;
        drop(inbox);
        if batch.is_empty() {
            return Ok(());
        }
        let outcome = database.write(&batch);
        if outcome.is_err() {
            self.inbox().queue.put_back(batch);
        }
        outcome
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }
}

/// The writer's end, however it ends: first the file is free, then it is said.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        drop(lock(&self.0.held).take());
        self.0.inbox().stage = Stage::Ended;
        self.0.ended.notify_all();
    }
}

/// What a panicking holder left is whole: every change under these locks is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
