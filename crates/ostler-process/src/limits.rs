//! What a server may use up at most, and what it may touch: as it is asked for. Decides nothing.
//!
//! Memory and processes are limited by control groups (`cgroup`), the rest by `setrlimit(2)`; folders by `sandbox`.

use std::path::PathBuf;

/// What a server and all below it may use up. `None`: as much as this host gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceLimits {
    /// Memory of all its processes together, in bytes; what goes beyond ends it. Swap is not counted.
    ///
    /// Where control groups cannot be written one warning says so, and there is no limit.
    pub memory: Option<u64>,
    /// How many processes and threads it may have at once; more cannot be started. As `memory`.
    pub processes: Option<u32>,
    /// How many descriptors each of its processes may have open. Never above the hard limit of this host.
    pub open_files: Option<u64>,
    /// How large a core dump may be, in bytes. None by default: dumps hold secrets and fill disks.
    pub core: u64,
}

impl ResourceLimits {
    /// Whether a control group is needed.
    pub(crate) fn need_group(&self) -> bool {
        self.memory.is_some() || self.processes.is_some()
    }
}

/// What of this host's files a server may touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// What this user may.
    #[default]
    Off,
    /// Programs and system folders, its own program and its working folder to read; nothing else.
    ///
    /// It may write to `writable` and to a temporary folder of its own (`TMPDIR`), which is removed after it. Home, other
    /// servers' folders and the memory of other processes are out of reach. The network is not restricted, nor are Unix
    /// sockets with a path. Needs Linux 6.2 with Landlock: a server that asks for it elsewhere is not started.
    Restricted {
        /// Folders and files that it may change. `~` is not expanded. Each must exist.
        writable: Vec<PathBuf>,
    },
}
