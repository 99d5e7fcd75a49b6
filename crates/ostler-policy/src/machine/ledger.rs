//! The account of one server's failures in a row, and of what was said about them.
//!
//! A streak begins with a failure and ends with a stable run or a person's order. Each notice is given once a streak.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use ostler_core::status::{Fault, FaultClass, Notice};

use crate::gate::StartClass;

/// Failures in a row, the last of them, and the notices given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    failures: u32,
    last_fault: Option<Arc<Fault>>,
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
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    pub(super) fn last_fault(&self) -> Option<&Arc<Fault>> {
        self.last_fault.as_ref()
    }

    /// Which line the next start waits in: whoever has failed lets others pass.
    pub(super) fn class(&self) -> StartClass {
        if self.failures == 0 { StartClass::Fresh } else { StartClass::Retry }
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

    /// The notice that it is put aside, if the streak has not had it.
    pub(super) fn quarantined(&mut self) -> Option<Notice> {
        let last = self.last_fault.clone()?;
        if self.told.quarantined {
            return None;
        }
        self.told.quarantined = true;
        self.recovery_owed = true;
        Some(Notice::Quarantined { failures: self.failures, last })
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

    /// Ends the streak because a person said so.
    pub(super) fn pardon(&mut self) {
        self.failures = 0;
        self.told = Told::default();
    }

    /// Ends the streak because the server is not wanted any more: nobody waits to hear that it is well.
    pub(super) fn close(&mut self) {
        self.pardon();
        self.recovery_owed = false;
    }

    /// Ends the streak because the server ran well. Returns the good news, if somebody waits for it.
    pub(super) fn settle(&mut self) -> Option<Notice> {
        self.pardon();
        std::mem::take(&mut self.recovery_owed).then_some(Notice::Recovered)
    }
}
