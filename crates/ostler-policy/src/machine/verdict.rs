//! What a fault leads to: the class decides, then the restart policy, then how often it has happened.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::status::{Exit, Fault, FaultClass, Notice};

use super::policy::{Restart, after};
use super::state::{Next, Phase, Rest};
use super::transition::Transition;
use super::{Effect, HOST_PAUSE};

/// What a shell and its kin exit with when they cannot run, or cannot find, what they were told to run.
const NOT_RUN: [i32; 2] = [126, 127];

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

fn was_not_run(fault: &Fault) -> bool {
    fault.class == FaultClass::CrashOnStart && matches!(fault.exit, Some(Exit::Code(code)) if NOT_RUN.contains(&code))
}

impl Transition<'_> {
    /// Decides what follows `fault`, counts it, and says what must be said.
    pub(super) fn judge(&mut self, fault: &Arc<Fault>) -> Next {
        self.settle_if_due();
        let watch = self.state.watch();
        let (served, stable) = (watch.is_some(), watch.is_some_and(|watch| watch.stable_at.is_none()));
        let restart = self.policy.restart;
        let fault = &self.understood(fault);
        match remedy(fault.class) {
            Remedy::Host if !(served && restart == Restart::Never) => {
                self.state.ledger.note(fault);
                self.effects.push(Effect::PauseGate(HOST_PAUSE));
                return Next::Queue;
            }
            Remedy::Recheck | Remedy::Act => return self.needs_action(fault),
            Remedy::Host | Remedy::Retry => {}
        }
        if served && restart != Restart::Always && self.policy.expects(fault) {
            self.state.ledger.note(fault);
            let sleeps = restart == Restart::OnFailure && self.policy.may_sleep();
            return if sleeps { Next::Idle } else { Next::Stopped { rest: Rest::Over } };
        }
        let failures = self.state.ledger.count(fault);
        let notice = self.state.ledger.failing(self.policy.notify_after);
        self.notify(notice);
        if restart == Restart::Never {
            return Next::Stopped { rest: Rest::Over };
        }
        if self.is_past_bearing() {
            let notice = self.state.ledger.quarantined();
            self.notify(notice);
            return Next::Quarantined { until: after(self.now, self.policy.quarantine(self.jitter)) };
        }
        let delay = if stable { Duration::ZERO } else { self.policy.schedule.delay(failures, self.jitter) };
        Next::Backoff { until: after(self.now, delay) }
    }

    /// Counts the restart that would follow the fault just counted. Says whether the server is to be put aside instead:
    /// it failed too often in a row, was restarted too often of late, or fails again before it was well after a
    /// quarantine.
    fn is_past_bearing(&mut self) -> bool {
        let crowd = self
            .policy
            .intensity
            .is_some_and(|intensity| self.state.ledger.restart(intensity, self.now) > intensity.restarts.get());
        let streak = |limit: std::num::NonZeroU32| self.state.failures() >= limit.get();
        self.policy.quarantine_after.is_some_and(|limit| streak(limit) || crowd || self.state.ledger.told().quarantined)
    }

    /// A launcher that says for the second time in a row that it cannot run its command is believed.
    fn understood(&self, fault: &Arc<Fault>) -> Arc<Fault> {
        let again = self.state.failures() > 0 && self.state.last_fault().is_some_and(|last| was_not_run(last));
        if !again || !was_not_run(fault) {
            return Arc::clone(fault);
        }
        let advice = "its launcher cannot find or cannot run the command that it was given; check command and args";
        let hint = fault.hint.clone().or_else(|| Some(advice.to_owned()));
        Arc::new(Fault { class: FaultClass::NotFound, hint, ..Fault::clone(fault) })
    }

    fn needs_action(&mut self, fault: &Arc<Fault>) -> Next {
        self.state.ledger.count(fault);
        let notice = self.state.ledger.needs_action();
        self.notify(notice);
        let recheck = matches!(remedy(fault.class), Remedy::Recheck) && self.policy.restart != Restart::Never;
        Next::NeedsAction { recheck_at: recheck.then(|| after(self.now, self.policy.recheck)) }
    }

    /// Forgives earlier failures once the server has served for long enough, whether or not the tick came first.
    pub(super) fn settle_if_due(&mut self) {
        if let Phase::Ready { watch } = &mut self.state.phase
            && watch.stable_at.is_some_and(|due| self.now >= due)
        {
            watch.stable_at = None;
            let notice = self.state.ledger.settle();
            self.notify(notice);
        }
    }

    fn notify(&mut self, notice: Option<Notice>) {
        self.effects.extend(notice.map(Effect::Notify));
    }
}
