//! Tests of the machine: `table` says what each event does in each state, `story`, `service` and `recall` follow whole
//! lives, `otp` asks what Erlang/OTP asks of its supervisors, `model` tries random lives against a model of the world, and
//! `walk` visits every state that can be reached.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use ostler_core::ServerState;
use ostler_core::status::FaultClass;

use super::*;

mod model;
mod otp;
mod recall;
mod service;
mod story;
mod table;
mod walk;

#[expect(clippy::disallowed_methods, reason = "an instant can only be made from the clock; which one does not matter")]
fn moment() -> Instant {
    Instant::now()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nth(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

fn incarnation(n: u64) -> Incarnation {
    (1..n).fold(Incarnation::FIRST, |last, _| last.next())
}

fn fault(class: FaultClass) -> Arc<Fault> {
    Arc::new(Fault::new(class, class.as_str()))
}

/// A machine on its way, with the longest delays (jitter 1.0) unless a test says otherwise.
#[derive(Clone)]
struct Walk {
    policy: Policy,
    state: State,
    now: Instant,
    jitter: f64,
}

impl Walk {
    fn new(policy: Policy) -> Self {
        let state = State::initial(&policy);
        Self { policy, state, now: moment(), jitter: 1.0 }
    }

    fn effects(&mut self, event: Event) -> Vec<Effect> {
        let (after, effects) = step(&self.policy, &self.state, event, self.now, self.jitter);
        self.state = after;
        effects
    }

    /// Takes a step and tells it: the state after, then the effects. `=` if nothing at all changed.
    fn on(&mut self, event: Event) -> String {
        let before = self.state.clone();
        let effects = self.effects(event);
        if before == self.state && effects.is_empty() { "=".to_owned() } else { told(&self.state, &effects) }
    }

    fn current(&self) -> Incarnation {
        self.state.incarnation().expect("a permit was asked for")
    }

    fn permit(&mut self) -> String {
        self.on(Event::Permit { incarnation: self.current() })
    }

    fn up(&mut self) -> String {
        self.on(Event::Up { incarnation: self.current() })
    }

    fn down(&mut self, class: FaultClass) -> String {
        self.on(Event::Down { incarnation: self.current(), fault: fault(class) })
    }

    fn released(&mut self) -> String {
        self.on(Event::Released { incarnation: self.current() })
    }

    fn probe(&mut self, ok: bool) -> String {
        let incarnation = self.current();
        self.on(if ok { Event::ProbeOk { incarnation } } else { Event::ProbeMissed { incarnation } })
    }

    /// Lets time pass until the deadline and reports it.
    fn tick(&mut self) -> String {
        self.now = self.state.wake_at().expect("a deadline is set");
        self.on(Event::Tick)
    }

    /// How long until the deadline, in milliseconds.
    fn wakes_in(&self) -> Option<u128> {
        self.state.wake_at().map(|at| at.saturating_duration_since(self.now).as_millis())
    }

    /// Starts it, from a state in which a start asks for a permit.
    fn ready(mut self) -> Self {
        self.effects(Event::Start);
        self.permit();
        self.up();
        self
    }

    /// Starts it and lets it crash before it is ready, `times` times; the last crash is reported and released.
    fn crashed(mut self, times: u32) -> Self {
        self.effects(Event::Start);
        for again in 0..times {
            if again > 0 {
                self.tick();
            }
            self.permit();
            self.down(FaultClass::CrashOnStart);
            self.released();
        }
        self
    }
}

fn told(state: &State, effects: &[Effect]) -> String {
    let mut text = state.view().to_string();
    for effect in effects {
        let _ = match effect {
            Effect::RequestPermit { incarnation, class: StartClass::Required } => {
                write!(text, ", request {incarnation} required")
            }
            Effect::RequestPermit { incarnation, class: StartClass::Fresh } => {
                write!(text, ", request {incarnation} fresh")
            }
            Effect::RequestPermit { incarnation, class: StartClass::Retry } => {
                write!(text, ", request {incarnation} retry")
            }
            Effect::ReturnPermit { incarnation } => write!(text, ", return {incarnation}"),
            Effect::Connect { incarnation, .. } => write!(text, ", connect {incarnation}"),
            Effect::Disconnect { incarnation, .. } => write!(text, ", disconnect {incarnation}"),
            Effect::Probe { incarnation, .. } => write!(text, ", probe {incarnation}"),
            Effect::Zombie { incarnation } => write!(text, ", zombie {incarnation}"),
            Effect::Notify(Notice::FailingRepeatedly { failures, .. }) => write!(text, ", notice failing {failures}"),
            Effect::Notify(Notice::Quarantined { failures, .. }) => write!(text, ", notice quarantined {failures}"),
            Effect::Notify(Notice::NeedsAction(fault)) => write!(text, ", notice act {fault}"),
            Effect::Notify(Notice::Recovered) => write!(text, ", notice recovered"),
            Effect::Notify(Notice::Catalogue(_) | Notice::Together(_) | Notice::HostProblem) => {
                panic!("not the machine's to say")
            }
            Effect::Restarted(reason) => write!(text, ", restarted {reason}"),
            Effect::Retract => write!(text, ", retract"),
            Effect::Stale => write!(text, ", stale"),
            Effect::PauseGate(pause) => write!(text, ", pause {} s", pause.as_secs()),
        };
    }
    text
}

#[test]
fn every_class_of_fault_has_its_consequence() {
    let check = |class: FaultClass, while_starting: &str, while_serving: &str| {
        let mut starting = Walk::new(Policy::default());
        starting.effects(Event::Start);
        starting.permit();
        assert_eq!(starting.down(class), while_starting, "{class} while starting");
        let mut serving = Walk::new(Policy::default()).ready();
        assert_eq!(serving.down(class), while_serving, "{class} while serving");
    };
    for class in FaultClass::ALL {
        match class {
            FaultClass::NotFound
            | FaultClass::BadConfig
            | FaultClass::Auth
            | FaultClass::Consent
            | FaultClass::Incompatible => {
                let notice = format!("notice act {class}");
                check(*class, &format!("needs_action, {notice}, return 1"), &format!("needs_action, {notice}"));
            }
            FaultClass::HostResource => check(*class, "stopping, pause 5 s, return 1", "stopping, pause 5 s"),
            FaultClass::CrashOnStart
            | FaultClass::CrashRunning
            | FaultClass::CleanExit
            | FaultClass::Hang
            | FaultClass::SlowStart
            | FaultClass::Protocol
            | FaultClass::Oom
            | FaultClass::Network
            | FaultClass::Throttled
            | FaultClass::KilledByUs => check(*class, "backoff, return 1", "backoff"),
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let policy = Policy::default();
    assert_eq!(policy.schedule, crate::Schedule::new(secs(1), 2.0, secs(30)).unwrap());
    assert_eq!((policy.stable_after, policy.start_timeout, policy.stop_grace), (secs(60), secs(30), secs(5)));
    assert_eq!((policy.notify_after, policy.quarantine_after), (nth(3), nth(10)));
    assert_eq!((policy.quarantine_probe, policy.recheck), (secs(300), secs(300)));
    assert_eq!((policy.enabled, policy.lazy, policy.required, policy.restart), (true, false, false, Restart::Always));
    let intensity = Intensity { restarts: nth(15).unwrap(), within: secs(600) };
    assert_eq!((policy.expected_exits.as_slice(), policy.intensity), ([0].as_slice(), Some(intensity)));
    assert_eq!((policy.idle_stop, policy.probe, policy.probe_timeout), (None, None, secs(10)));
    assert_eq!((policy.stop_patience, policy.on_restart), (secs(15), OnRestart::Surface));
    assert_eq!(State::initial(&policy).view(), ServerState::Stopped);
    let disabled = Policy { enabled: false, ..policy };
    assert_eq!(State::initial(&disabled).view(), ServerState::Disabled);
}
