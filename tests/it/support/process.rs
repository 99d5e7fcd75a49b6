//! Which processes live, and how to signal one of our own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::wait;

/// Sends `signal` to a process that this test started. A process that has gone is no error.
pub(crate) fn send(pid: u32, signal: Signal) {
    match signal::kill(as_pid(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("signal to {pid}: {errno}"),
    }
}

/// Whether `pid` runs. A zombie does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name before the state may hold anything, a closing parenthesis too.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// The pids that `file` lists, one a line.
pub(crate) fn listed(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Waits until `file` lists `count` pids and returns all of them.
pub(crate) async fn wait_for_listed(file: &Path, count: usize) -> Vec<u32> {
    wait::until(("pids in", file, count), Duration::from_secs(10), async || {
        let pids = listed(file);
        (pids.len() >= count).then_some(pids)
    })
    .await
}

/// Those of `pids` that still live.
pub(crate) fn survivors(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|pid| is_alive(*pid)).collect()
}

/// Every process below `root`, by parent, found through `/proc`.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether `pid` lets SIGTERM wait for ever.
pub(crate) fn blocks_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or_default();
    let bit = 1 << (Signal::SIGTERM as u64 - 1);
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & bit != 0)
}

/// Processes that a test knows of. Those that it leaves are killed when this is dropped.
pub(crate) struct Known(pub(crate) Vec<u32>);

impl Known {
    /// Those that still live.
    pub(crate) fn survivors(&self) -> Vec<u32> {
        survivors(&self.0)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        for pid in self.survivors() {
            send(pid, Signal::SIGKILL);
        }
    }
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid fits"))
}
