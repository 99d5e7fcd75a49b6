//! The duty of process 1, which we are in many a container: orphans fall to us, and somebody has to reap them.
//!
//! Only strangers are reaped: never what this crate started, never what is in our own session (somebody in this program
//! may wait for it), and nobody who has not been dead for a moment. Linux only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::census::{self, Census, Process};
use crate::kernel;

/// How long the dead are left to whoever may be about to wait for them.
const GRACE: Duration = Duration::from_secs(1);

/// What this crate started and has not waited for.
static OWN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// While it lives, the child with this number is not touched.
#[derive(Debug)]
pub(crate) struct Own(u32);

impl Own {
    pub(crate) fn new(pid: u32) -> Self {
        own().push(pid);
        Self(pid)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut own = own();
        if let Some(place) = own.iter().position(|pid| *pid == self.0) {
            own.swap_remove(place);
        }
    }
}

fn own() -> MutexGuard<'static, Vec<u32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the duty up, once, if it is ours. Ends with the runtime.
pub(crate) fn serve() {
    static SERVING: std::sync::Once = std::sync::Once::new();
    if std::process::id() == 1 && census::is_ours() {
        SERVING.call_once(|| drop(tokio::spawn(reap_strangers())));
    }
}

async fn reap_strangers() {
    let Ok(mut ended) = signal(SignalKind::child()) else { return };
    let mut dead = BTreeMap::new();
    loop {
        if dead.is_empty() {
            ended.recv().await;
        } else {
            tokio::time::sleep(GRACE).await;
        }
        // A look reads all of /proc.
        let look = tokio::task::spawn_blocking(|| Census::take().as_ref().map(strangers).unwrap_or_default());
        let now: BTreeMap<i32, u64> = look.await.unwrap_or_default();
        for (pid, _) in now.iter().filter(|(pid, started)| dead.get(*pid) == Some(*started)) {
            kernel::reap(*pid);
        }
        dead = now.into_iter().filter(|(pid, started)| dead.get(pid) != Some(started)).collect();
    }
}

/// The dead that fell to us, by number and start.
fn strangers(census: &Census) -> BTreeMap<i32, u64> {
    let me = std::process::id().cast_signed();
    let Some(session) = Process::read(me).map(|process| process.session) else { return BTreeMap::new() };
    let own = own().clone();
    let is_stranger = |process: &&Process| {
        process.is_zombie
            && process.parent == me
            && process.session != session
            && !own.contains(&process.pid.unsigned_abs())
    };
    census.all().filter(is_stranger).map(|process| (process.pid, process.started)).collect()
}
