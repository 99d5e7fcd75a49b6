//! What Erlang/OTP asks of its supervisors (`supervisor_SUITE`), asked of ours: each test is named like the case it answers.
//!
//! Our servers are siblings that share a gate and nothing else, so the strategies come down to one for one; where OTP ends
//! the supervisor, we put the one server aside. What cannot be written here, such as a faulty child specification, is
//! refused by types or by the configuration.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use ostler_core::ServerId;
use ostler_core::status::Exit;

use super::*;
use crate::gate::{Gate, StartKind};
use crate::reconcile::{self, Change, Fingerprint};

/// How a child behaves when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Child {
    /// It comes up.
    Good,
    /// Its start fails.
    Fails(FaultClass),
    /// It never comes up.
    Hangs,
}

/// Servers and their gate, in a world where everything but a hang happens at once.
struct Supervisor {
    children: BTreeMap<String, (Walk, Child)>,
    gate: Gate,
    now: Instant,
    /// Whether what is ended goes away.
    obedient: bool,
    /// Every change of a state, in order.
    trace: Vec<(String, ServerState)>,
}

impl Supervisor {
    fn new() -> Self {
        let gate = Gate::new(NonZeroUsize::new(3).unwrap());
        Self { children: BTreeMap::new(), gate, now: moment(), obedient: true, trace: Vec::new() }
    }

    fn with(mut self, name: &str, policy: Policy, child: Child) -> Self {
        let walk = Walk { now: self.now, ..Walk::new(policy) };
        self.children.insert(name.to_owned(), (walk, child));
        self.send(name, Event::Start);
        self
    }

    fn walk(&self, name: &str) -> &Walk {
        &self.children[name].0
    }

    fn view(&self, name: &str) -> ServerState {
        self.walk(name).state.view()
    }

    /// Sends an event and does what follows from it, until nothing more does.
    fn send(&mut self, name: &str, event: Event) {
        let server = ServerId::new(name).unwrap();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let (walk, child) = self.children.get_mut(name).expect("it is there");
            walk.now = self.now;
            let before = walk.state.view();
            for effect in walk.effects(event) {
                match effect {
                    Effect::RequestPermit { incarnation, class } => {
                        self.gate.request(server.clone(), incarnation, class, StartKind::Process);
                    }
                    Effect::ReturnPermit { incarnation } => self.gate.release(&server, incarnation),
                    Effect::Connect { incarnation, .. } => match child {
                        Child::Good => events.push(Event::Up { incarnation }),
                        Child::Fails(class) => {
                            events.push(Event::Released { incarnation });
                            events.push(Event::Down { incarnation, fault: fault(*class) });
                        }
                        Child::Hangs => {}
                    },
                    Effect::Disconnect { incarnation, .. } if self.obedient => {
                        events.push(Event::Released { incarnation });
                    }
                    Effect::PauseGate(pause) => self.gate.pause_until(self.now + pause),
                    Effect::Disconnect { .. }
                    | Effect::Probe { .. }
                    | Effect::Zombie { .. }
                    | Effect::Notify(_)
                    | Effect::Restarted(_)
                    | Effect::Retract
                    | Effect::Stale => {}
                }
            }
            if walk.state.view() != before {
                self.trace.push((name.to_owned(), walk.state.view()));
            }
        }
        self.grant();
    }

    fn grant(&mut self) {
        for (server, incarnation) in self.gate.grants(self.now) {
            self.send(server.as_str(), Event::Permit { incarnation });
        }
    }

    /// The child ends by itself, for this reason, and with all that is below it.
    fn end(&mut self, name: &str, fault: Arc<Fault>) {
        let incarnation = self.walk(name).current();
        self.send(name, Event::Released { incarnation });
        self.send(name, Event::Down { incarnation, fault });
    }

    /// Lets time pass; all that is due happens when it is due.
    fn pass(&mut self, wait: Duration) {
        let end = self.now + wait;
        for _ in 0..100_000 {
            let timers = self.children.values().filter_map(|(walk, _)| walk.state.wake_at());
            let Some(due) = timers.chain(self.gate.wake_at()).min().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.grant();
            let names: Vec<String> = self.children.keys().cloned().collect();
            for name in names {
                if self.walk(&name).state.wake_at().is_some_and(|due| due <= self.now) {
                    self.send(&name, Event::Tick);
                }
            }
        }
        panic!("something is due again and again");
    }

    /// How many are in which state.
    fn count(&self, view: ServerState) -> usize {
        self.children.values().filter(|(walk, _)| walk.state.view() == view).count()
    }
}

fn permanent() -> Policy {
    Policy::default()
}

