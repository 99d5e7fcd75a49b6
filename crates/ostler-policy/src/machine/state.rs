//! Where a server is. Others read it through the projections; only the modules beside this one write it.

use std::sync::Arc;
use std::time::Instant;

use ostler_core::Incarnation;
use ostler_core::status::{DeathReason, Fault, ServerState};

use super::ledger::Ledger;
use super::policy::Policy;

/// Everything the machine knows of one server. Cheap to clone: what grows in it is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) phase: Phase,
    /// When the view last changed.
    pub(super) since: Option<Instant>,
    /// The highest number given out.
    pub(super) incarnation: Option<Incarnation>,
    /// Whether something of the latest incarnation may be left: from its `Connect` to its `Released`, or until it is
    /// given up as a zombie.
    pub(super) leased: bool,
    /// Why the last connected incarnation ended, until the next one is connected. Nothing of the kind if it was put to
    /// sleep: waking it is no restart.
    pub(super) ended: Option<DeathReason>,
    pub(super) restarts: u64,
    pub(super) ledger: Ledger,
    pub(super) house: House,
}

/// What the server knows of the house that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum House {
    Open,
    /// Nothing starts any more. It keeps where the server was parked when that was said.
    Closing {
        parked: Option<Parking>,
    },
}

/// Where a server stands that does not run, and when it is tried again.
pub(super) type Parking = (ServerState, Option<Instant>);

/// The states, each with what only it needs. A permit is out in `Queued` and `Starting`, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Disabled,
    Idle,
    Queued,
    Starting { deadline: Instant },
    Ready { watch: Watch },
    Degraded { misses: u32, watch: Watch },
    Stopping { next: Next, patience: Instant },
    Backoff { until: Instant },
    Quarantined { until: Instant },
    NeedsAction { recheck_at: Option<Instant> },
    Stopped { rest: Rest },
}

/// What a server that serves waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watch {
    /// When its failures are forgiven. `None`: they have been.
    pub(super) stable_at: Option<Instant>,
    pub(super) probe_at: Option<Instant>,
    /// Until when it asked to be left alone.
    pub(super) held_until: Option<Instant>,
}

impl Watch {
    /// The same, as a state that is entered at `now` has it: what is overdue is due.
    pub(super) fn from(self, now: Instant) -> Self {
        Self {
            stable_at: self.stable_at.map(|at| at.max(now)),
            probe_at: self.probe_at.map(|at| at.max(now)),
            held_until: self.held_until.filter(|until| *until > now),
        }
    }
}

/// Why a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rest {
    /// Nobody has started it yet.
    New,
    /// Its restart policy wants no more.
    Over,
    /// A person said so.
    Ordered,
}

/// What follows once nothing is left of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Queue,
    Idle,
    Backoff { until: Instant },
    Quarantined { until: Instant },
    NeedsAction { recheck_at: Option<Instant> },
    Stopped { rest: Rest },
    Disabled,
}

impl State {
    /// A server of which nothing runs: disabled if `policy` says so, else stopped until [`super::Event::Start`].
    pub fn initial(policy: &Policy) -> Self {
        Self {
            phase: if policy.enabled { Phase::Stopped { rest: Rest::New } } else { Phase::Disabled },
            since: None,
            incarnation: None,
            leased: false,
            ended: None,
            restarts: 0,
            ledger: Ledger::default(),
            house: House::Open,
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
            Phase::Stopped { .. } => ServerState::Stopped,
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

    /// Incarnations that were started after the first, without those that a call woke from sleep.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// When a start that runs now is given up.
    pub fn start_deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Starting { .. }).then(|| self.wake_at()).flatten()
    }

    /// Until when calls are to wait because the server asked for it.
    pub fn held_until(&self) -> Option<Instant> {
        self.watch().and_then(|watch| watch.held_until)
    }

    /// Whether it waits for its first [`super::Event::Start`]: it is new, or what is remembered of it says so. A server
    /// that came back parked does not.
    pub fn awaits_start(&self) -> bool {
        self.phase == Phase::Stopped { rest: Rest::New } && !self.is_shut_down()
    }

