//! The task that owns the reaper's socket and every tree's lease.
//!
//! It turns wishes and spawns into orders and the reaper's facts into lives. When the reaper dies, or hangs, it ends what
//! that reaper kept before it says that anything is released; the next spawn starts another.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ostler_core::port::Lease;
use ostler_telemetry::record;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout, timeout_at};

use super::Prepared;
use super::link::Link;
use super::wire::{Fact, MAX, Order, Refusal, Start};
use crate::child::{Child, Desk, End, Life, Wish};
use crate::clock;
use crate::confine::{Confines, Means, Remains};
use crate::ledger::Book;
use crate::spawn::{Line, SpawnError, StartError};
use crate::stderr::Stderr;
use crate::sweep::{Marks, sweep};

/// How many spawns may wait for the keeper's attention.
const WAITING: usize = 64;
/// How long the reaper may take for a spawn. Beyond it, it hangs.
const SPAWN: Duration = Duration::from_secs(30);
/// How long the reaper may take to release a killed tree: more than it tries before it gives up.
const RELEASE: Duration = Duration::from_secs(15);
/// How long a reaper without children may take to leave.
const LEAVE: Duration = Duration::from_secs(10);

/// The way to the keeper. Cheap to clone; the keeper ends when all clones are dropped and all trees released.
#[derive(Clone)]
pub(super) struct Keeper {
    commands: mpsc::Sender<Command>,
    desk: Arc<Desk>,
    /// The reaper's process id; 0 while there is none.
    pid: Arc<AtomicU32>,
}

enum Command {
    Spawn(Box<Request>),
    Shutdown(oneshot::Sender<()>),
}

struct Request {
    start: Start,
    /// The cookie's beginning that all of this daemon share.
    instance: String,
    cookie: String,
    /// What travels beside the record: the child's ends of its pipes, and what bounds it.
    descriptors: Vec<OwnedFd>,
    remains: Remains,
    means: Arc<Means>,
    /// Complete but for its process id.
    child: Child,
    life: watch::Sender<Life>,
    lease: Lease,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Child, Failure>>;

enum Failure {
    /// The reaper's answer, to be explained by what was asked.
    Refused(Refusal),
    Ours(SpawnError),
}

impl Keeper {
    pub(super) fn start(program: PathBuf, soft_limit: Option<u64>, book: Book) -> Self {
        let (sender, commands) = mpsc::channel(WAITING);
        let keeper = Self { commands: sender, desk: Arc::default(), pid: Arc::default() };
        let state = State {
            program,
            soft_limit,
            book,
            commands,
            desk: Arc::clone(&keeper.desk),
            pid: Arc::clone(&keeper.pid),
            link: None,
            had_reaper: false,
            entries: BTreeMap::new(),
            instance: Vec::new(),
            closing: None,
        };
        tokio::spawn(state.run());
        keeper
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(super) async fn spawn(&self, prepared: Prepared, lease: Lease) -> Result<Child, SpawnError> {
        let Prepared { id, instance, cookie, args, env, line, redactor, confines, .. } = prepared;
        let Confines { bounds, remains, means } = confines;
        let (life, watched) = watch::channel(Life::Running);
        let ((stdin, their_stdin), (their_stdout, stdout), (their_stderr, stderr)) =
            pipes().map_err(SpawnError::Host)?;
        let start = Start {
            id,
            cookie: cookie.clone().into(),
            program: line.program.clone(),
            args,
            env,
            cwd: line.cwd.clone(),
            groups: remains.groups.folders(),
            temporary: remains.temporary.as_ref().map(|temporary| temporary.path().to_owned()),
            open_files: bounds.open_files,
            core: bounds.core,
        };
        let child = Child {
            id,
            pid: 0,
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: Stderr::drain(stderr, watched.clone(), redactor),
            life: watched,
            ran_out_of_memory: Arc::default(),
            desk: Arc::clone(&self.desk),
            keeper: Box::new(self.clone()),
        };
        let (reply, answer) = oneshot::channel();
        let pipes = [their_stdin, their_stdout, their_stderr];
        let descriptors = pipes.into_iter().chain(bounds.doors).chain(bounds.ruleset).collect();
        let request = Request { start, instance, cookie, descriptors, remains, means, child, life, lease, reply };
        if self.commands.send(Command::Spawn(Box::new(request))).await.is_err() {
            return Err(SpawnError::ShutDown);
        }
        // The answer holds the child: dropped unread, it kills the tree. The keeper bounds the wait.
        answer.await.unwrap_or(Err(Failure::Ours(SpawnError::ShutDown))).map_err(|failure| failure.explain(&line))
    }

    pub(super) async fn shutdown(&self, deadline: Instant) {
        let (done, ended) = oneshot::channel();
        let ask = async {
            if self.commands.send(Command::Shutdown(done)).await.is_ok() {
                let _ = ended.await;
            }
        };
        let _ = timeout_at(deadline.into(), ask).await;
    }
}

impl Failure {
    fn explain(self, line: &Line) -> SpawnError {
        match self {
            Self::Refused(Refusal::Folder(errno)) => line.folder(Errno::from_raw(errno)),
            Self::Refused(Refusal::Exec(errno)) => SpawnError::of_exec(Errno::from_raw(errno), line),
            Self::Refused(Refusal::Sandbox(errno)) => SpawnError::of_sandbox(Errno::from_raw(errno)),
            Self::Ours(error) => error,
        }
    }
}

type Pipes = ((pipe::Sender, OwnedFd), (OwnedFd, pipe::Receiver), (OwnedFd, pipe::Receiver));

/// Three pipes, our ends first to last: input, output, error. The child's ends block, as programs expect.
fn pipes() -> io::Result<Pipes> {
    let (stdin, their_stdin) = pipe::pipe()?;
    let (their_stdout, stdout) = pipe::pipe()?;
    let (their_stderr, stderr) = pipe::pipe()?;
    Ok((
        (stdin, their_stdin.into_blocking_fd()?),
        (their_stdout.into_blocking_fd()?, stdout),
        (their_stderr.into_blocking_fd()?, stderr),
    ))
}

/// One tree, from the order to start it until nothing is left.
struct Entry {
    life: watch::Sender<Life>,
    lease: Lease,
    cookie: String,
    remains: Remains,
    means: Arc<Means>,
    ran_out_of_memory: Arc<AtomicBool>,
    /// Who waits for the start; afterwards nobody.
    asked: Option<(Child, Reply)>,
    /// When the reaper must have said the next thing about it.
    due: Option<Instant>,
    is_eased: bool,
    is_killed: bool,
}

struct State {
    program: PathBuf,
    soft_limit: Option<u64>,
    book: Book,
    commands: mpsc::Receiver<Command>,
    desk: Arc<Desk>,
    pid: Arc<AtomicU32>,
    link: Option<Link>,
    /// A later one is a restart.
    had_reaper: bool,
    entries: BTreeMap<u64, Entry>,
    /// How the cookies of all our trees begin; known from the first spawn on.
    instance: Vec<u8>,
    /// Who waits for the shutdown, once one was asked for.
    closing: Option<Vec<oneshot::Sender<()>>>,
}

enum Step {
    Heard(io::Result<Option<Fact>>),
    Wished,
    Asked(Option<Command>),
    Overdue,
}

impl State {
    async fn run(mut self) {
        if let Err(error) = self.connect().await {
            tracing::warn!(%error, "the reaper could not be started; the next spawn tries again");
        }
        let mut is_orphaned = false;
        while !((is_orphaned || self.closing.is_some()) && self.entries.is_empty()) {
            let due = self.entries.values().filter_map(|entry| entry.due).min();
            let step = tokio::select! {
                biased;
                fact = heard(&mut self.link) => Step::Heard(fact),
                () = self.desk.rung() => Step::Wished,
                command = self.commands.recv(), if !is_orphaned => Step::Asked(command),
                () = reached(due) => Step::Overdue,
            };
            match step {
                Step::Heard(Ok(Some(fact))) => self.note(&fact),
                Step::Heard(Ok(None)) => self.bury("its socket ended").await,
                Step::Heard(Err(_)) => self.bury("it cannot be understood").await,
                Step::Wished => self.pass_wishes().await,
                Step::Asked(Some(Command::Spawn(request))) => self.begin(*request).await,
                Step::Asked(Some(Command::Shutdown(done))) => self.close(done).await,
                Step::Asked(None) => is_orphaned = true,
                Step::Overdue => self.bury("it hangs").await,
            }
        }
        self.leave().await;
    }