fn transient() -> Policy {
    Policy { restart: Restart::OnFailure, ..Policy::default() }
}

fn temporary() -> Policy {
    Policy { restart: Restart::Never, ..Policy::default() }
}

fn normal() -> Arc<Fault> {
    Arc::new(Fault { exit: Some(Exit::Code(0)), ..Fault::new(FaultClass::CleanExit, "done") })
}

fn abnormal() -> Arc<Fault> {
    Arc::new(Fault { exit: Some(Exit::Code(3)), ..Fault::new(FaultClass::CrashRunning, "broken") })
}

// ---- Starts ------------------------------------------------------------------------------------------------------------

#[test]
fn sup_start_normal_a_child_that_starts_is_ready() {
    let house = Supervisor::new().with("a", permanent(), Child::Good);
    assert_eq!((house.view("a"), house.walk("a").state.restarts()), (ServerState::Ready, 0));
}

#[test]
fn sup_start_ignore_child_a_disabled_child_is_kept_and_not_run() {
    let off = Policy { enabled: false, ..permanent() };
    let house = Supervisor::new().with("a", off, Child::Good).with("b", permanent(), Child::Good);
    assert_eq!((house.view("a"), house.view("b")), (ServerState::Disabled, ServerState::Ready));
}

#[test]
fn sup_start_error_return_a_child_that_cannot_start_does_not_keep_the_next_from_starting() {
    let house = Supervisor::new()
        .with("a", permanent(), Child::Fails(FaultClass::NotFound))
        .with("b", permanent(), Child::Fails(FaultClass::CrashOnStart))
        .with("c", permanent(), Child::Good);
    let views = ["a", "b", "c"].map(|name| house.view(name));
    assert_eq!(views, [ServerState::NeedsAction, ServerState::Backoff, ServerState::Ready]);
}

#[test]
fn sup_start_fail_children_that_hang_do_not_keep_the_next_from_starting() {
    let mut house = Supervisor::new();
    for name in ["a", "b", "c"] {
        house = house.with(name, permanent(), Child::Hangs);
    }
    house = house.with("d", permanent(), Child::Good);
    assert_eq!(house.view("d"), ServerState::Queued, "all slots are taken");
    house.pass(secs(15));
    assert_eq!((house.view("d"), house.view("a")), (ServerState::Ready, ServerState::Starting));
}

#[test]
fn duplicate_child_name_a_second_start_of_a_child_is_no_second_child() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good);
    let before = house.walk("a").state.clone();
    house.send("a", Event::Start);
    assert_eq!(house.walk("a").state, before);
}

// ---- Stops -------------------------------------------------------------------------------------------------------------

#[test]
fn sup_stop_timeout_a_child_that_ends_in_time_is_released_and_stopped() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good);
    house.send("a", Event::Shutdown);
    assert_eq!(house.trace[3..], [("a".to_owned(), ServerState::Stopping), ("a".to_owned(), ServerState::Stopped)]);
}

#[test]
fn sup_stop_infinity_no_child_holds_up_the_end_of_all_for_ever() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good).with("b", permanent(), Child::Hangs);
    house.obedient = false;
    house.send("a", Event::Shutdown);
    house.send("b", Event::Shutdown);
    house.pass(secs(14));
    assert_eq!(house.count(ServerState::Stopping), 2);
    house.pass(secs(1));
    assert_eq!(house.count(ServerState::Stopped), 2);
}

#[test]
fn sup_stop_brutal_kill_a_grace_of_nothing_is_asked_for_as_such() {
    let mut walk = Walk::new(Policy { stop_grace: secs(0), ..permanent() }).ready();
    let ended = Effect::Disconnect { incarnation: incarnation(1), grace: secs(0) };
    assert_eq!(walk.effects(Event::Shutdown), [ended]);
}

#[test]
fn child_adm_a_stopped_child_can_be_started_and_a_running_one_stopped() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good);
    for _ in 0..3 {
        house.send("a", Event::Stop);
        assert_eq!(house.view("a"), ServerState::Stopped);
        house.pass(secs(3600));
        assert_eq!(house.view("a"), ServerState::Stopped, "it does not come back by itself");
        house.send("a", Event::Start);
        assert_eq!(house.view("a"), ServerState::Ready);
    }
}

#[test]
fn child_adm_terminate_a_child_that_is_terminated_during_its_backoff_stays_so() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Fails(FaultClass::CrashOnStart));
    house.send("a", Event::Stop);
    house.pass(secs(3600));
    assert_eq!(house.view("a"), ServerState::Stopped);
}

