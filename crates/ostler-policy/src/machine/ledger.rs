//! The account of one server's failures in a row, of its restarts over time, and of what was said about them.
//!
//! A streak begins with a failure and ends with a stable run or a person's order. Each notice is given once a streak.
//! Restarts are counted across streaks, so that a server that always recovers for a while is found out too.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::ServerState;
use ostler_core::status::{Fault, FaultClass, Notice};

use super::policy::{Intensity, Policy};
use crate::gate::StartClass;

/// Failures in a row, the last of them, the restarts of late, and the notices given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    failures: u32,
    last_fault: Option<Arc<Fault>>,
    /// When it was restarted, oldest first; at most one more than the intensity bears. `None`: never of late.
    restarted: Option<Arc<[Instant]>>,
    told: Told,
    /// Whether somebody was told of trouble and waits to hear that it is over. Outlives a streak that a person ended.
    recovery_owed: bool,
}

/// Which notices the current streak has had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) failing: bool,
    pub(crate) quarantined: bool,
    /// One for each kind of action that was asked for.
    pub(crate) action: BTreeSet<FaultClass>,
}

impl Ledger {
    /// The account of a server that stood in `parked` when it was written down.
    pub(super) fn restored(
        failures: u32,
        failing: bool,
        parked: Option<ServerState>,
        last_fault: Option<Arc<Fault>>,
    ) -> Self {
        let quarantined = parked == Some(ServerState::Quarantined);
        let acting = last_fault.as_ref().filter(|_| parked == Some(ServerState::NeedsAction));
        let action: BTreeSet<FaultClass> = acting.map(|fault| fault.class).into_iter().collect();
        let recovery_owed = failing || quarantined || !action.is_empty();
        Self { failures, last_fault, restarted: None, told: Told { failing, quarantined, action }, recovery_owed }
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Whether somebody waits to hear that all is well again.
    #[cfg(test)]
    pub(super) fn owes_recovery(&self) -> bool {
        self.recovery_owed
    }

    pub(super) fn last_fault(&self) -> Option<&Arc<Fault>> {
        self.last_fault.as_ref()
    }

    /// The restarts of late, oldest first.
    pub(crate) fn restarted(&self) -> &[Instant] {
        self.restarted.as_deref().unwrap_or_default()
    }

    /// Which line the next start waits in: whoever has failed lets others pass, and a required server is one line ahead.
    pub(super) fn class(&self, policy: &Policy) -> StartClass {
        match (self.failures, policy.required) {
            (0, true) => StartClass::Required,
            (0, false) | (_, true) => StartClass::Fresh,
            (_, false) => StartClass::Retry,
        }
    }

    /// Remembers a fault without counting it.
    pub(super) fn note(&mut self, fault: &Arc<Fault>) {
        self.last_fault = Some(Arc::clone(fault));
    }

    /// Remembers and counts a failure. Returns how many in a row that makes.
    pub(super) fn count(&mut self, fault: &Arc<Fault>) -> NonZeroU32 {
        self.note(fault);
        let failures = NonZeroU32::MIN.saturating_add(self.failures);
        self.failures = failures.get();
        failures
    }

    /// Counts a restart at `now`. Returns how many that makes within the window, up to one more than it bears.
    pub(super) fn restart(&mut self, intensity: Intensity, now: Instant) -> u32 {
        let bound = usize::try_from(intensity.restarts.get()).unwrap_or(usize::MAX).saturating_add(1);
        let mut kept: Vec<Instant> = self.restarted().to_vec();
        kept.retain(|at| now.saturating_duration_since(*at) <= intensity.within);
        kept.push(now);
        let surplus = kept.len().saturating_sub(bound);
        kept.drain(..surplus);
        let count = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        self.restarted = Some(kept.into());
        count
    }

    /// The notice that it fails again and again, if `limit` is reached and the streak has not had it.
    pub(super) fn failing(&mut self, limit: Option<NonZeroU32>) -> Option<Notice> {
        let last = self.last_fault.clone()?;
        if self.told.failing || limit.is_none_or(|limit| self.failures < limit.get()) {
            return None;
        }
        self.told.failing = true;
        self.recovery_owed = true;
        Some(Notice::FailingRepeatedly { failures: self.failures, last })
    }

    /// The notice that it is put aside, if the streak has not had it. It says the failures in a row, or the restarts of
    /// late if those were more.
    pub(super) fn quarantined(&mut self) -> Option<Notice> {
        let last = self.last_fault.clone()?;
        if self.told.quarantined {
            return None;
        }
        self.told.quarantined = true;
        self.recovery_owed = true;
        let failures = self.failures.max(u32::try_from(self.restarted().len()).unwrap_or(u32::MAX));
        Some(Notice::Quarantined { failures, last })
    }

    /// The notice that somebody must act, if the streak has not had it for this kind of fault.
    pub(super) fn needs_action(&mut self) -> Option<Notice> {
        let last = self.last_fault.clone()?;
        if !self.told.action.insert(last.class) {
            return None;
        }
        self.recovery_owed = true;
        Some(Notice::NeedsAction(last))
    }

    /// Counts from nought again within the same streak: for a recheck.
    pub(super) fn recount(&mut self) {
        self.failures = 0;
    }

    /// Ends the streak because a person said so. That forgives all restarts, too.
    pub(super) fn pardon(&mut self) {
        self.end_streak();
        self.restarted = None;
    }

    /// Ends the streak because the server is not wanted any more: nobody waits to hear that it is well.
    pub(super) fn close(&mut self) {
        self.pardon();
        self.recovery_owed = false;
    }

    /// Ends the streak because the server ran well. Returns the good news, if somebody waits for it.
    pub(super) fn settle(&mut self) -> Option<Notice> {
        self.end_streak();
        std::mem::take(&mut self.recovery_owed).then_some(Notice::Recovered)
    }

    fn end_streak(&mut self) {
        self.failures = 0;
        self.told = Told::default();
    }
}

/// How many of the moments in `restarted` are within the window that ends at `now`.
pub(crate) fn of_late(restarted: &[Instant], within: Duration, now: Instant) -> usize {
    restarted.iter().filter(|at| now.saturating_duration_since(**at) <= within).count()
}
