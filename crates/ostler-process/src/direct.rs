//! Children without a reaper: process groups, for systems without subreapers and for embedders who did not prepare one.
//!
//! Same [`Child`], weaker promise: what runs when we are killed runs on, and off Linux a daemonised process escapes.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ostler_core::port::Lease;
use ostler_core::status::Exit;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at};

use crate::child::{Child, Desk, End, Life, Wish};
use crate::clock;
use crate::confine::{Confines, Remains};
#[cfg(target_os = "linux")]
use crate::kernel::{self, Stage};
use crate::ledger::Book;
use crate::reaper::Prepared;
use crate::spawn::{Line, SpawnError, enter};
use crate::stderr::Stderr;
use crate::sweep::{Marks, sweep};

/// How often an eased group is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long a killed leader may take to end before it is given up.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Every tree that was started this way and is not released.
pub(crate) struct Direct {
    trees: Mutex<Trees>,
    book: Book,
}

#[derive(Default)]
struct Trees {
    is_shut_down: bool,
    trees: BTreeMap<u64, (Arc<Desk>, watch::Receiver<Life>)>,
}

/// What a tree's task owns.
struct Tree {
    id: u64,
    group: Pid,
    marks: Marks,
    desk: Arc<Desk>,
    life: watch::Sender<Life>,
    lease: Lease,
    cookie: String,
    remains: Remains,
    ran_out_of_memory: Arc<AtomicBool>,
    is_eased: bool,
}

impl Direct {
    pub(crate) fn new(book: Book) -> Self {
        Self { trees: Mutex::default(), book }
    }

    /// Starts a child. Nothing in it waits but for the exec.
    pub(crate) fn spawn(self: Arc<Self>, prepared: Prepared, lease: Lease) -> Result<Child, SpawnError> {
        let Prepared { id, cookie, args, env, line, redactor, confines, .. } = prepared;
        if let Some(cwd) = &line.cwd
            && let Err(errno) = enter(cwd)
        {
            return Err(line.folder(errno));
        }
        let mut command = Command::new(&line.program);
        command.args(args).env_clear().envs(env).process_group(0).kill_on_drop(true);
        if let Some(cwd) = &line.cwd {
            command.current_dir(cwd);
        }
        let (stdin, stdout, stderr) = attach(&mut command).map_err(SpawnError::Host)?;
        let mut trees = self.lock();
        if trees.is_shut_down {
            return Err(SpawnError::ShutDown);
        }
        let (spawned, remains) = start(&mut command, confines);
        // The command holds the child's ends of the pipes.
        drop(command);
        let process = spawned.map_err(|error| explain(&error, &line))?;
        let pid = process.id().expect("a child that nobody waited for has its number");
        let desk: Arc<Desk> = Arc::default();
        let (life, watched) = watch::channel(Life::Running);
        trees.trees.insert(id, (Arc::clone(&desk), watched.clone()));
        drop(trees);
        let group = Pid::from_raw(pid.cast_signed());
        let marks = Marks { cookie: cookie.clone().into_bytes(), session: None, group: Some(group.as_raw()) };
        self.book.spawned(&cookie, pid);
        let ran_out_of_memory: Arc<AtomicBool> = Arc::default();
        let tree = Tree {
            id,
            group,
            marks,
            desk: Arc::clone(&desk),
            life,
            lease,
            cookie,
            remains,
            ran_out_of_memory: Arc::clone(&ran_out_of_memory),
            is_eased: false,
        };
        tokio::spawn(tree.tend(process, Arc::clone(&self)));
        let stderr = Stderr::drain(stderr, watched.clone(), redactor);
        let (stdin, stdout) = (Some(stdin), Some(stdout));
        Ok(Child { id, pid, stdin, stdout, stderr, life: watched, ran_out_of_memory, desk, keeper: Box::new(self) })
    }

