//! What each event does in each state: one method an event. The orders and the life of an incarnation are here; what a
//! fault leads to is in `verdict`, what happens while it serves in `serving`.
//!
//! One incarnation at a time: `Queued` is entered by `queue` alone, and `go` holds everything that leads there back in
//! `Stopping` until the lease of the last incarnation is dropped. A death that happened by itself is shown at once, with
//! its delay running; an end that we ordered is shown as `Stopping` until nothing is left, and then as what follows.

use std::sync::Arc;
use std::time::Instant;

use ostler_core::Incarnation;
use ostler_core::status::{DeathReason, Fault, FaultClass};

use super::policy::{Policy, after};
use super::state::{House, Next, Phase, Rest, State};
use super::{Effect, Event, RETRY_ON_CALL};
use crate::schedule::unit;

/// One step in the making.
pub(super) struct Transition<'a> {
    pub(super) policy: &'a Policy,
    before: &'a State,
    pub(super) state: State,
    pub(super) now: Instant,
    pub(super) jitter: f64,
    pub(super) effects: Vec<Effect>,
}

impl<'a> Transition<'a> {
    pub(super) fn new(policy: &'a Policy, before: &'a State, now: Instant, jitter: f64) -> Self {
        Self { policy, before, state: before.clone(), now, jitter: unit(jitter), effects: Vec::new() }
    }

    pub(super) fn apply(mut self, event: Event) -> (State, Vec<Effect>) {
        if event.incarnation().is_some_and(|incarnation| self.state.incarnation != Some(incarnation)) {
            return (self.state, vec![Effect::Stale]);
        }
        match event {
            Event::Start => self.start(),
            Event::Stop => self.stop(Next::Stopped { rest: Rest::Ordered }),
            Event::Restart => self.restart(),
            Event::Disable => self.stop(Next::Disabled),
            Event::Shutdown => self.shut_down(),
            Event::Permit { incarnation } => self.permit(incarnation),
            Event::Up { incarnation } => self.up(incarnation),
            Event::Down { fault, .. } => self.down(&fault),
            Event::Released { .. } => self.released(),
            Event::Called => self.called(),
            Event::Idle { .. } => self.idle(),
            Event::Throttled { until, .. } => self.throttled(until),
            Event::ProbeOk { .. } => self.probe_ok(),
            Event::ProbeMissed { .. } => self.probe_missed(),
            Event::Tick => self.tick(),
        }
        if self.state.view() != self.before.view() {
            self.state.since = Some(self.now);
        }
        (self.state, self.effects)
    }

    // ---- Orders ----------------------------------------------------------------------------------------------------

    fn may_start(&self) -> bool {
        self.policy.enabled && !self.state.is_shut_down()
    }

