//! A census of processes, read from `/proc`: who descends from whom, and which server each belongs to.
//!
//! Looks and kills by number; decides nothing. Used by the reaper and by the sweep after a reaper's death. Linux only.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use crate::environment::COOKIE;

/// How much of an environment is read at once.
const AT_ONCE: usize = 256 * 1024;

/// One process, as it was when it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// It has ended and waits to be reaped; none of its threads lives.
    pub(crate) is_zombie: bool,
    /// When it started, in ticks since boot: with the number, its identity.
    pub(crate) started: u64,
}

impl Process {
    /// Reads the process `pid`. `None`: there is none.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        if !is_ours() {
            return None;
        }
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `proc_pid_stat(5)`. The name in parentheses may hold anything, half a character too, so fields count from its
    /// end.
    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse().ok();
        let threads = number(17)?;
        Some(Self {
            pid,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            // A leader thread that ended before its threads looks the same, but for their count.
            is_zombie: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// The cookie in the environment that it was executed with.
    pub(crate) fn cookie(&self) -> Cookie {
        if self.is_zombie {
            return Cookie::None;
        }
        match self.environment() {
            Ok(environment) => Cookie::find(&environment),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Cookie::None,
            Err(_) => Cookie::Unclear,
        }
    }

    /// Reads as much at once as can be: an exec between two reads would tear old and new apart.
    fn environment(&self) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(format!("/proc/{}/environ", self.pid))?;
        let mut environment = vec![0; AT_ONCE];
        let length = file.read(&mut environment)?;
        environment.truncate(length);
        if length == AT_ONCE {
            file.read_to_end(&mut environment)?;
        }
        Ok(environment)
    }

    /// Kills it, and nobody who got its number since.
    pub(crate) fn kill(&self) {
        let is_still_it = || Self::read(self.pid).is_some_and(|now| now.started == self.started);
        crate::kernel::kill_exactly(self.pid, is_still_it);
    }
}

/// Whether the numbers in `/proc` are those that this process kills by. Not so in a new PID namespace without its own.
pub(crate) fn is_ours() -> bool {
    static IS_OURS: OnceLock<bool> = OnceLock::new();
    let me = || fs::read_link("/proc/self").is_ok_and(|pid| *pid == *std::process::id().to_string());
    *IS_OURS.get_or_init(me)
}

/// What the environment of a process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cookie {
    Some(Vec<u8>),
    /// There is none, or we may not look.
    None,
    /// The environment is empty or torn. So it is in the middle of an exec, too: the next look may tell more.
    Unclear,
}

impl Cookie {
    /// Every entry of a whole environment ends with a zero.
    fn find(environment: &[u8]) -> Self {
        let mut entries = environment.split_inclusive(|byte| *byte == 0);
        let found = entries.find_map(|entry| {
            let value = entry.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")?;
            value.strip_suffix(b"\0")
        });
        match found {
            Some(value) => Self::Some(value.to_vec()),
            None if environment.ends_with(b"\0") => Self::None,
            None => Self::Unclear,
        }
    }
}

/// All processes at about one moment, this one among them.
#[derive(Debug)]
pub(crate) struct Census(BTreeMap<i32, Process>);