    pub(crate) async fn shutdown(&self, deadline: Instant) {
        let trees = {
            let mut state = self.lock();
            state.is_shut_down = true;
            state.trees.clone()
        };
        for (id, (desk, _)) in &trees {
            desk.put(*id, Wish::Kill);
        }
        for (_, mut life) in trees.into_values() {
            let _ = timeout_at(deadline.into(), life.wait_for(|life| matches!(life, Life::Released(_)))).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the command within its bounds; without control groups, with a warning, if it cannot enter them.
#[cfg(target_os = "linux")]
fn start(command: &mut Command, confines: Confines) -> (io::Result<tokio::process::Child>, Remains) {
    let Confines { bounds, remains, means } = confines;
    let is_ungrouped = Arc::clone(&bounds.is_ungrouped);
    kernel::confine(command.as_std_mut(), bounds);
    let mut spawned = command.spawn();
    if let Err(error) = &spawned
        && let Stage::Group(errno) = Stage::of(error)
    {
        means.warn("memory, processes", Errno::from_raw(errno).desc());
        is_ungrouped.store(true, Ordering::Relaxed);
        spawned = command.spawn();
    }
    (spawned, remains)
}

#[cfg(not(target_os = "linux"))]
fn start(command: &mut Command, confines: Confines) -> (io::Result<tokio::process::Child>, Remains) {
    (command.spawn(), confines.remains)
}

fn explain(error: &io::Error, line: &Line) -> SpawnError {
    #[cfg(target_os = "linux")]
    if let Stage::Sandbox(errno) = Stage::of(error) {
        return SpawnError::of_sandbox(Errno::from_raw(errno));
    }
    SpawnError::of_exec(error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw), line)
}

/// Gives `command` three pipes and returns our ends. The child's ends block, as programs expect.
fn attach(command: &mut Command) -> io::Result<(pipe::Sender, pipe::Receiver, pipe::Receiver)> {
    let (stdin, their_stdin) = pipe::pipe()?;
    let (their_stdout, stdout) = pipe::pipe()?;
    let (their_stderr, stderr) = pipe::pipe()?;
    let ends: [OwnedFd; 3] =
        [their_stdin.into_blocking_fd()?, their_stdout.into_blocking_fd()?, their_stderr.into_blocking_fd()?];
    let [input, output, error] = ends.map(Stdio::from);
    command.stdin(input).stdout(output).stderr(error);
    Ok((stdin, stdout, stderr))
}

impl Tree {
    async fn tend(mut self, mut process: tokio::process::Child, direct: Arc<Direct>) {
        #[cfg(target_os = "linux")]
        let own = process.id().map(crate::init::Own::new);
        let mut give_up = None;
        let end = loop {
            tokio::select! {
                biased;
                status = process.wait() => break status.map_or(End::Unseen, end_of),
                () = reached(give_up) => break End::Unseen,
                () = self.desk.rung() => {
                    for (_, wish) in self.desk.take() {
                        self.grant(wish);
                        if wish == Wish::Kill {
                            // It may have left its group. An error means that it has ended.
                            let _ = process.start_kill();
                            give_up.get_or_insert_with(|| clock::now() + GIVE_UP);
                        }
                    }
                }
            }
        };
        #[cfg(target_os = "linux")]
        drop(own);
        self.ran_out_of_memory.store(self.remains.ran_out_of_memory(), Ordering::Release);
        self.life.send_replace(Life::Exited(end));
        while self.is_eased && killpg(self.group, None).is_ok() {
            // Until the ladder kills: what is below an exited leader has its time.
            let _ = tokio::time::timeout(LOOK, self.desk.rung()).await;
            for (_, wish) in self.desk.take() {
                self.grant(wish);
                self.is_eased &= wish != Wish::Kill;
            }
        }
        let survivors = sweep(self.marks).await;
        if survivors > 0 {
            tracing::error!(survivors, "processes of a server cannot be killed and are given up");
        } else {
            direct.book.gone(&self.cookie);
        }
        direct.lock().trees.remove(&self.id);
        self.remains.remove();
        drop(self.lease);
        self.life.send_replace(Life::Released(end));
    }

    fn grant(&mut self, wish: Wish) {
        // A signal fails if nobody is left, which is what we want.
        match wish {
            Wish::Ease => self.is_eased = true,
            Wish::Term => drop(killpg(self.group, Signal::SIGTERM)),
            Wish::Kill => drop(killpg(self.group, Signal::SIGKILL)),
        }
    }
}

fn end_of(status: ExitStatus) -> End {
    status.code().map(Exit::Code).or(status.signal().map(Exit::Signal)).map_or(End::Unseen, End::Seen)
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
