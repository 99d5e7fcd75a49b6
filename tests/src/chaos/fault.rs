//! The faults of a chaotic run: which there are, which server can have which, and how each is done.

use std::fmt;
use std::time::Instant;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::stable::{Kind, MAX_FRAME, Member, Stable};
use crate::fake::Order;
use crate::process;

/// How many notifications a flood has.
const FLOOD: usize = 20_000;

/// How many lines of garbage come at once.
const GARBAGE: usize = 50;

/// How slow a slow start is, in milliseconds.
const SLOW_MS: u64 = 3000;

/// What can be done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Kill,
    Stop,
    Hang,
    Garbage,
    Oversize,
    ExitZero,
    Daemonise,
    CloseStdout,
    Flood,
    SlowStart,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::Kill,
        Self::Stop,
        Self::Hang,
        Self::Garbage,
        Self::Oversize,
        Self::ExitZero,
        Self::Daemonise,
        Self::CloseStdout,
        Self::Flood,
        Self::SlowStart,
    ];

    /// Whether it can be done to a server of this kind.
    pub(super) fn suits(self, kind: Kind) -> bool {
        kind == Kind::Fake || matches!(self, Self::Kill | Self::Stop)
    }

    /// Whether the server is dead for the product at once: its process ends, or its output does.
    pub(super) fn is_death(self) -> bool {
        matches!(self, Self::Kill | Self::ExitZero | Self::CloseStdout)
    }

    /// Whether the server lives on in silence, so that only a probe finds it.
    pub(super) fn is_silence(self) -> bool {
        matches!(self, Self::Stop | Self::Hang)
    }

    /// Does it to `member`, whose process is `pid`. Returns when it was done.
    pub(super) fn inject(self, stable: &Stable, member: &Member, pid: u32) -> anyhow::Result<Instant> {
        let order = match self {
            Self::Kill => return Ok(signal(pid, Signal::SIGKILL)),
            Self::Stop => return Ok(signal(pid, Signal::SIGSTOP)),
            Self::SlowStart => {
                let file = stable.slow_once(member);
                std::fs::write(&file, SLOW_MS.to_string()).context("a slow start cannot be ordered")?;
                return Ok(signal(pid, Signal::SIGKILL));
            }
            Self::Hang => Order::Hang,
            Self::Garbage => Order::Garbage(GARBAGE),
            Self::Oversize => Order::Oversize(MAX_FRAME + 1),
            Self::ExitZero => Order::Exit(0),
            Self::Daemonise => Order::Daemonise(stable.hidden()),
            Self::CloseStdout => Order::CloseStdout,
            Self::Flood => Order::Flood(FLOOD),
        };
        let at = Instant::now();
        order.give(&stable.orders(member)).with_context(|| format!("{} takes no orders", member.id))?;
        Ok(at)
    }
}

fn signal(pid: u32, signal: Signal) -> Instant {
    let at = Instant::now();
    process::send(pid, signal);
    at
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
            Self::Hang => "hang",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize line",
            Self::ExitZero => "exit 0",
            Self::Daemonise => "daemonise",
            Self::CloseStdout => "close stdout",
            Self::Flood => "flood",
            Self::SlowStart => "slow start",
        })
    }
}

/// A fault that was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Injected {
    pub(super) at: Instant,
    /// The index of the server.
    pub(super) server: usize,
    pub(super) fault: Fault,
    pub(super) pid: u32,
    /// Whether the server had no failure behind it that still counts.
    pub(super) is_single: bool,
    /// Whether the run left the product the time to find it.
    pub(super) is_judged: bool,
}