impl Census {
    /// `None`: nothing is known. `/proc` cannot be read (we are out of descriptors, say), or counts for another namespace.
    pub(crate) fn take() -> Option<Self> {
        if !is_ours() {
            return None;
        }
        let numbers = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            std::str::from_utf8(name.as_bytes()).ok()?.parse::<i32>().ok()
        });
        Self::whole(numbers.filter_map(|pid| Some((pid, Process::read(pid)?))).collect())
    }

    /// A census that misses whoever takes it may miss anybody.
    fn whole(processes: BTreeMap<i32, Process>) -> Option<Self> {
        processes.contains_key(&std::process::id().cast_signed()).then_some(Self(processes))
    }

    /// Everybody.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    /// Everything below `ancestor`, each with the owner that `claim` finds for it, given its parent's.
    pub(crate) fn below<T: Clone>(
        &self,
        ancestor: i32,
        claim: impl Fn(&Process, Option<T>) -> Option<T>,
    ) -> Vec<(Process, Option<T>)> {
        let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
        for process in self.0.values() {
            children.entry(process.parent).or_default().push(process);
        }
        let mut found = Vec::new();
        let mut waiting: VecDeque<(i32, Option<T>)> = VecDeque::from([(ancestor, None)]);
        while let Some((parent, inherited)) = waiting.pop_front() {
            // Removed, so that a number that changed hands meanwhile cannot make a circle.
            for child in children.remove(&parent).unwrap_or_default() {
                let owner = claim(child, inherited.clone());
                waiting.push_back((child.pid, owner.clone()));
                found.push((*child, owner));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Process {
        Process { pid, parent, group, session: 1, is_zombie: false, started: 0 }
    }

    #[test]
    fn a_stat_line_is_read_behind_a_hostile_name() {
        let check = |name: &[u8]| {
            let fields = b" S 7 42 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 99 1";
            let stat = [b"42 (", name, b")", fields.as_slice()].concat();
            let expected = Process { pid: 42, parent: 7, group: 42, session: 9, is_zombie: false, started: 12_345 };
            assert_eq!(Process::parse(42, &stat), Some(expected), "{name:?}");
        };
        check(b"a) Z 1 (b");
        // A long name is cut at a byte, wherever its characters end.
        check(&"\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}\u{430}\u{445}".as_bytes()[..15]);
        check(b"\xff\0");
        assert_eq!(Process::parse(42, b"42 (sh) S 7"), None);
    }

    #[test]
    fn a_dead_first_thread_with_living_others_is_no_zombie() {
        let check = |threads: u32, expected: bool| {
            let stat = format!("42 (x) Z 7 42 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 {threads} 0 12345 99 1");
            assert_eq!(Process::parse(42, stat.as_bytes()).unwrap().is_zombie, expected, "{threads} threads");
        };
        check(1, true);
        check(3, false);
    }

    #[test]
    fn a_torn_environment_is_unclear_and_a_whole_one_is_not() {
        let check = |environment: &[u8], expected: Cookie| assert_eq!(Cookie::find(environment), expected);
        check(b"A=b\0OSTLER_COOKIE=c.1\0Z=z\0", Cookie::Some(b"c.1".to_vec()));
        check(b"A=b\0NOT_OSTLER_COOKIE=c.1\0", Cookie::None);
        check(b"A=b\0OSTLER_COOKIE=c", Cookie::Unclear);
        check(b"A=b\0B", Cookie::Unclear);
        check(b"", Cookie::Unclear);
    }

    #[test]
    fn each_descendant_has_its_own_owner_or_its_parents() {
        let census = Census(
            [
                process(1, 0, 1),
                process(10, 1, 10),
                // Two servers below the ancestor 10, a grandchild of each, a daemonised one, a stray, a stranger.
                process(20, 10, 20),
                process(21, 20, 21),
                process(30, 10, 30),
                process(31, 30, 30),
                process(40, 10, 40),
                process(41, 40, 40),
                process(50, 10, 50),
                process(60, 1, 60),
            ]
            .into_iter()
            .map(|process| (process.pid, process))
            .collect(),
        );
        let owners = census.below(10, |process, inherited| match (process.pid, process.group) {
            (_, 20) | (40, _) => Some("a"),
            (_, 30) => Some("b"),
            _ => inherited,
        });
        let seen: Vec<_> = owners.iter().map(|(process, owner)| (process.pid, *owner)).collect();
        assert_eq!(
            seen,
            [
                (20, Some("a")),
                (30, Some("b")),
                (40, Some("a")),
                (50, None),
                (21, Some("a")),
                (31, Some("b")),
                (41, Some("a")),
            ]
        );
    }

    #[test]
    fn a_census_without_whoever_takes_it_is_none() {
        assert!(Census::whole(BTreeMap::new()).is_none());
        assert!(Census::whole(BTreeMap::from([(1, process(1, 0, 1)), (i32::MAX, process(i32::MAX, 1, 1))])).is_none());
    }

    #[test]
    fn this_process_finds_itself() {
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = Process::read(me).unwrap().parent;
        assert!(Census::take().unwrap().below(parent, |_, _| None::<()>).iter().any(|(process, _)| process.pid == me));
    }
}
