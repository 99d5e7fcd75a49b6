//! Where a server is. Others read it through the projections; only `transition` writes it.

use std::sync::Arc;
use std::time::Instant;

use ostler_core::Incarnation;
use ostler_core::status::{DeathReason, Fault, ServerState};

use super::ledger::Ledger;
use super::policy::Policy;

/// Everything the machine knows of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) phase: Phase,
    /// When the view last changed.
    pub(super) since: Option<Instant>,
    /// The highest number given out.
    pub(super) incarnation: Option<Incarnation>,
    /// Whether something of the latest incarnation may be left: from its `Connect` to its `Released`.
    pub(super) leased: bool,
    /// Why the last connected incarnation ended, until the next one is connected.
    pub(super) ended: Option<DeathReason>,
    pub(super) restarts: u64,
    pub(super) ledger: Ledger,
    /// Whether the house closes: nothing starts any more.
    pub(super) shut_down: bool,
}

/// The states, each with what only it needs. A permit is out in `Queued` and `Starting`, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Disabled,
    Idle,
    Queued,
    Starting { deadline: Instant },
    Ready { stable_at: Option<Instant> },
    Degraded { misses: u32, stable_at: Option<Instant> },
    Stopping { next: Next },
    Backoff { until: Instant },
    Quarantined { until: Instant },
    NeedsAction { recheck_at: Option<Instant> },
    Stopped,
}

/// What follows once nothing is left of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Queue,
    Backoff { until: Instant },
    Quarantined { until: Instant },
    NeedsAction { recheck_at: Option<Instant> },
    Stopped,
    Disabled,
}

impl State {
    /// A server of which nothing runs: disabled if `policy` says so, else stopped until [`super::Event::Start`].
    pub fn initial(policy: &Policy) -> Self {
        Self {
            phase: if policy.enabled { Phase::Stopped } else { Phase::Disabled },
            since: None,
            incarnation: None,
            leased: false,
            ended: None,
            restarts: 0,
            ledger: Ledger::default(),
            shut_down: false,
        }
    }

    /// The state as everybody names it.
    pub fn view(&self) -> ServerState {
        match self.phase {
            Phase::Disabled => ServerState::Disabled,
            Phase::Idle => ServerState::Idle,
            Phase::Queued => ServerState::Queued,
            Phase::Starting { .. } => ServerState::Starting,
            Phase::Ready { .. } => ServerState::Ready,
            Phase::Degraded { .. } => ServerState::Degraded,
            Phase::Stopping { .. } => ServerState::Stopping,
            Phase::Backoff { .. } => ServerState::Backoff,
            Phase::Quarantined { .. } => ServerState::Quarantined,
            Phase::NeedsAction { .. } => ServerState::NeedsAction,
            Phase::Stopped => ServerState::Stopped,
        }
    }

    /// The current incarnation; the last one if none lives. It is numbered when its permit is asked for.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Failures in a row. Forgiven by a stable run, by a person, and by a recheck.
    pub fn failures(&self) -> u32 {
        self.ledger.failures()
    }

    /// Incarnations that were started after the first.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// When a start that runs now is given up.
    pub fn start_deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Starting { .. }).then(|| self.wake_at()).flatten()
    }

    /// When the next [`super::Event::Tick`] is due. `None`: only an event from outside can change anything.
    pub fn wake_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting { deadline } => Some(deadline),
            Phase::Ready { stable_at } => stable_at,
            Phase::Backoff { until } | Phase::Quarantined { until } => Some(until),
            Phase::NeedsAction { recheck_at } => recheck_at,
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Degraded { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped => None,
        }
    }

    /// When the next start is due, if that is known. It can be later: the gate decides, and what is left of the last
    /// incarnation must be gone.
    pub fn next_try(&self) -> Option<Instant> {
        match self.phase {
            Phase::Backoff { until } | Phase::Quarantined { until } => Some(until),
            Phase::NeedsAction { recheck_at } => recheck_at,
            Phase::Stopping { next } => match next {
                Next::Backoff { until } | Next::Quarantined { until } => Some(until),
                Next::NeedsAction { recheck_at } => recheck_at,
                Next::Queue | Next::Stopped | Next::Disabled => None,
            },
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Stopped => None,
        }
    }

    /// The last fault. It stays until the next one; a stop by a person is none.
    pub fn last_fault(&self) -> Option<&Arc<Fault>> {
        self.ledger.last_fault()
    }

    /// Since when [`State::view`] is what it is. `None` before the first change.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether nothing of any incarnation is left outside.
    pub fn is_released(&self) -> bool {
        !self.leased
    }

    /// Whether the house closes: nothing starts any more.
    pub fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// The incarnation whose permit is asked for or held, if one is.
    pub(crate) fn permit(&self) -> Option<Incarnation> {
        self.incarnation.filter(|_| matches!(self.phase, Phase::Queued | Phase::Starting { .. }))
    }

    /// What was counted and said of the current streak.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
