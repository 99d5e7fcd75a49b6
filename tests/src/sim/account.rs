//! What is known of one server from outside, and what follows from it: a second, simpler opinion on the policy.
//!
//! It is never stricter than the policy: where messages may cross, it gives the server the benefit of the doubt.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::status::{Fault, FaultClass, Notice};
use ostler_core::{Incarnation, ServerState};
use ostler_policy::machine::{HOST_PAUSE, Policy, RETRY_ON_CALL, Restart};

/// Timers are exact to a millisecond.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// How long after a removal a server's tools may still be there: its stop, and the last of its processes.
const REMOVAL: Duration = Duration::from_secs(30);

pub(super) struct Account {
    pub(super) policy: Arc<Policy>,
    /// The life that exists now: it has taken the lease and not given it back.
    pub(super) holder: Option<Incarnation>,
    /// The highest number that was seen since the server was configured.
    pub(super) highest: Option<Incarnation>,
    /// The names of all tools that it ever had.
    pub(super) known: BTreeSet<String>,
    /// When it was last told to do something, or was reconfigured.
    pub(super) ordered_at: Option<Instant>,
    /// Where the last event left it.
    pub(super) state: Option<ServerState>,
    pub(super) listing: Listing,
    /// Failures in a row, at least.
    failures: u32,
    /// When the next start may be, and why.
    next: Next,
    up_at: Option<Instant>,
    told: BTreeSet<String>,
    /// Whether an order is the reason of whatever happens until the next life begins.
    is_excused: bool,
    /// Whether another actor may take its place: it was removed, and may have been configured again.
    may_begin_anew: bool,
    /// Until when an earlier actor of the same name may still be leaving. What is ordered meanwhile comes later.
    leaving_until: Option<Instant>,
}

/// What the list of tools must say of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// Nothing yet.
    Open { since: Instant },
    /// Its tools are there, whatever becomes of it.
    There,
    /// Its tools are not there from this moment on.
    Gone { from: Instant },
}

enum Next {
    /// Whenever it wants: nothing failed, or somebody wants it.
    Free,
    Not {
        before: Instant,
        why: String,
    },
    Never {
        why: String,
    },
}

impl Account {
    pub(super) fn new(policy: Arc<Policy>, now: Instant) -> Self {
        Self {
            policy,
            holder: None,
            highest: None,
            known: BTreeSet::new(),
            ordered_at: Some(now),
            state: None,
            listing: Listing::Open { since: now },
            failures: 0,
            next: Next::Free,
            up_at: None,
            told: BTreeSet::new(),
            is_excused: true,
            may_begin_anew: false,
            leaving_until: None,
        }
    }

    /// Somebody ordered something: old failures no longer hold it back, and notices may be given anew.
    pub(super) fn ordered(&mut self, now: Instant) {
        self.ordered_at = Some(now);
        self.failures = 0;
        self.next = Next::Free;
        self.told.clear();
        self.is_excused = true;
    }

    pub(super) fn removed(&mut self, now: Instant) {
        self.highest = None;
        self.may_begin_anew = true;
        self.leaving_until = Some(now + REMOVAL);
        self.stopped(now);
    }

    /// It is stopped, disabled or removed: its tools go, at once or with the actor that leaves.
    pub(super) fn stopped(&mut self, now: Instant) {
        self.listing = Listing::Gone { from: self.leaving_until.map_or(now, |until| until.max(now)) };
    }

    /// Its state changed. Returns whether that follows from where it was.
    pub(super) fn moves(&mut self, from: ServerState, to: ServerState) -> bool {
        let before = self.state.replace(to);
        let is_rest = matches!(from, ServerState::Stopped | ServerState::Disabled);
        before.is_none_or(|before| before == from) || is_rest && std::mem::take(&mut self.may_begin_anew)
    }

    /// A life begins. Errors: it may not yet.
    pub(super) fn begins(&mut self, now: Instant) -> Result<(), String> {
        let verdict = match &self.next {
            Next::Free => Ok(()),
            Next::Not { before, .. } if now + TICK >= *before => Ok(()),
            Next::Not { before, why } => {
                Err(format!("{} ms too soon {why}", before.saturating_duration_since(now).as_millis()))
            }
            Next::Never { why } => Err(format!("without an order {why}")),
        };
        self.up_at = None;
        self.next = Next::Free;
        // An order of this very moment may not have been heard yet.
        self.is_excused = self.ordered_at.is_some_and(|at| at + TICK >= now);
        verdict
    }

    pub(super) fn is_up(&mut self, now: Instant) {
        self.up_at = Some(now);
    }

