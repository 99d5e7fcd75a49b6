//! Children without a reaper: process groups, for systems without subreapers and for embedders who did not prepare one.
//!
//! Same [`Child`], weaker promise: what runs when we are killed runs on, and off Linux a daemonised process escapes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
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
use tokio::time::timeout_at;

use crate::child::{Child, Desk, Life, UNSEEN, Wish};
use crate::reaper::Prepared;
use crate::spawn::{SpawnError, enter};
use crate::stderr::Stderr;
use crate::sweep::{Marks, sweep};

/// How often an eased group is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Every tree that was started this way and is not released.
#[derive(Default)]
pub(crate) struct Direct(Mutex<Trees>);

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
    is_eased: bool,
}

impl Direct {
    /// Starts a child. Nothing in it waits but for the exec.
    pub(crate) fn spawn(self: Arc<Self>, prepared: Prepared, lease: Lease) -> Result<Child, SpawnError> {
        let Prepared { id, cookie, args, env, line, .. } = prepared;
        if let Some(cwd) = &line.cwd
            && let Err(errno) = enter(cwd)
        {
            return Err(line.folder(errno));
        }
        let mut command = Command::new(&line.program);
        command.args(args).env_clear().envs(env).process_group(0);
        if let Some(cwd) = &line.cwd {
            command.current_dir(cwd);
        }
        let (stdin, stdout, stderr) = attach(&mut command).map_err(SpawnError::Host)?;
        let mut trees = self.lock();
        if trees.is_shut_down {
            return Err(SpawnError::ShutDown);
        }
        let spawned = command.spawn();
        // The command holds the child's ends of the pipes.
        drop(command);
        let process = spawned
            .map_err(|error| SpawnError::of_exec(error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw), &line))?;
        let pid = process.id().expect("a child that nobody waited for has its number");
        let desk: Arc<Desk> = Arc::default();
        let (life, watched) = watch::channel(Life::Running);
        trees.trees.insert(id, (Arc::clone(&desk), watched.clone()));
        drop(trees);
        let group = Pid::from_raw(pid.cast_signed());
        let cookie = std::os::unix::ffi::OsStringExt::into_vec(cookie);
        let marks = Marks { cookie, session: None, group: Some(group.as_raw()) };
        let tree = Tree { id, group, marks, desk: Arc::clone(&desk), life, lease, is_eased: false };
        tokio::spawn(tree.tend(process, Arc::clone(&self)));
        let stderr = Stderr::drain(stderr, watched.clone());
        let (stdin, stdout) = (Some(stdin), Some(stdout));
        Ok(Child { id, pid, stdin, stdout, stderr, life: watched, desk, keeper: Box::new(self) })
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let exit = loop {
            tokio::select! {
                biased;
                status = process.wait() => break status.map_or(UNSEEN, exit_of),
                () = self.desk.rung() => {
                    for (_, wish) in self.desk.take() {
                        self.grant(wish);
                    }
                }
            }
        };
        self.life.send_replace(Life::Exited(exit));
        while self.is_eased && killpg(self.group, None).is_ok() {
            // Until the ladder kills: what is below an exited leader has its time.
            let rung = tokio::time::timeout(LOOK, self.desk.rung()).await.is_ok();
            for (_, wish) in self.desk.take().into_iter().filter(|_| rung) {
                self.grant(wish);
                self.is_eased &= wish != Wish::Kill;
            }
        }
        let survivors = sweep(self.marks).await;
        if survivors > 0 {
            tracing::error!(survivors, "processes of a server cannot be killed and are given up");
        }
        direct.lock().trees.remove(&self.id);
        drop(self.lease);
        self.life.send_replace(Life::Released(exit));
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

fn exit_of(status: ExitStatus) -> Exit {
    status.code().map(Exit::Code).or(status.signal().map(Exit::Signal)).unwrap_or(UNSEEN)
}
