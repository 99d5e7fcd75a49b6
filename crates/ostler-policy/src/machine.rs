//! The life of one server, as one function: [`step`]. It is the only state machine of the house.
//!
//! It decides what follows from an event and says so in effects; it spawns, waits, counts and logs nothing. There is one
//! deadline instead of many timers: after each step the shell arms one timer for [`State::wake_at`] and sends
//! [`Event::Tick`] when it is due. A tick that is early or late does no harm.
//!
//! Neighbours: `ledger` (failures in a row and what was said of them), `transition` with `serving` and `verdict` (what
//! each event does in each state), `memory` (what outlives our process), `crate::invariant` (what every step keeps).

mod ledger;
mod memory;
mod policy;
mod serving;
mod state;
mod transition;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::Incarnation;
use ostler_core::status::{DeathReason, Fault, Notice};

pub(crate) use self::ledger::of_late;
pub use self::memory::Remembered;
pub use self::policy::{Intensity, KILL_PATIENCE, OnRestart, Policy, Restart};
pub use self::state::State;
use self::transition::Transition;
pub use crate::gate::StartClass;
use crate::invariant;

/// How many probes in a row a server may miss before it counts as hung.
pub const PROBE_MISSES: u32 = 3;

/// How long a server may ask to be left alone at a time.
pub const MAX_HOLD: Duration = Duration::from_mins(5);

/// How long all starts wait after one failed because this host is short of something.
pub const HOST_PAUSE: Duration = Duration::from_secs(5);

/// How long after its last failure a quarantined server is tried again because somebody calls it.
pub const RETRY_ON_CALL: Duration = Duration::from_secs(30);

/// What happened.
///
/// What the world reports carries its incarnation. If that is not the current one, the event is dropped; if it is, and
/// the state no longer waits for it, it is ignored: both happen when messages cross.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server is wanted: at boot, after it was enabled, or by a person. Ignored if the policy disables it.
    ///
    /// While it waits for its next try, this is the next try, and the failures are forgiven. A lazy server that is
    /// stopped only becomes idle by it; sent to an idle one it is a start.
    Start,
    /// A person stops it.
    Stop,
    /// A person wants it started anew, whatever it does now. The failures are forgiven.
    Restart,
    /// The configuration switches it off. Another start needs a policy that enables it.
    Disable,
    /// The house closes. Nothing is started after this.
    Shutdown,
    /// The gate grants the start that was asked for.
    Permit {
        /// Whose start.
        incarnation: Incarnation,
    },
    /// The incarnation has shaken hands, and its lists are here.
    Up {
        /// Which one.
        incarnation: Incarnation,
    },
    /// The incarnation is dead or never came to be. What is left of it may still be on its way out. Not needed after
    /// [`Effect::Disconnect`].
    Down {
        /// Which one.
        incarnation: Incarnation,
        /// Why.
        fault: Arc<Fault>,
    },
    /// Nothing is left of the incarnation: its lease was dropped. Exactly one follows each [`Effect::Connect`], and the
    /// next start waits for it, unless [`Effect::Zombie`] was faster. It may come before [`Event::Down`] and does not
    /// replace it.
    Released {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Somebody calls a tool of this server.
    Called,
    /// The policy's `idle_stop` has passed without a call, and none is in flight.
    Idle {
        /// Which one.
        incarnation: Incarnation,
    },
    /// The incarnation asked to be left alone for a while. See [`State::held_until`].
    Throttled {
        /// Which one.
        incarnation: Incarnation,
        /// Until when. At most [`MAX_HOLD`] counts.
        until: Instant,
    },
    /// The incarnation answered a probe.
    ProbeOk {
        /// Which one.
        incarnation: Incarnation,
    },
    /// The incarnation did not answer a probe, and no call that it may be busy with is within its deadline.
    ProbeMissed {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Time has passed. Due at [`State::wake_at`].
    Tick,
}

impl Event {
    /// The incarnation that reports it, if one does.
    pub fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Start | Self::Stop | Self::Restart | Self::Disable | Self::Shutdown | Self::Called | Self::Tick => {
                None
            }
            Self::Permit { incarnation }
            | Self::Up { incarnation }
            | Self::Down { incarnation, .. }
            | Self::Released { incarnation }
            | Self::Idle { incarnation }
            | Self::Throttled { incarnation, .. }
            | Self::ProbeOk { incarnation }
            | Self::ProbeMissed { incarnation } => Some(*incarnation),
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Asks the gate for a start. Each is followed by exactly one [`Effect::ReturnPermit`] with the same number.
    RequestPermit {
        /// Whose start: a new number, one above the last.
        incarnation: Incarnation,
        /// Which line it waits in.
        class: StartClass,
    },
    /// Gives the permit back, or takes the request back if it was not granted yet.
    ReturnPermit {
        /// Whose.
        incarnation: Incarnation,
    },
    /// Starts the incarnation. Nothing of an earlier one is left that was not given up.
    Connect {
        /// Which one.
        incarnation: Incarnation,
        /// When it has failed unless it is up.
        deadline: Instant,
    },
    /// Ends the incarnation, or the try to start it.
    Disconnect {
        /// Which one.
        incarnation: Incarnation,
        /// How long it may take before it is killed.
        grace: Duration,
    },
    /// Asks the incarnation whether it lives. Answered with [`Event::ProbeOk`] or [`Event::ProbeMissed`]. Not answered at
    /// all, if calls that are within their deadlines keep it busy.
    Probe {
        /// Which one.
        incarnation: Incarnation,
        /// When it has missed the probe.
        deadline: Instant,
    },
    /// What is left of the incarnation cannot be ended: its lease is taken away, so that the next one can start. It must
    /// be able to answer nothing any more, and somebody should look at the host.
    Zombie {
        /// Which one.
        incarnation: Incarnation,
    },
    /// Tells whoever runs the fleet.
    Notify(Notice),
    /// The start that follows in the same step is not the first; the incarnation before it ended for this reason.
    Restarted(DeathReason),
    /// The server's tools leave the namespace: it was disabled, or stopped by a person. Harmless if they have left.
    Retract,
    /// The event was another incarnation's and has been dropped.
    Stale,
    /// This host is short of something: no server is to start for this long.
    PauseGate(Duration),
}

/// What `event`, happening at `now`, makes of `state`, and what is to be done about it.
///
/// Pure: the same arguments give the same answer. `now` must not go back from step to step. `jitter`, from 0.0 to 1.0,
/// picks the delay within its bounds; outside of them it counts as the nearer end. A debug build checks every
/// invariant of [`crate::invariant`] here and panics on one that is broken.
#[must_use = "the state moves on only if the new one is kept, and its effects are orders"]
pub fn step(policy: &Policy, state: &State, event: Event, now: Instant, jitter: f64) -> (State, Vec<Effect>) {
    let seen = cfg!(debug_assertions).then(|| event.clone());
    let (after, effects) = Transition::new(policy, state, now, jitter).apply(event);
    if let Some(event) = seen {
        let step = invariant::Step { policy, before: state, event: &event, now, after: &after, effects: &effects };
        debug_assert!(invariant::broken(&step).is_none(), "{:?} is broken: {step:#?}", invariant::broken(&step));
    }
    (after, effects)
}

#[cfg(test)]
mod tests;
