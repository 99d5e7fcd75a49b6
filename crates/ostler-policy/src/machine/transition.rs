//! What each event does in each state: one method an event.
//!
//! One incarnation at a time: `Queued` is entered by `queue` alone, and `go` holds everything that leads there back in
//! `Stopping` until the lease of the last incarnation is dropped. A death that happened by itself is shown at once, with
//! its delay running; an end that we ordered is shown as `Stopping` until nothing is left, and then as what follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::Incarnation;
use ostler_core::status::{DeathReason, Fault, FaultClass, Notice};

use super::policy::{Policy, Restart, after};
use super::state::{Next, Phase, State};
use super::{Effect, Event, HOST_PAUSE, PROBE_MISSES, RETRY_ON_CALL, StartClass};
use crate::schedule::unit;

/// One step in the making.
pub(super) struct Transition<'a> {
    policy: &'a Policy,
    before: &'a State,
    state: State,
    now: Instant,
    jitter: f64,
    effects: Vec<Effect>,
}

/// What a fault calls for.
enum Remedy {
    /// Another try, after a while.
    Retry,
    /// Somebody must change something that may change without our hearing of it.
    Recheck,
    /// Somebody must do something, and will tell us.
    Act,
    /// Room on this host.
    Host,
}

fn remedy(class: FaultClass) -> Remedy {
    match class {
        FaultClass::NotFound | FaultClass::BadConfig => Remedy::Recheck,
        FaultClass::Auth | FaultClass::Consent | FaultClass::Incompatible => Remedy::Act,
        FaultClass::HostResource => Remedy::Host,
        FaultClass::CrashOnStart
        | FaultClass::CrashRunning
        | FaultClass::CleanExit
        | FaultClass::Hang
        | FaultClass::SlowStart
        | FaultClass::Protocol
        | FaultClass::Oom
        | FaultClass::Network
        | FaultClass::Throttled
        | FaultClass::KilledByUs => Remedy::Retry,
    }
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
            Event::Stop => self.stop(Next::Stopped),
            Event::Restart => self.restart(),
            Event::Disable => self.stop(Next::Disabled),
            Event::Shutdown => self.shut_down(),
            Event::Permit { incarnation } => self.permit(incarnation),
            Event::Up { incarnation } => self.up(incarnation),
            Event::Down { fault, .. } => self.down(&fault),
            Event::Released { .. } => self.released(),
            Event::Called => self.called(),
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
        self.policy.enabled && !self.state.shut_down
    }

    fn start(&mut self) {
        if !self.may_start() {
            return;
        }
        match self.state.phase {
            Phase::Disabled | Phase::Stopped if self.policy.lazy => self.state.phase = Phase::Idle,
            Phase::Disabled
            | Phase::Stopped
            | Phase::Idle
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. } => self.start_anew(),
            Phase::Queued | Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. } => {}
        }
    }

    fn restart(&mut self) {
        if !self.may_start() {
            return;
        }
        if self.state.phase == Phase::Queued && self.state.ledger.class() == StartClass::Fresh {
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
        let disabled = matches!(self.state.phase, Phase::Disabled | Phase::Stopping { next: Next::Disabled });
        if disabled || self.state.shut_down {
            return;
        }
        self.let_go(DeathReason::Operator);
        self.effects.push(Effect::Retract);
        self.state.ledger.close();
        self.go(next);
    }

    fn shut_down(&mut self) {
        if self.state.shut_down {
            return;
        }
        self.state.shut_down = true;
        self.let_go(DeathReason::Operator);
        let disabled = matches!(self.state.phase, Phase::Disabled | Phase::Stopping { next: Next::Disabled });
        self.go(if disabled { Next::Disabled } else { Next::Stopped });
    }

    fn called(&mut self) {
        match self.state.phase {
            Phase::Idle => self.go(Next::Queue),
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
            | Phase::Stopped => {}
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
            self.state.phase = Phase::Ready { stable_at: Some(after(self.now, self.policy.stable_after)) };
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
            Next::Queue | Next::Stopped | Next::Disabled => self.go(next),
        }
    }

    /// A fault that we found out, in an incarnation that still lives: it is ended first.
    fn give_up(&mut self, fault: Fault) {
        let fault = Arc::new(fault);
        let next = self.judge(&fault);
        self.let_go(fault.reason);
        self.go(next);
    }

    fn released(&mut self) {
        self.state.leased = false;
        if let Phase::Stopping { next } = self.state.phase {
            self.arrive(next);
        }
    }

    fn probe_ok(&mut self) {
        if let Phase::Degraded { stable_at, .. } = self.state.phase {
            self.state.phase = Phase::Ready { stable_at: stable_at.map(|at| at.max(self.now)) };
        }
    }

    fn probe_missed(&mut self) {
        self.settle_if_due();
        let (misses, stable_at) = match self.state.phase {
            Phase::Ready { stable_at } => (1, stable_at),
            Phase::Degraded { misses, stable_at } => (misses + 1, stable_at),
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped => return,
        };
        if misses < PROBE_MISSES {
            self.state.phase = Phase::Degraded { misses, stable_at };
        } else {
            self.give_up(Fault::new(FaultClass::Hang, format!("did not answer {PROBE_MISSES} probes in a row")));
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
            Phase::Ready { .. } => self.settle_if_due(),
            Phase::Backoff { .. } | Phase::Quarantined { .. } => self.go(Next::Queue),
            Phase::NeedsAction { .. } => {
                self.state.ledger.recount();
                self.go(Next::Queue);
            }
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Degraded { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped => {}
        }
    }

    // ---- Verdicts --------------------------------------------------------------------------------------------------

    /// Decides what follows `fault`, counts it, and says what must be said.
    fn judge(&mut self, fault: &Arc<Fault>) -> Next {
        self.settle_if_due();
        let served = matches!(self.state.phase, Phase::Ready { .. } | Phase::Degraded { .. });
        let stable =
            matches!(self.state.phase, Phase::Ready { stable_at: None } | Phase::Degraded { stable_at: None, .. });
        let restart = self.policy.restart;
        match remedy(fault.class) {
            Remedy::Host if !(served && restart == Restart::Never) => {
                self.state.ledger.note(fault);
                self.effects.push(Effect::PauseGate(HOST_PAUSE));
                return Next::Queue;
            }
            Remedy::Recheck | Remedy::Act => return self.needs_action(fault),
            Remedy::Host | Remedy::Retry => {}
        }
        if served && fault.class == FaultClass::CleanExit && restart != Restart::Always {
            self.state.ledger.note(fault);
            return Next::Stopped;
        }
        let failures = self.state.ledger.count(fault);
        let notice = self.state.ledger.failing(self.policy.notify_after);
        self.notify(notice);
        if restart == Restart::Never {
            return Next::Stopped;
        }
        if self.policy.quarantine_after.is_some_and(|limit| failures >= limit) {
            let notice = self.state.ledger.quarantined();
            self.notify(notice);
            let wait = self.policy.quarantine_probe.min(Duration::from_hours(24)).mul_f64(0.8 + 0.4 * self.jitter);
            return Next::Quarantined { until: after(self.now, wait) };
        }
        let delay = if stable { Duration::ZERO } else { self.policy.schedule.delay(failures, self.jitter) };
        Next::Backoff { until: after(self.now, delay) }
    }

    fn needs_action(&mut self, fault: &Arc<Fault>) -> Next {
        self.state.ledger.count(fault);
        let notice = self.state.ledger.needs_action();
        self.notify(notice);
        let recheck = matches!(remedy(fault.class), Remedy::Recheck) && self.policy.restart != Restart::Never;
        Next::NeedsAction { recheck_at: recheck.then(|| after(self.now, self.policy.recheck)) }
    }

    /// Forgives earlier failures once the server has served for long enough, whether or not the tick came first.
    fn settle_if_due(&mut self) {
        if let Phase::Ready { stable_at: Some(due) } = self.state.phase
            && self.now >= due
        {
            self.state.phase = Phase::Ready { stable_at: None };
            let notice = self.state.ledger.settle();
            self.notify(notice);
        }
    }

    fn notify(&mut self, notice: Option<Notice>) {
        self.effects.extend(notice.map(Effect::Notify));
    }

    // ---- Moves -----------------------------------------------------------------------------------------------------

    /// Whether an incarnation is connected and was neither ended by us nor reported dead.
    fn is_live(&self) -> bool {
        matches!(self.state.phase, Phase::Starting { .. } | Phase::Ready { .. } | Phase::Degraded { .. })
    }

    /// Gives back the permit and ends the incarnation, whichever there is.
    fn let_go(&mut self, reason: DeathReason) {
        self.effects.extend(self.state.permit().map(|incarnation| Effect::ReturnPermit { incarnation }));
        if let (true, Some(incarnation)) = (self.is_live(), self.state.incarnation) {
            self.effects.push(Effect::Disconnect { incarnation, grace: self.policy.stop_grace });
            self.state.ended = Some(reason);
        }
    }

    /// Moves on to `next` once nothing is left of the last incarnation.
    fn go(&mut self, next: Next) {
        if self.state.leased {
            self.state.phase = Phase::Stopping { next };
        } else {
            self.arrive(next);
        }
    }

    fn arrive(&mut self, next: Next) {
        self.state.phase = match next {
            Next::Queue => return self.queue(),
            // The delay has run since the fault; the policy may have become less patient meanwhile.
            Next::Backoff { until } => {
                let latest = after(self.now, self.policy.schedule.cap());
                Phase::Backoff { until: until.clamp(self.now, latest) }
            }
            Next::Quarantined { until } => Phase::Quarantined { until: until.max(self.now) },
            Next::NeedsAction { recheck_at } => {
                Phase::NeedsAction { recheck_at: recheck_at.map(|at| at.max(self.now)) }
            }
            Next::Stopped => Phase::Stopped,
            Next::Disabled => Phase::Disabled,
        };
    }

    /// Numbers the next incarnation and asks for its permit.
    fn queue(&mut self) {
        let incarnation = self.state.incarnation.map_or(Incarnation::FIRST, Incarnation::next);
        let class = self.state.ledger.class();
        self.state.incarnation = Some(incarnation);
        self.state.phase = Phase::Queued;
        self.effects.push(Effect::RequestPermit { incarnation, class });
    }
}