    fn start(&mut self) {
        if !self.may_start() {
            return;
        }
        match self.state.phase {
            // What is remembered of its failures holds: nobody has asked for this start, it is just the first.
            Phase::Stopped { rest: Rest::New } => self.go(self.first()),
            Phase::Disabled | Phase::Stopped { .. } if self.policy.lazy => {
                self.state.ledger.pardon();
                self.go(Next::Idle);
            }
            Phase::Disabled
            | Phase::Stopped { rest: Rest::Over | Rest::Ordered }
            | Phase::Idle
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. } => self.start_anew(),
            Phase::Queued | Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } => {}
        }
    }

    fn first(&self) -> Next {
        if self.policy.lazy { Next::Idle } else { Next::Queue }
    }

    fn restart(&mut self) {
        if !self.may_start() {
            return;
        }
        if self.state.phase == Phase::Queued && self.state.failures() == 0 {
            return self.state.ledger.pardon();
        }
        self.let_go(DeathReason::Operator);
        self.start_anew();
    }

    fn start_anew(&mut self) {
        self.state.ledger.pardon();
        self.go(Next::Queue);
    }

    /// Ends what runs, in favour of `Stopped` or `Disabled`. A disabled server cannot be stopped further.
    fn stop(&mut self, next: Next) {
        if self.is_disabled() || self.state.is_shut_down() {
            return;
        }
        self.let_go(DeathReason::Operator);
        self.effects.push(Effect::Retract);
        self.state.ledger.close();
        self.go(next);
    }

    fn shut_down(&mut self) {
        if self.state.is_shut_down() {
            return;
        }
        self.state.house = House::Closing { parked: self.before.parking() };
        self.let_go(DeathReason::Operator);
        self.go(if self.is_disabled() { Next::Disabled } else { Next::Stopped { rest: Rest::Over } });
    }

    fn is_disabled(&self) -> bool {
        matches!(self.state.phase, Phase::Disabled | Phase::Stopping { next: Next::Disabled, .. })
    }

    fn called(&mut self) {
        match self.state.phase {
            Phase::Idle | Phase::Stopping { next: Next::Idle, .. } => self.go(Next::Queue),
            Phase::Quarantined { .. } => {
                let failed_at = self.state.since.unwrap_or(self.now);
                if self.now >= after(failed_at, RETRY_ON_CALL) {
                    self.go(Next::Queue);
                }
            }
            Phase::Disabled
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped { .. } => {}
        }
    }

    // ---- The life of an incarnation --------------------------------------------------------------------------------

    fn permit(&mut self, incarnation: Incarnation) {
        if self.state.phase != Phase::Queued {
            return;
        }
        if let Some(reason) = self.state.ended.take() {
            self.state.restarts += 1;
            self.effects.push(Effect::Restarted(reason));
        }
        let deadline = after(self.now, self.policy.start_timeout);
        self.state.leased = true;
        self.state.phase = Phase::Starting { deadline };
        self.effects.push(Effect::Connect { incarnation, deadline });
    }

    fn up(&mut self, incarnation: Incarnation) {
        if let Phase::Starting { .. } = self.state.phase {
            self.effects.push(Effect::ReturnPermit { incarnation });
            self.state.phase = Phase::Ready { watch: self.first_watch() };
        }
    }

    /// A death that happened by itself: what follows is shown at once, though the lease may still be out.
    fn down(&mut self, fault: &Arc<Fault>) {
        if !self.is_live() {
            return;
        }
        let next = self.judge(fault);
        if let Phase::Starting { .. } = self.state.phase {
            self.effects.extend(self.state.permit().map(|incarnation| Effect::ReturnPermit { incarnation }));
        }
        self.state.ended = Some(fault.reason);
        match next {
            Next::Backoff { .. } | Next::Quarantined { .. } | Next::NeedsAction { .. } => self.arrive(next),
            Next::Queue | Next::Idle | Next::Stopped { .. } | Next::Disabled => self.go(next),
        }
    }

    /// A fault that we found out, in an incarnation that still lives: it is ended first.
    pub(super) fn give_up(&mut self, fault: Fault) {
        let fault = Arc::new(fault);
        let next = self.judge(&fault);
        self.let_go(fault.reason);
        self.go(next);
    }

    fn released(&mut self) {
        self.state.leased = false;
        if let Phase::Stopping { next, .. } = self.state.phase {
            self.arrive(next);
        }
    }

    fn tick(&mut self) {
        if self.state.wake_at().is_none_or(|due| self.now < due) {
            return;
        }
        match self.state.phase {
            Phase::Starting { .. } => {
                let limit = self.policy.start_timeout.as_secs_f64();
                let fault = Fault::new(FaultClass::SlowStart, format!("was not ready within {limit} s"));
                self.give_up(fault.with_hint("if it needs more time to start, raise its start_timeout"));
            }
            Phase::Ready { .. } | Phase::Degraded { .. } => self.attend(),
            Phase::Stopping { next, .. } => {
                // Killed and not gone: it waits in the kernel, and nobody can end it. It is cut off and forgotten.
                self.effects.extend(self.state.incarnation.map(|incarnation| Effect::Zombie { incarnation }));
                self.state.leased = false;
                self.arrive(next);
            }
            Phase::Backoff { .. } | Phase::Quarantined { .. } => self.go(Next::Queue),
            Phase::NeedsAction { .. } => {
                self.state.ledger.recount();
                self.go(Next::Queue);
            }
            Phase::Disabled | Phase::Idle | Phase::Queued | Phase::Stopped { .. } => {}
        }
    }

    // ---- Moves -----------------------------------------------------------------------------------------------------

    /// Whether an incarnation is connected and was neither ended by us nor reported dead.
    fn is_live(&self) -> bool {
        matches!(self.state.phase, Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. })
    }

    /// Gives back the permit and ends the incarnation, whichever there is.
    pub(super) fn let_go(&mut self, reason: DeathReason) {
        self.effects.extend(self.state.permit().map(|incarnation| Effect::ReturnPermit { incarnation }));
        if let (true, Some(incarnation)) = (self.is_live(), self.state.incarnation) {
            self.effects.push(Effect::Disconnect { incarnation, grace: self.policy.stop_grace });
            self.state.ended = Some(reason);
        }
    }

    /// Moves on to `next` once nothing is left of the last incarnation. Another `next` does not begin the wait anew.
    pub(super) fn go(&mut self, next: Next) {
        if !self.state.leased {
            return self.arrive(next);
        }
        let patience = match self.state.phase {
            Phase::Stopping { patience, .. } => patience,
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped { .. } => after(self.now, self.policy.patience()),
        };
        self.state.phase = Phase::Stopping { next, patience };
    }

    fn arrive(&mut self, next: Next) {
        self.state.phase = match next {
            Next::Queue => return self.queue(),
            Next::Idle => {
                self.state.ended = None;
                Phase::Idle
            }
            // The delay has run since the fault; the policy may have become less patient meanwhile.
            Next::Backoff { until } => {
                let latest = after(self.now, self.policy.schedule.cap());
                Phase::Backoff { until: until.clamp(self.now, latest) }
            }
            Next::Quarantined { until } => Phase::Quarantined { until: until.max(self.now) },
            Next::NeedsAction { recheck_at } => {
                Phase::NeedsAction { recheck_at: recheck_at.map(|at| at.max(self.now)) }
            }
            Next::Stopped { rest } => Phase::Stopped { rest },
            Next::Disabled => Phase::Disabled,
        };
    }

    /// Numbers the next incarnation and asks for its permit.
    fn queue(&mut self) {
        let incarnation = self.state.incarnation.map_or(Incarnation::FIRST, Incarnation::next);
        let class = self.state.ledger.class(self.policy);
        self.state.incarnation = Some(incarnation);
        self.state.phase = Phase::Queued;
        self.effects.push(Effect::RequestPermit { incarnation, class });
    }
}
