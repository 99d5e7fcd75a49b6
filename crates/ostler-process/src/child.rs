//! A child: one server's whole process tree, from its leader's start until nothing of it is left.
//!
//! A child holds no process itself. Whoever keeps it (the reaper's keeper, or a task without a reaper) reads wishes from
//! a [`Desk`] and publishes its [`Life`].

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_core::status::Exit;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};

use crate::ladder::Ladder;
use crate::stderr::Stderr;

/// Where a tree is in its life. A released one keeps the end of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Exited(End),
    Released(End),
}

/// What is known of a leader's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Seen(Exit),
    /// Nobody could see it.
    Unseen,
    /// It ran until the reaper died, and was ended for that.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no reaper"))]
    ReaperLost,
}

impl Life {
    pub(crate) fn end(self) -> Option<End> {
        match self {
            Self::Running => None,
            Self::Exited(end) | Self::Released(end) => Some(end),
        }
    }
}

impl End {
    /// What nobody saw counts as SIGKILL.
    fn exit(self) -> Exit {
        match self {
            Self::Seen(exit) => exit,
            Self::Unseen | Self::ReaperLost => Exit::Signal(9),
        }
    }
}

/// What can be asked of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A stop has begun: when the leader exits, the rest is left its time.
    Ease,
    /// SIGTERM to the group.
    Term,
    /// SIGKILL to all of it.
    Kill,
}

/// Takes wishes without waiting, from any thread and from `Drop`. At most a few a child are ever in it.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    wishes: Mutex<Vec<(u64, Wish)>>,
    bell: Notify,
}

impl Desk {
    pub(crate) fn put(&self, id: u64, wish: Wish) {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if !wishes.contains(&(id, wish)) {
            wishes.push((id, wish));
        }
        drop(wishes);
        self.bell.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<(u64, Wish)> {
        std::mem::take(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when there may be something to take. For one reader. Cancel-safe.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// A child process and everything below it. Dropping it kills the whole tree, in the background.
///
/// The lease given to the spawn is dropped when nothing of the tree is left, whether this is still held or not.
pub struct Child {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: Option<pipe::Receiver>,
    pub(crate) stderr: Stderr,
    pub(crate) life: watch::Receiver<Life>,
    /// Set before the exit is told.
    pub(crate) ran_out_of_memory: Arc<AtomicBool>,
    pub(crate) desk: Arc<Desk>,
    /// Keeps the keeper at work as long as the child lives.
    #[expect(dead_code, reason = "held for its Drop alone")]
    pub(crate) keeper: Box<dyn Any + Send + Sync>,
}

impl Child {
    /// The process id of the leader: the server itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Our end of its standard input, the first time.
    pub fn take_stdin(&mut self) -> Option<pipe::Sender> {
        self.stdin.take()
    }

    /// Our end of its standard output, the first time.
    pub fn take_stdout(&mut self) -> Option<pipe::Receiver> {
        self.stdout.take()
    }

    /// Its standard error, which is drained from the start.
    pub fn stderr(&self) -> Stderr {
        self.stderr.clone()
    }

    /// Waits until the leader has ended, and says how. A process below it that still holds its pipes delays nothing.
    ///
    /// Cancel-safe; any number may wait. If nobody could see the end, it counts as SIGKILL.
    pub async fn exited(&self) -> Exit {
        let mut life = self.life.clone();
        // An error means that the keeper is gone with its runtime; what it kept is dead.
        let end = life.wait_for(|life| life.end().is_some()).await.ok().and_then(|life| life.end());
        end.unwrap_or(End::Unseen).exit()
    }

    /// Whether it ended because the reaper died, or hung, and not by a fault of its own. Known with the exit.
    pub fn reaper_lost(&self) -> bool {
        self.life.borrow().end() == Some(End::ReaperLost)
    }

    /// Whether its limit of memory has ended the leader or one below it. Known with the exit; false while it runs.
    pub fn ran_out_of_memory(&self) -> bool {
        self.ran_out_of_memory.load(Ordering::Acquire)
    }

    /// Waits until nothing of the tree is left. Cancel-safe; any number may wait.
    ///
    /// A process that not even SIGKILL ends (it hangs in the kernel) is given up after seconds, with an error in the log.
    pub async fn released(&self) {
        let mut life = self.life.clone();
        // An error means that the keeper is gone, and with it the tree.
        let _ = life.wait_for(|life| matches!(life, Life::Released(_))).await;
    }

    /// Kills the whole tree, now. Returns at once; see [`Child::released`].
    pub fn kill(&self) {
        self.desk.put(self.id, Wish::Kill);
    }

    /// Stops the tree step by step and waits until nothing is left of it.
    ///
    /// The caller has closed the standard input. After `ladder.eof` the process group gets SIGTERM, after
    /// `ladder.term` the whole tree gets SIGKILL. From the call on, what is below an exited leader is left its time, too.
    /// Dropping the future stops climbing; [`Child::kill`] remains possible.
    pub async fn stop(&self, ladder: Ladder) {
        self.desk.put(self.id, Wish::Ease);
        if self.is_released_within(ladder.eof).await {
            return;
        }
        self.desk.put(self.id, Wish::Term);
        if self.is_released_within(ladder.term).await {
            return;
        }
        self.kill();
        // Bounded by whoever keeps the tree: it gives up what cannot be killed, and says so.
        self.released().await;
    }

    async fn is_released_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.released()).await.is_ok()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(*self.life.borrow(), Life::Released(_)) {
            self.desk.put(self.id, Wish::Kill);
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("pid", &self.pid).field("life", &*self.life.borrow()).finish_non_exhaustive()
    }
}