    /// When the next [`super::Event::Tick`] is due. `None`: only an event from outside can change anything.
    pub fn wake_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting { deadline } => Some(deadline),
            Phase::Ready { watch } => [watch.stable_at, watch.probe_at, watch.held_until].into_iter().flatten().min(),
            Phase::Degraded { watch, .. } => [watch.probe_at, watch.held_until].into_iter().flatten().min(),
            Phase::Stopping { patience, .. } => Some(patience),
            Phase::Backoff { until } | Phase::Quarantined { until } => Some(until),
            Phase::NeedsAction { recheck_at } => recheck_at,
            Phase::Disabled | Phase::Idle | Phase::Queued | Phase::Stopped { .. } => None,
        }
    }

    /// When the next start is due, if that is known. It can be later: the gate decides, and what is left of the last
    /// incarnation must be gone.
    pub fn next_try(&self) -> Option<Instant> {
        self.parking().and_then(|(_, until)| until)
    }

    /// The last fault. It stays until the next one; a stop by a person is none.
    pub fn last_fault(&self) -> Option<&Arc<Fault>> {
        self.ledger.last_fault()
    }

    /// Since when [`State::view`] is what it is. `None` before the first change.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether nothing of any incarnation is left outside, or what is left was given up.
    pub fn is_released(&self) -> bool {
        !self.leased
    }

    /// Whether the house closes: nothing starts any more.
    pub fn is_shut_down(&self) -> bool {
        self.house != House::Open
    }

    /// Where it is parked, or will be once nothing is left of the last incarnation.
    pub(super) fn parking(&self) -> Option<Parking> {
        let next = match self.phase {
            Phase::Stopping { next, .. } => next,
            Phase::Backoff { until } => Next::Backoff { until },
            Phase::Quarantined { until } => Next::Quarantined { until },
            Phase::NeedsAction { recheck_at } => Next::NeedsAction { recheck_at },
            Phase::Stopped { rest } => Next::Stopped { rest },
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. } => return None,
        };
        match next {
            Next::Backoff { until } => Some((ServerState::Backoff, Some(until))),
            Next::Quarantined { until } => Some((ServerState::Quarantined, Some(until))),
            Next::NeedsAction { recheck_at } => Some((ServerState::NeedsAction, recheck_at)),
            Next::Stopped { rest: Rest::Ordered } => Some((ServerState::Stopped, None)),
            Next::Stopped { rest: Rest::New | Rest::Over } | Next::Queue | Next::Idle | Next::Disabled => None,
        }
    }

    pub(super) fn watch(&self) -> Option<Watch> {
        match self.phase {
            Phase::Ready { watch } | Phase::Degraded { watch, .. } => Some(watch),
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped { .. } => None,
        }
    }

    // ---- For the invariants ----------------------------------------------------------------------------------------

    /// The view once nothing is left of the last incarnation.
    pub(crate) fn destination(&self) -> ServerState {
        match self.phase {
            Phase::Stopping { next, .. } => match next {
                Next::Queue => ServerState::Queued,
                Next::Idle => ServerState::Idle,
                Next::Backoff { .. } => ServerState::Backoff,
                Next::Quarantined { .. } => ServerState::Quarantined,
                Next::NeedsAction { .. } => ServerState::NeedsAction,
                Next::Stopped { .. } => ServerState::Stopped,
                Next::Disabled => ServerState::Disabled,
            },
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped { .. } => self.view(),
        }
    }

    /// The incarnation whose permit is asked for or held, if one is.
    pub(crate) fn permit(&self) -> Option<Incarnation> {
        self.incarnation.filter(|_| matches!(self.phase, Phase::Queued | Phase::Starting { .. }))
    }

    /// What was counted and said of the current streak.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When a run that is not stable yet will be, unless probes are missed.
    pub(crate) fn stable_at(&self) -> Option<Instant> {
        self.watch().filter(|_| matches!(self.phase, Phase::Ready { .. })).and_then(|watch| watch.stable_at)
    }

    /// When the next probe is due.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.watch().and_then(|watch| watch.probe_at)
    }

    /// How many probes in a row were missed.
    pub(crate) fn misses(&self) -> u32 {
        if let Phase::Degraded { misses, .. } = self.phase { misses } else { 0 }
    }
}
