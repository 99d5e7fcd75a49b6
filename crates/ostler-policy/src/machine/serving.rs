//! What happens to an incarnation while it serves: it is probed, becomes stable, asks to be left alone, goes to sleep.

use std::time::{Duration, Instant};

use ostler_core::status::{Fault, FaultClass};

use super::policy::after;
use super::state::{Next, Phase, Watch};
use super::transition::Transition;
use super::{Effect, MAX_HOLD, PROBE_MISSES};

impl Transition<'_> {
    /// What an incarnation that has just come up waits for.
    pub(super) fn first_watch(&self) -> Watch {
        Watch {
            stable_at: Some(after(self.now, self.policy.stable_after)),
            probe_at: self.probe_after(0).map(|wait| after(self.now, wait)),
            held_until: None,
        }
    }

    /// How long until the next probe of a server that has missed so many. `None`: none.
    fn probe_after(&self, misses: u32) -> Option<Duration> {
        let every = self.policy.probe_every()?.mul_f64(0.8 + 0.4 * self.jitter);
        Some(if misses == 0 { every } else { every / 2 })
    }

    /// Does all that is due to a server that serves.
    pub(super) fn attend(&mut self) {
        self.settle_if_due();
        let (Some(mut watch), Some(incarnation)) = (self.state.watch(), self.state.incarnation) else { return };
        if watch.held_until.is_some_and(|until| self.now >= until) {
            watch.held_until = None;
        }
        if watch.probe_at.is_some_and(|due| self.now >= due) {
            let misses = if let Phase::Degraded { misses, .. } = self.state.phase { misses } else { 0 };
            let next = self.probe_after(misses).map(|wait| wait.max(self.policy.probe_timeout));
            // A policy that was changed meanwhile may want no probes any more.
            if next.is_some() {
                self.effects.push(Effect::Probe { incarnation, deadline: after(self.now, self.policy.probe_timeout) });
            }
            watch.probe_at = next.map(|wait| after(self.now, wait));
        }
        self.set_watch(watch);
    }

    pub(super) fn probe_ok(&mut self) {
        if let Phase::Degraded { watch, .. } = self.state.phase {
            self.state.phase = Phase::Ready { watch: watch.from(self.now) };
        }
    }

    pub(super) fn probe_missed(&mut self) {
        self.settle_if_due();
        let (misses, watch) = match self.state.phase {
            Phase::Ready { watch } => (1, watch),
            Phase::Degraded { misses, watch } => (misses + 1, watch),
            Phase::Disabled
            | Phase::Idle
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Quarantined { .. }
            | Phase::NeedsAction { .. }
            | Phase::Stopped { .. } => return,
        };
        if misses >= PROBE_MISSES {
            let fault = Fault::new(FaultClass::Hang, format!("did not answer {PROBE_MISSES} probes in a row"));
            return self.give_up(fault);
        }
        let soon = self.probe_after(misses).map(|wait| after(self.now, wait));
        let watch = watch.from(self.now);
        let held = watch.held_until.unwrap_or(self.now);
        let probe_at = watch.probe_at.map(|at| soon.map_or(at, |soon| soon.min(at)).max(held));
        self.state.phase = Phase::Degraded { misses, watch: Watch { probe_at, ..watch } };
    }

    /// It asked to be left alone until then: calls wait, probes too. That is no failure.
    pub(super) fn throttled(&mut self, until: Instant) {
        let Some(watch) = self.state.watch() else { return };
        let until = until.min(after(self.now, MAX_HOLD)).max(watch.held_until.unwrap_or(self.now));
        if until > self.now {
            let probe_at = watch.probe_at.map(|at| at.max(until));
            self.set_watch(Watch { probe_at, held_until: Some(until), ..watch });
        }
    }

    /// Nobody has called for long enough: it sleeps until somebody does.
    pub(super) fn idle(&mut self) {
        if self.policy.idle_stop.is_none() || self.state.watch().is_none() {
            return;
        }
        self.settle_if_due();
        self.let_go(ostler_core::status::DeathReason::Operator);
        self.go(Next::Idle);
    }

    fn set_watch(&mut self, new: Watch) {
        if let Phase::Ready { watch } | Phase::Degraded { watch, .. } = &mut self.state.phase {
            *watch = new;
        }
    }
}