// ---- Restart types times reasons ---------------------------------------------------------------------------------------

/// What becomes of a child with `policy` that ends after an hour of service.
fn after_end(policy: Policy, end: impl Fn(&mut Supervisor)) -> (ServerState, u64) {
    let mut house = Supervisor::new().with("a", policy, Child::Good).with("bystander", permanent(), Child::Good);
    house.pass(secs(3600));
    let untouched = house.walk("bystander").state.clone();
    end(&mut house);
    house.pass(secs(1));
    assert_eq!(house.walk("bystander").state, untouched, "a sibling was disturbed");
    (house.view("a"), house.walk("a").state.restarts())
}

#[test]
fn permanent_normal() {
    assert_eq!(after_end(permanent(), |house| house.end("a", normal())), (ServerState::Ready, 1));
}

#[test]
fn transient_normal() {
    assert_eq!(after_end(transient(), |house| house.end("a", normal())), (ServerState::Stopped, 0));
}

#[test]
fn temporary_normal() {
    assert_eq!(after_end(temporary(), |house| house.end("a", normal())), (ServerState::Stopped, 0));
}

#[test]
fn permanent_shutdown_transient_shutdown_temporary_shutdown_an_order_is_obeyed_whatever_the_type() {
    for policy in [permanent(), transient(), temporary()] {
        assert_eq!(after_end(policy, |house| house.send("a", Event::Shutdown)), (ServerState::Stopped, 0));
    }
}

#[test]
fn permanent_abnormal() {
    assert_eq!(after_end(permanent(), |house| house.end("a", abnormal())), (ServerState::Ready, 1));
}

#[test]
fn transient_abnormal() {
    assert_eq!(after_end(transient(), |house| house.end("a", abnormal())), (ServerState::Ready, 1));
}

#[test]
fn temporary_abnormal() {
    assert_eq!(after_end(temporary(), |house| house.end("a", abnormal())), (ServerState::Stopped, 0));
}

#[test]
fn temporary_bystander_a_child_that_is_not_restarted_is_left_alone_when_others_are() {
    let mut house = Supervisor::new().with("a", temporary(), Child::Good).with("b", permanent(), Child::Good);
    house.end("a", abnormal());
    house.end("b", abnormal());
    house.pass(secs(60));
    assert_eq!((house.view("a"), house.view("b")), (ServerState::Stopped, ServerState::Ready));
}

// ---- Strategies and escalation -----------------------------------------------------------------------------------------

#[test]
fn one_for_one_only_the_child_that_ended_is_restarted() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good).with("b", permanent(), Child::Good);
    house.end("a", abnormal());
    house.pass(secs(10));
    let restarts = ["a", "b"].map(|name| house.walk(name).state.restarts());
    assert_eq!((restarts, house.count(ServerState::Ready)), ([1, 0], 2));
}

#[test]
fn one_for_one_escalation_the_child_that_ends_too_often_is_put_aside_and_nobody_else() {
    let intensity = Intensity { restarts: nth(4).unwrap(), within: secs(3600) };
    let bounded = Policy { intensity: Some(intensity), stable_after: secs(1), ..permanent() };
    let mut house = Supervisor::new().with("a", bounded, Child::Good).with("b", permanent(), Child::Good);
    for _ in 0..4 {
        house.pass(secs(10));
        house.end("a", abnormal());
        house.pass(secs(1));
        assert_eq!(house.view("a"), ServerState::Ready, "as many as are borne");
    }
    house.pass(secs(10));
    house.end("a", abnormal());
    assert_eq!((house.view("a"), house.view("b")), (ServerState::Quarantined, ServerState::Ready));
    assert_eq!(house.walk("b").state.restarts(), 0);
    house.pass(secs(361 + 1));
    assert_eq!(house.view("a"), ServerState::Ready, "and even that one is tried again");
}

#[test]
fn one_for_one_other_child_fails_restart_each_backs_off_for_itself() {
    let mut house = Supervisor::new().with("a", permanent(), Child::Good).with("b", permanent(), Child::Good);
    house.children.get_mut("b").unwrap().1 = Child::Fails(FaultClass::CrashOnStart);
    house.end("a", abnormal());
    house.end("b", abnormal());
    house.pass(secs(100));
    assert_eq!((house.view("a"), house.walk("a").state.restarts()), (ServerState::Ready, 1));
    assert_eq!((house.view("b"), house.walk("b").state.failures() > 5), (ServerState::Backoff, true));
    house.children.get_mut("b").unwrap().1 = Child::Good;
    house.pass(secs(31));
    assert_eq!(house.view("b"), ServerState::Ready);
}