    /// The life ended by itself.
    pub(super) fn fails(&mut self, now: Instant, fault: &Fault) {
        let up_at = self.up_at.take();
        let lived = up_at.map(|at| now.saturating_duration_since(at));
        let is_stable = lived.is_some_and(|lived| lived + TICK >= self.policy.stable_after);
        if is_stable {
            self.failures = 0;
            self.told.clear();
        }
        if self.is_excused {
            return;
        }
        let served = lived.is_some();
        let class = fault.class;
        let why = format!("after {class} at failure {}", self.failures + 1);
        self.next = match class {
            FaultClass::NotFound | FaultClass::BadConfig if self.policy.restart == Restart::Never => {
                Next::Never { why }
            }
            FaultClass::NotFound | FaultClass::BadConfig => {
                self.failures = 0;
                Next::Not { before: now + self.policy.recheck, why }
            }
            FaultClass::Auth | FaultClass::Consent | FaultClass::Incompatible => Next::Never { why },
            FaultClass::HostResource if served && self.policy.restart == Restart::Never => Next::Never { why },
            FaultClass::HostResource => Next::Not { before: now + HOST_PAUSE, why },
            // It may sleep then, and a call wakes it.
            FaultClass::CleanExit if served && self.policy.restart == Restart::OnFailure && self.policy.lazy => {
                Next::Free
            }
            FaultClass::CleanExit if served && self.policy.restart != Restart::Always => Next::Never { why },
            FaultClass::CrashOnStart
            | FaultClass::CrashRunning
            | FaultClass::CleanExit
            | FaultClass::Hang
            | FaultClass::SlowStart
            | FaultClass::Protocol
            | FaultClass::Oom
            | FaultClass::Network
            | FaultClass::Throttled
            | FaultClass::KilledByUs
                if self.policy.restart == Restart::Never =>
            {
                Next::Never { why }
            }
            // Whoever asks for patience decides how much; it is no failure in a row.
            FaultClass::Throttled => Next::Free,
            FaultClass::CrashOnStart
            | FaultClass::CrashRunning
            | FaultClass::CleanExit
            | FaultClass::Hang
            | FaultClass::SlowStart
            | FaultClass::Protocol
            | FaultClass::Oom
            | FaultClass::Network
            | FaultClass::KilledByUs => {
                self.failures += 1;
                Next::Not { before: now + self.shortest(is_stable), why }
            }
        };
    }

    /// The runtime gave the life up without an order: a start that took too long, a server that hangs.
    pub(super) fn is_given_up(&mut self, now: Instant) {
        self.fails(now, &Fault::new(FaultClass::Hang, "given up"));
    }

    fn shortest(&self, is_stable: bool) -> Duration {
        let failures = NonZeroU32::new(self.failures).unwrap_or(NonZeroU32::MIN);
        if self.policy.quarantine_after.is_some_and(|limit| failures >= limit) {
            // A call may ask for it before its time.
            return RETRY_ON_CALL;
        }
        if is_stable { Duration::ZERO } else { self.policy.schedule.delay(failures, 0.0) }
    }

    /// A notice is given. Errors: it was given before in this streak.
    pub(super) fn noticed(&mut self, notice: &Notice, now: Instant) -> Result<(), String> {
        let kind = match notice {
            Notice::FailingRepeatedly { .. } => "failing".to_owned(),
            Notice::Quarantined { .. } => "quarantined".to_owned(),
            Notice::NeedsAction(fault) => format!("needs action: {}", fault.class),
            Notice::Recovered => {
                self.told.clear();
                return Ok(());
            }
            // These are about no streak of this server.
            Notice::Catalogue(_) | Notice::Together(_) | Notice::HostProblem => return Ok(()),
        };
        // A stable run ends a streak, and so does a person: one who did so just now may not have been heard yet.
        let is_stable =
            self.up_at.is_some_and(|at| now.saturating_duration_since(at) + TICK >= self.policy.stable_after);
        let is_ordered = self.ordered_at.is_some_and(|at| now.saturating_duration_since(at) <= TICK);
        if is_stable || is_ordered {
            self.told.clear();
        }
        if self.told.insert(kind) { Ok(()) } else { Err(format!("said again: {notice}")) }
    }

    /// The server is ready: its tools must be listed from now on, unless it was sent away in this very moment.
    pub(super) fn is_ready(&mut self, now: Instant) {
        match self.listing {
            Listing::Open { since } | Listing::Gone { from: since } if now > since + TICK => {
                self.listing = Listing::There;
            }
            Listing::Open { .. } | Listing::There | Listing::Gone { .. } => {}
        }
    }
}
