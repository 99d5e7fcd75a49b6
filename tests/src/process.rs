//! Which processes live, what they hold and what they use, as `/proc` tells; and how to signal one of our own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Sends `signal` to a process that we started. A process that has gone is no error.
pub fn send(pid: u32, signal: Signal) {
    match signal::kill(as_pid(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("signal to {pid}: {errno}"),
    }
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid fits"))
}

/// Whether `pid` runs. A zombie does not.
pub fn is_alive(pid: u32) -> bool {
    !matches!(Stat::of(pid).map(|stat| stat.state), Some('Z' | 'X') | None)
}

/// Those of `pids` that still live.
pub fn survivors(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|pid| is_alive(*pid)).collect()
}

/// Every process below `root`, by parent; zombies too.
pub fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all().into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?.parent))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Every live process that has `variable` with `value` in the environment it was started with.
pub fn marked(variable: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{variable}={value}");
    let has_mark = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
    };
    all().into_iter().filter(has_mark).filter(|pid| is_alive(*pid)).collect()
}

/// The reaper below `daemon`: the process that was started under its name.
pub fn reaper(daemon: u32) -> Option<u32> {
    descendants(daemon).into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(b"ostler-reaper")
    })
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    // One of them is the folder that is being read.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// The resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The processor time that a process has used itself.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let ticks = Stat::of(pid)?.ticks;
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok())?;
    Some(Duration::from_secs(ticks) / a_second)
}

/// The process group of a process.
pub fn group(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.group)
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.parent)
}

/// The pids that `file` lists, one a line.
pub fn listed(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What `/proc/PID/stat` says and we ask for.
struct Stat {
    state: char,
    parent: u32,
    group: u32,
    ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before the state may hold anything, a closing parenthesis too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(1)?).ok()?,
            group: u32::try_from(number(2)?).ok()?,
            ticks: number(11)? + number(12)?,
        })
    }
}