#[test]
fn child_unlink_an_end_that_is_never_reported_is_found_by_probes() {
    let probed = Policy { probe: Some(secs(30)), ..permanent() };
    let mut house = Supervisor::new().with("a", probed, Child::Good);
    for _ in 0..PROBE_MISSES {
        let incarnation = house.walk("a").current();
        house.send("a", Event::ProbeMissed { incarnation });
    }
    house.pass(secs(10));
    assert_eq!((house.view("a"), house.walk("a").state.restarts()), (ServerState::Ready, 1));
}

#[test]
fn supervisor_shutdown_kills_children_and_starts_none_of_them_again() {
    let mut house = Supervisor::new()
        .with("backoff", permanent(), Child::Fails(FaultClass::CrashOnStart))
        .with("missing", permanent(), Child::Fails(FaultClass::NotFound))
        .with("ready", permanent(), Child::Good)
        .with("slow", permanent(), Child::Hangs);
    for name in ["backoff", "missing", "ready", "slow"] {
        house.send(name, Event::Shutdown);
    }
    assert_eq!(house.count(ServerState::Stopped), 4);
    let told = house.trace.len();
    house.pass(secs(3600));
    assert_eq!((house.trace.len(), house.gate.waiting(), house.gate.in_use()), (told, 0, 0));
}

// ---- Loops and numbers -------------------------------------------------------------------------------------------------

#[test]
fn hanging_restart_loop_a_child_that_keeps_failing_makes_nobody_deaf() {
    let mut house = Supervisor::new();
    let restless = Policy { quarantine_after: None, ..permanent() };
    for number in 0..20 {
        house = house.with(&format!("loop{number}"), restless.clone(), Child::Fails(FaultClass::CrashOnStart));
    }
    house.pass(secs(600));
    house = house.with("new", permanent(), Child::Good);
    assert_eq!(house.view("new"), ServerState::Ready, "a fresh start passes before all that failed");
    house.send("loop7", Event::Stop);
    assert_eq!(house.view("loop7"), ServerState::Stopped, "and orders are heard at once");
    house.send("loop8", Event::Shutdown);
    assert_eq!(house.view("loop8"), ServerState::Stopped);
}

#[test]
fn hanging_restart_loop_a_child_that_hangs_at_each_start_does_not_use_up_the_gate() {
    let mut house = Supervisor::new();
    for number in 0..6 {
        house = house.with(&format!("hang{number}"), permanent(), Child::Hangs);
    }
    house.pass(secs(600));
    house = house.with("new", permanent(), Child::Good);
    house.pass(secs(15));
    assert_eq!(house.view("new"), ServerState::Ready);
}

#[test]
fn count_children_every_child_is_in_exactly_one_state() {
    let house = Supervisor::new()
        .with("a", permanent(), Child::Good)
        .with("b", permanent(), Child::Fails(FaultClass::Auth))
        .with("c", Policy { lazy: true, ..permanent() }, Child::Good)
        .with("d", permanent(), Child::Hangs);
    let views: Vec<_> = house.children.values().map(|(walk, _)| walk.state.view()).collect();
    assert_eq!(views, [ServerState::Ready, ServerState::NeedsAction, ServerState::Idle, ServerState::Starting]);
}

#[test]
fn scale_start_stop_many_children() {
    let mut house = Supervisor::new();
    for number in 0..500 {
        house = house.with(&format!("s{number}"), permanent(), Child::Good);
    }
    assert_eq!(house.count(ServerState::Ready), 500);
    for number in 0..500 {
        house.end(&format!("s{number}"), abnormal());
    }
    house.pass(secs(5));
    assert_eq!((house.count(ServerState::Ready), house.gate.in_use()), (500, 0));
    for number in 0..500 {
        house.send(&format!("s{number}"), Event::Shutdown);
    }
    assert_eq!(house.count(ServerState::Stopped), 500);
}

#[test]
fn code_change_a_new_configuration_touches_only_what_it_changes() {
    let of =
        |pairs: [(&str, &str); 3]| pairs.map(|(name, print)| (ServerId::new(name).unwrap(), Fingerprint::new(print)));
    let plan = reconcile::plan(&of([("a", "1"), ("b", "1"), ("c", "1")]), &of([("a", "1"), ("b", "2"), ("d", "1")]));
    let touched: Vec<&str> = plan
        .iter()
        .map(|change| match change {
            Change::Add(server) | Change::Replace(server) | Change::Remove(server) => server.as_str(),
        })
        .collect();
    assert!(!touched.contains(&"a") && touched.len() == 3, "{touched:?}");
}