    async fn connect(&mut self) -> Result<(), StartError> {
        let link = Link::start(&self.program, self.soft_limit).await?;
        if std::mem::replace(&mut self.had_reaper, true) {
            record::reaper_restart();
        }
        record::reaper_up(true);
        self.pid.store(link.pid(), Ordering::Relaxed);
        self.link = Some(link);
        Ok(())
    }

    async fn begin(&mut self, request: Request) {
        let Request { start, instance, cookie, descriptors, remains, means, child, life, lease, reply } = request;
        // Whoever asked gave up while the request waited; lease and pipes go with it.
        if reply.is_closed() {
            return;
        }
        if self.closing.is_some() {
            let _ = reply.send(Err(Failure::Ours(SpawnError::ShutDown)));
            return;
        }
        if self.link.is_none()
            && let Err(error) = self.connect().await
        {
            let _ = reply.send(Err(Failure::Ours(SpawnError::of_reaper(self.program.clone(), error))));
            return;
        }
        self.instance = instance.into_bytes();
        let id = start.id;
        let record = Order::Spawn(Box::new(start)).encode();
        if record.len() > MAX {
            let _ = reply.send(Err(Failure::Refused(Refusal::Exec(Errno::E2BIG as i32))));
            return;
        }
        let due = Some(clock::now() + SPAWN);
        let ran_out_of_memory = Arc::clone(&child.ran_out_of_memory);
        let asked = Some((child, reply));
        let (is_eased, is_killed) = (false, false);
        let entry = Entry { life, lease, cookie, remains, means, ran_out_of_memory, asked, due, is_eased, is_killed };
        self.entries.insert(id, entry);
        self.order(&record, &descriptors).await;
    }

