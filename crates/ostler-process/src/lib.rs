//! Children and everything below them: the reaper, spawning, watching, the stop ladder. Knows no MCP.
//!
//! One small process, the reaper, stands between this process and all children; see [`reaper`]. A [`Child`] is a whole
//! tree: it is gone when nothing of it is left, and only then its lease is given back.

#![warn(missing_docs)]

mod child;
mod clock;
mod confine;
mod direct;
mod environment;
mod ladder;
mod ledger;
mod limits;
mod look;
pub mod reaper;
mod spawn;
mod stderr;
mod sweep;

#[cfg(target_os = "linux")]
mod census;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the one module where the kernel demands it; each block says why it is sound")]
mod kernel;
#[cfg(target_os = "linux")]
mod sandbox;

pub use child::Child;
pub use ladder::Ladder;
pub use ledger::SweepReport;
pub use limits::{ResourceLimits, Sandbox};
pub use reaper::{Reaper, ReaperOptions};
pub use spawn::{Launch, SpawnError};
pub use stderr::{Stderr, StderrFollower, StderrLine};
