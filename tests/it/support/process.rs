//! Which processes live, and how to signal one of our own: what the package knows, and what only tests need.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
pub(crate) use ostler_tests::process::{descendants, is_alive, listed, send, survivors};

use super::wait;

/// Waits until `file` lists `count` pids and returns all of them.
pub(crate) async fn wait_for_listed(file: &Path, count: usize) -> Vec<u32> {
    wait::until(("pids in", file, count), Duration::from_secs(10), async || {
        let pids = listed(file);
        (pids.len() >= count).then_some(pids)
    })
    .await
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
