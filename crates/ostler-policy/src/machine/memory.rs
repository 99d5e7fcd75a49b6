//! What outlives the process of one machine, and how a machine begins from it.
//!
//! Times go in and out as what remains of them: the clock of the next process is another one. Whoever keeps them makes
//! wall-clock times of them; what a jump of that clock makes of them is bounded here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::status::{Fault, ServerState};

use super::ledger::Ledger;
use super::policy::{Policy, Restart, after};
use super::state::{House, Phase, Rest, State};

/// What is worth remembering of a server while we do not run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// Failures in a row.
    pub failures: u32,
    /// Whether somebody was told of this streak.
    pub told: bool,
    /// Where it stood if it was not running: `Backoff`, `Quarantined`, `NeedsAction`, or `Stopped` by a person; and how
    /// long it was until the next try. `None`: it is to be started.
    pub parked: Option<(ServerState, Option<Duration>)>,
    /// The last fault.
    pub fault: Option<Arc<Fault>>,
}

impl State {
    /// What is to be remembered of it at `now`. A shutdown is no reason to stay stopped: from then on it is what it was
    /// at the shutdown.
    pub fn remember(&self, now: Instant) -> Remembered {
        let parking = match self.house {
            House::Open => self.parking(),
            House::Closing { parked } => parked,
        };
        Remembered {
            failures: self.ledger.failures(),
            told: self.ledger.told().failing,
            parked: parking.map(|(view, until)| (view, until.map(|at| at.saturating_duration_since(now)))),
            fault: self.last_fault().cloned(),
        }
    }

    /// The machine of a server of which this is remembered.
    ///
    /// What was parked is parked again, for what remained, but no longer than `policy` would ever make it wait. Anything
    /// else waits for [`super::Event::Start`], and its failures are not forgiven by that: see [`State::awaits_start`].
    pub fn restore(policy: &Policy, remembered: &Remembered, now: Instant) -> Self {
        let new = Self::initial(policy);
        if !policy.enabled {
            return new;
        }
        let (view, remaining) = remembered.parked.unzip();
        let within = |longest: Duration| after(now, remaining.flatten().map_or(longest, |left| left.min(longest)));
        let phase = match view {
            Some(ServerState::Quarantined) if policy.quarantine_after.is_some() => {
                Phase::Quarantined { until: within(policy.quarantine(1.0)) }
            }
            Some(ServerState::Backoff | ServerState::Quarantined) => {
                Phase::Backoff { until: within(policy.schedule.cap()) }
            }
            // What a person had to do may have been done while we did not run: it is looked at again once.
            Some(ServerState::NeedsAction) => {
                let again = policy.restart != Restart::Never;
                Phase::NeedsAction { recheck_at: again.then(|| within(policy.recheck)) }
            }
            Some(ServerState::Stopped) => Phase::Stopped { rest: Rest::Ordered },
            Some(
                ServerState::Disabled
                | ServerState::Idle
                | ServerState::Queued
                | ServerState::Starting
                | ServerState::Ready
                | ServerState::Degraded
                | ServerState::Stopping,
            )
            | None => new.phase,
        };
        let ledger = Ledger::restored(remembered.failures, remembered.told, view, remembered.fault.clone());
        Self { phase, since: view.map(|_| now), ledger, ..new }
    }
}
