//! The ledger: what we started is written down, so that a later process of ours can end what this one could not.
//!
//! The sweep at boot kills a process only if number, start, boot and cookie are those that were written down, and then all
//! of its tree. What it cannot prove to be ours it leaves alone.

use std::sync::Arc;

use ostler_core::memory::Spawned;
use ostler_core::port::Ledger;

use crate::sweep::{Marks, sweep};

/// What became of the processes that an earlier process of ours had not seen the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// How many were written down.
    pub found: usize,
    /// How many of them were ours, still ran, and were killed with all below them.
    pub killed: usize,
    /// How many had ended, with the process or with an earlier boot of this machine.
    pub gone: usize,
    /// How many numbers belong to somebody else now, or to one who cannot be looked at. They were left alone.
    pub strangers: usize,
    /// How many processes not even SIGKILL could end. They stay written down.
    pub survivors: usize,
}

/// Writes into a ledger, if there is one. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Book(Option<Arc<Open>>);

struct Open {
    ledger: Arc<dyn Ledger>,
    boot: String,
}

/// What a written line is worth now.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Gone,
    Stranger,
}

impl Book {
    /// Without a boot id nothing written could be trusted, so nothing is written.
    pub(crate) fn new(ledger: Option<Arc<dyn Ledger>>) -> Self {
        let open = || Some(Open { ledger: ledger?, boot: boot()? });
        Self(open().map(Arc::new))
    }

    /// Writes down a child of ours that nobody has reaped yet.
    pub(crate) fn spawned(&self, cookie: &str, pid: u32) {
        let Some(open) = &self.0 else { return };
        if let Some(start_ticks) = start_ticks(pid) {
            open.ledger.spawned(Spawned { cookie: cookie.to_owned(), pid, start_ticks, boot: open.boot.clone() });
        }
    }

    /// Nothing of the tree is left.
    pub(crate) fn gone(&self, cookie: &str) {
        if let Some(open) = &self.0 {
            open.ledger.gone(cookie);
        }
    }

    /// Ends what is left of earlier processes of ours.
    pub(crate) async fn sweep(&self) -> SweepReport {
        let mut report = SweepReport::default();
        let Some(open) = self.0.clone() else { return report };
        // A ledger is a file; reading it, and looking into /proc, are not for this thread.
        let read = move || {
            let leftovers = open.ledger.leftovers();
            let verdicts: Vec<Verdict> = leftovers.iter().map(|spawned| judge(spawned, &open.boot)).collect();
            leftovers.into_iter().zip(verdicts).collect::<Vec<_>>()
        };
        let judged = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        for (spawned, verdict) in judged {
            report.found += 1;
            match verdict {
                Verdict::Gone => report.gone += 1,
                Verdict::Stranger => report.strangers += 1,
                Verdict::Ours => {
                    report.killed += 1;
                    let marks = Marks { cookie: spawned.cookie.clone().into_bytes(), session: None, group: None };
                    let survivors = sweep(marks).await;
                    if survivors > 0 {
                        report.survivors += survivors;
                        continue;
                    }
                }
            }
            self.gone(&spawned.cookie);
        }
        if report.found > 0 {
            let SweepReport { found, killed, gone, strangers, survivors } = report;
            tracing::info!(found, killed, gone, strangers, survivors, "processes of an earlier run were looked for");
        }
        report
    }
}

#[cfg(target_os = "linux")]
fn judge(spawned: &Spawned, boot: &str) -> Verdict {
    use crate::census::{Cookie, Process};

    // An empty cookie would begin every other one.
    if spawned.boot != boot || spawned.cookie.is_empty() {
        return Verdict::Gone;
    }
    match i32::try_from(spawned.pid).ok().and_then(Process::read) {
        None => Verdict::Gone,
        Some(process) if process.is_zombie => Verdict::Gone,
        Some(process) if process.started != spawned.start_ticks => Verdict::Stranger,
        Some(process) if process.cookie() == Cookie::Some(spawned.cookie.clone().into_bytes()) => Verdict::Ours,
        Some(_) => Verdict::Stranger,
    }
}

#[cfg(not(target_os = "linux"))]
fn judge(_spawned: &Spawned, _boot: &str) -> Verdict {
    Verdict::Gone
}

#[cfg(target_os = "linux")]
fn start_ticks(pid: u32) -> Option<u64> {
    crate::census::Process::read(i32::try_from(pid).ok()?).map(|process| process.started)
}

#[cfg(not(target_os = "linux"))]
fn start_ticks(_pid: u32) -> Option<u64> {
    None
}

/// Names this boot of the machine. `None`: the system does not say.
fn boot() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}