    async fn order(&mut self, record: &[u8], pipes: &[OwnedFd]) {
        let Some(link) = &self.link else { return };
        if link.send(record, pipes).await.is_err() {
            self.bury("it takes no orders").await;
        }
    }

    async fn pass_wishes(&mut self) {
        for (id, wish) in self.desk.take() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let order = match wish {
                Wish::Ease => {
                    entry.is_eased = true;
                    Order::Ease { id }
                }
                Wish::Term => Order::Term { id },
                Wish::Kill => {
                    entry.is_killed = true;
                    entry.due.get_or_insert_with(|| clock::now() + RELEASE);
                    Order::Kill { id }
                }
            };
            self.order(&order.encode(), &[]).await;
        }
    }

    fn note(&mut self, fact: &Fact) {
        match *fact {
            Fact::Hello { .. } => {}
            Fact::Spawned { id, pid, ungrouped } => {
                let Some(entry) = self.entries.get_mut(&id) else { return };
                // A kill can have been asked for before the reaper said that there is something to kill.
                entry.due = entry.is_killed.then(|| clock::now() + RELEASE);
                self.book.spawned(&entry.cookie, pid);
                if ungrouped != 0 {
                    entry.means.warn("memory, processes", Errno::from_raw(ungrouped).desc());
                }
                if let Some((mut child, reply)) = entry.asked.take() {
                    child.pid = pid;
                    // If nobody waits any more the child comes back and is dropped, which kills the tree.
                    drop(reply.send(Ok(child)));
                }
            }
            Fact::Refused { id, refusal } => {
                if let Some((_, reply)) = self.entries.remove(&id).and_then(|entry| entry.asked) {
                    let _ = reply.send(Err(Failure::Refused(refusal)));
                }
            }
            Fact::Exited { id, exit } => {
                let Some(entry) = self.entries.get_mut(&id) else { return };
                entry.ran_out_of_memory.store(entry.remains.ran_out_of_memory(), Ordering::Release);
                entry.life.send_replace(Life::Exited(End::Seen(exit)));
                if !entry.is_eased {
                    entry.due.get_or_insert_with(|| clock::now() + RELEASE);
                }
            }
            Fact::Released { id, survivors } => {
                let Some(entry) = self.entries.remove(&id) else { return };
                if survivors > 0 {
                    tracing::error!(survivors, "processes of a server cannot be killed and are given up");
                } else {
                    self.book.gone(&entry.cookie);
                }
                entry.release();
            }
        }
    }

    /// The reaper is dead, or as good as dead: every tree that it kept is ended, then released.
    async fn bury(&mut self, why: &'static str) {
        let Some(mut link) = self.link.take() else { return };
        self.pid.store(0, Ordering::Relaxed);
        record::reaper_up(false);
        link.kill();
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.values_mut() {
            entry.life.send_if_modified(|life| {
                let is_news = *life == Life::Running;
                if is_news {
                    *life = Life::Exited(End::ReaperLost);
                }
                is_news
            });
        }
        tracing::error!(why, trees = entries.len(), "the reaper ended; everything below it is ended too");
        // Its number is its own until it is waited for, and with it the session that marks its children.
        let session = Some(link.pid().cast_signed());
        let mut survivors = 0;
        if !entries.is_empty() {
            survivors = sweep(Marks { cookie: self.instance.clone(), session, group: None }).await;
            if survivors > 0 {
                tracing::error!(survivors, "processes of a server cannot be killed and are given up");
            }
        }
        for (_, mut entry) in entries {
            if let Some((_, reply)) = entry.asked.take() {
                let _ = reply.send(Err(Failure::Ours(SpawnError::ReaperLost)));
            }
            if survivors == 0 {
                self.book.gone(&entry.cookie);
            }
            entry.release();
        }
        if let Ok(status) = timeout(LEAVE, link.wait()).await {
            tracing::info!(status, "the reaper's remains are gone");
        } else {
            tracing::error!("the reaper cannot be killed");
        }
    }

    async fn close(&mut self, done: oneshot::Sender<()>) {
        self.closing.get_or_insert_default().push(done);
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            self.desk.put(id, Wish::Kill);
        }
        self.pass_wishes().await;
    }

    /// Ends the reaper, which has nothing below it that could be ended, and answers who waits for that.
    async fn leave(mut self) {
        self.commands.close();
        self.pid.store(0, Ordering::Relaxed);
        record::reaper_up(false);
        if let Some(link) = self.link.take()
            && timeout(LEAVE, link.close()).await.is_err()
        {
            tracing::error!("the reaper does not leave: something below it cannot be killed");
        }
        for done in self.closing.into_iter().flatten() {
            let _ = done.send(());
        }
    }
}

impl Entry {
    fn release(self) {
        let end = self.life.borrow().end().unwrap_or(End::Unseen);
        self.remains.remove();
        // First the lease, so that whoever sees the release finds the place free.
        drop(self.lease);
        self.life.send_replace(Life::Released(end));
    }
}

async fn heard(link: &mut Option<Link>) -> io::Result<Option<Fact>> {
    match link {
        Some(link) => link.next().await,
        None => pending().await,
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
