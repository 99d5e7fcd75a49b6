//! Kills what no reaper looks after: after the reaper's own death, and where there never was one.
//!
//! Such processes are not below us any more, so they are known by marks alone: the cookie, the session, the group.

use std::time::Duration;

use tokio::time::timeout_at;

use crate::clock;

/// How long is tried.
const GIVE_UP: Duration = Duration::from_secs(5);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// After how many looks in a row that found nothing it is believed.
const EMPTY_LOOKS: u32 = 3;

/// What marks the processes to kill.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// How the cookie begins.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no census there"))]
    pub(crate) cookie: Vec<u8>,
    /// The session that the dead reaper led: all in it are its own.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no census there"))]
    pub(crate) session: Option<i32>,
    /// The process group of a server that has no reaper.
    pub(crate) group: Option<i32>,
}

/// Kills all that carry the marks, and what is below them. Returns how many are left that cannot be killed.
///
/// Not cancel-safe in its purpose: dropped midway, some are left.
pub(crate) async fn sweep(marks: Marks) -> usize {
    let deadline = clock::now() + GIVE_UP;
    let mut empty_looks = 0;
    loop {
        let look = marks.clone();
        // A look reads all of /proc: milliseconds that no worker thread should lose.
        let looking = tokio::task::spawn_blocking(move || kill_marked(&look));
        // The kernel can make a reader wait for a process that hangs in it.
        let Ok(Ok(left)) = timeout_at(deadline.into(), looking).await else { return 1 };
        // An empty look may have missed a process that was born behind it or was in the middle of an exec.
        empty_looks = if left == 0 { empty_looks + 1 } else { 0 };
        if empty_looks == EMPTY_LOOKS || clock::now() >= deadline {
            return left;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Counts, and kills, what carries the marks now.
#[cfg(target_os = "linux")]
pub(crate) fn kill_marked(marks: &Marks) -> usize {
    use crate::census::{Census, Cookie, Process};

    let Some(census) = Census::take() else { return kill_unseen(marks) };
    let me = std::process::id().cast_signed();
    // A group's number may have been given to another since; hardly within our own session.
    let our_session = nix::unistd::getsid(None).ok().map(nix::unistd::Pid::as_raw);
    let is_marked = |process: &&Process| {
        process.pid != me
            && !process.is_zombie
            && (marks.session == Some(process.session)
                || (marks.group == Some(process.group) && our_session == Some(process.session))
                || matches!(process.cookie(), Cookie::Some(cookie) if cookie.starts_with(&marks.cookie)))
    };
    let marked: Vec<_> = census.all().filter(is_marked).copied().collect();
    let mut left = 0;
    for process in marked {
        let below = census.below(process.pid, |_, _| None::<()>).into_iter().map(|(child, _)| child);
        for doomed in std::iter::once(process).chain(below).filter(|doomed| !doomed.is_zombie && doomed.pid != me) {
            doomed.kill();
            left += 1;
        }
    }
    left
}

/// Without a census: one may be left, as far as anybody knows. Where `/proc` tells of others the group alone is known.
#[cfg(target_os = "linux")]
fn kill_unseen(marks: &Marks) -> usize {
    if crate::census::is_ours() { 1 } else { kill_group(marks) }
}

/// Counts, and kills, what carries the marks now: only the group is known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_marked(marks: &Marks) -> usize {
    kill_group(marks)
}

fn kill_group(marks: &Marks) -> usize {
    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;
    marks.group.map_or(0, |group| usize::from(killpg(Pid::from_raw(group), Signal::SIGKILL).is_ok()))
}
