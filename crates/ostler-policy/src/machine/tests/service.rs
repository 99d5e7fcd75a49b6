//! Lives under the finer points of the contract: probes, sleep, bounds on restarts, expected exits, zombies.

use ostler_core::status::Exit;

use super::*;

fn probed() -> Policy {
    Policy { probe: Some(secs(30)), ..Policy::default() }
}

fn exited(code: i32, class: FaultClass) -> Arc<Fault> {
    Arc::new(Fault { exit: Some(Exit::Code(code)), ..Fault::new(class, "it exited") })
}

impl Walk {
    fn exit(&mut self, code: i32, class: FaultClass) -> String {
        self.on(Event::Down { incarnation: self.current(), fault: exited(code, class) })
    }

    fn hold(&mut self, seconds: u64) -> String {
        self.on(Event::Throttled { incarnation: self.current(), until: self.now + secs(seconds) })
    }

    fn sleep(&mut self) -> String {
        self.on(Event::Idle { incarnation: self.current() })
    }
}

// ---- Probes ------------------------------------------------------------------------------------------------------------

#[test]
fn a_server_that_serves_is_probed_again_and_again() {
    let mut walk = Walk::new(probed());
    walk.jitter = 0.5;
    let mut walk = walk.ready();
    let begin = walk.now;
    let mut probes = Vec::new();
    while probes.len() < 4 {
        walk.now = walk.state.wake_at().unwrap();
        for effect in walk.effects(Event::Tick) {
            assert_eq!(effect, Effect::Probe { incarnation: incarnation(1), deadline: walk.now + secs(10) });
            probes.push((walk.now - begin).as_secs());
            walk.probe(true);
        }
    }
    assert_eq!(probes, [30, 60, 90, 120]);
    assert_eq!(walk.state.failures(), 0);
}

#[test]
fn jitter_spreads_probes_by_a_fifth() {
    let check = |jitter: f64, expected: u128| {
        let mut walk = Walk::new(probed());
        walk.jitter = jitter;
        assert_eq!(walk.ready().wakes_in(), Some(expected));
    };
    check(0.0, 24_000);
    check(0.5, 30_000);
    check(1.0, 36_000);
}

#[test]
fn a_hang_is_found_within_three_probes_and_a_half() {
    let mut walk = Walk::new(Policy { stable_after: secs(600), ..probed() }).ready();
    walk.tick();
    walk.probe(true);
    let hung_at = walk.now;
    let mut told = Vec::new();
    while walk.state.view() != ServerState::Stopping {
        assert!(walk.tick().ends_with("probe 1"));
        walk.now += secs(10);
        told.push(walk.probe(false));
    }
    assert_eq!(told, ["degraded", "degraded", "stopping, disconnect 1"]);
    assert!(walk.now - hung_at <= secs(3 * 30 + 15), "{:?}", walk.now - hung_at);
    assert_eq!(walk.state.last_fault().map(|fault| fault.class), Some(FaultClass::Hang));
}

#[test]
fn a_probe_that_nobody_answers_for_is_neither_missed_nor_the_last() {
    let mut walk = Walk::new(probed()).ready();
    for _ in 0..20 {
        assert!(walk.tick().starts_with("ready"), "a busy server is not a hung one");
    }
    assert!(walk.wakes_in().is_some());
}

#[test]
fn probes_are_never_closer_than_their_deadline_and_never_at_once() {
    let check = |probe: Duration, probe_timeout: Duration, expected: u128| {
        let mut walk = Walk::new(Policy { probe: Some(probe), probe_timeout, ..Policy::default() });
        walk.jitter = 0.0;
        let mut walk = walk.ready();
        walk.tick();
        assert_eq!(walk.wakes_in(), Some(expected));
    };
    check(secs(5), secs(10), 10_000);
    check(Duration::ZERO, Duration::ZERO, 800);
    check(secs(20), secs(10), 16_000);
}

#[test]
fn a_policy_that_wants_no_probes_any_more_gets_none() {
    let mut walk = Walk::new(probed()).ready();
    walk.policy.probe = None;
    assert_eq!((walk.tick(), walk.tick()), ("ready".to_owned(), "ready".to_owned()));
    assert_eq!(walk.state.wake_at(), None);
}

// ---- Throttling --------------------------------------------------------------------------------------------------------

#[test]
fn a_server_that_asks_for_peace_gets_it_and_stays_ready() {
    let mut walk = Walk::new(probed()).ready();
    let begin = walk.now;
    assert_eq!(walk.hold(45), "ready");
    assert_eq!(walk.state.held_until(), Some(begin + secs(45)));
    assert_eq!(walk.hold(5), "=", "an earlier end does not shorten it");
    assert_eq!(walk.tick(), "ready, probe 1", "and that is when it may be asked again");
    assert_eq!((walk.now, walk.state.held_until()), (begin + secs(45), None));
    assert_eq!((walk.state.failures(), walk.state.restarts()), (0, 0));
    walk.hold(3600);
    assert_eq!(walk.state.held_until(), Some(walk.now + secs(300)), "nobody holds calls for an hour");
    walk.down(FaultClass::CrashRunning);
    assert_eq!(walk.state.held_until(), None);
}

#[test]
fn a_missed_probe_does_not_end_a_hold() {
    let mut walk = Walk::new(probed()).ready();
    walk.tick();
    walk.hold(100);
    walk.now += secs(10);
    assert_eq!(walk.probe(false), "degraded");
    assert_eq!(walk.wakes_in(), Some(90_000));
}

// ---- Sleep -------------------------------------------------------------------------------------------------------------

fn sleepy() -> Policy {
    Policy { idle_stop: Some(secs(600)), ..Policy::default() }
}

#[test]
fn nobody_calls_and_it_sleeps_until_somebody_does() {
    let mut walk = Walk::new(sleepy()).ready();
    assert_eq!(walk.sleep(), "stopping, disconnect 1");
    assert_eq!(walk.down(FaultClass::KilledByUs), "=");
    assert_eq!((walk.released(), walk.state.wake_at()), ("idle".to_owned(), None));
    assert_eq!(walk.on(Event::Called), "queued, request 2 fresh");
    assert_eq!(walk.permit(), "starting, connect 2", "to be woken is no restart");
    assert_eq!((walk.up(), walk.state.restarts()), ("ready, return 2".to_owned(), 0));
}

#[test]
fn a_call_that_comes_while_it_falls_asleep_wakes_it_at_once() {
    let mut walk = Walk::new(sleepy()).ready();
    walk.sleep();
    assert_eq!(walk.on(Event::Called), "stopping");
    assert_eq!(walk.released(), "queued, request 2 fresh");
}

#[test]
fn without_the_policy_nobody_sleeps_and_only_who_serves_falls_asleep() {
    assert_eq!(Walk::new(Policy::default()).ready().sleep(), "=");
    let mut starting = Walk::new(sleepy());
    starting.effects(Event::Start);
    starting.permit();
    assert_eq!(starting.sleep(), "=");
}

#[test]
fn sleep_forgives_nothing_that_a_stable_run_has_not() {
    let mut walk = Walk::new(sleepy()).crashed(2);
    walk.tick();
    walk.permit();
    walk.up();
    let mut stable = walk.clone();
    walk.sleep();
    walk.released();
    assert_eq!(walk.on(Event::Called), "queued, request 4 retry");
    stable.now += secs(60);
    stable.sleep();
    stable.released();
    assert_eq!(stable.on(Event::Called), "queued, request 4 fresh");
}

#[test]
fn a_person_who_stops_a_sleeper_keeps_it_stopped() {
    let mut walk = Walk::new(sleepy()).ready();
    walk.sleep();
    walk.effects(Event::Stop);
    assert_eq!(walk.released(), "stopped");
    assert_eq!(walk.on(Event::Called), "=");
}

// ---- Expected exits ----------------------------------------------------------------------------------------------------

#[test]
fn the_exit_code_decides_whether_an_end_was_expected() {
    let check = |codes: &[i32], fault: Arc<Fault>, expected: &str, failures: u32| {
        let policy = Policy { restart: Restart::OnFailure, expected_exits: codes.to_vec(), ..Policy::default() };
        let mut walk = Walk::new(policy).ready();
        walk.released();
        assert_eq!(walk.on(Event::Down { incarnation: walk.current(), fault: Arc::clone(&fault) }), expected);
        assert_eq!(walk.state.failures(), failures, "{codes:?} {fault:?}");
    };
    let signal = Fault { exit: Some(Exit::Signal(15)), ..Fault::new(FaultClass::CleanExit, "ended") };
    check(&[0], exited(0, FaultClass::CleanExit), "stopped", 0);
    check(&[0], exited(3, FaultClass::CrashRunning), "backoff", 1);
    check(&[0, 3], exited(3, FaultClass::CrashRunning), "stopped", 0);
    check(&[3], exited(0, FaultClass::CleanExit), "backoff", 1);
    check(&[0], fault(FaultClass::CleanExit), "stopped", 0);
    check(&[0], Arc::new(signal), "backoff", 1);
    check(&[0], exited(0, FaultClass::Protocol), "backoff", 1);
}

#[test]
fn a_server_that_may_sleep_sleeps_after_an_expected_exit() {
    let mut walk = Walk::new(Policy { restart: Restart::OnFailure, ..sleepy() }).ready();
    assert_eq!(walk.exit(0, FaultClass::CleanExit), "stopping");
    assert_eq!(walk.released(), "idle");
    assert_eq!(walk.on(Event::Called), "queued, request 2 fresh");
    let mut never = Walk::new(Policy { restart: Restart::Never, ..sleepy() }).ready();
    never.exit(0, FaultClass::CleanExit);
    assert_eq!(never.released(), "stopped");
}

#[test]
fn a_launcher_that_cannot_run_its_command_is_believed_the_second_time() {
    for code in [126, 127] {
        let mut walk = Walk::new(Policy::default());
        walk.effects(Event::Start);
        walk.permit();
        assert_eq!(walk.exit(code, FaultClass::CrashOnStart), "backoff, return 1");
        walk.released();
        walk.tick();
        walk.permit();
        assert_eq!(walk.exit(code, FaultClass::CrashOnStart), "needs_action, notice act it exited, return 2");
        let last = walk.state.last_fault().unwrap();
        assert_eq!((last.class, last.exit, last.hint.is_some()), (FaultClass::NotFound, Some(Exit::Code(code)), true));
        assert_eq!(walk.wakes_in(), Some(300_000));
    }
    let mut other = Walk::new(Policy::default());
    other.effects(Event::Start);
    for exit in ["backoff, return 1", "backoff, return 2", "backoff, notice failing 3, return 3"] {
        other.permit();
        assert_eq!(
            other.exit(if exit.contains('2') { 1 } else { 127 }, FaultClass::CrashOnStart),
            exit,
            "not in a row"
        );
        other.released();
        other.tick();
    }
}

// ---- Intensity ---------------------------------------------------------------------------------------------------------

/// Serves for a while, dies, and is up again.
fn flap(walk: &mut Walk, served: Duration) -> String {
    walk.now += served;
    let told = walk.down(FaultClass::CrashRunning);
    walk.released();
    walk.tick();
    walk.permit();
    walk.up();
    told
}

#[test]
fn slow_flapping_that_is_forgiven_each_time_is_found_out() {
    let policy = Policy { stable_after: secs(20), ..Policy::default() };
    let mut walk = Walk::new(policy).ready();
    for _ in 0..15 {
        assert_eq!(flap(&mut walk, secs(25)), "backoff");
        assert_eq!(walk.state.failures(), 1, "each is the first in a row");
    }
    walk.now += secs(25);
    assert_eq!(walk.down(FaultClass::CrashRunning), "quarantined, notice quarantined 16");
    assert_eq!((walk.wakes_in(), walk.state.failures()), (Some(360_000), 1));
}

#[test]
fn the_window_slides_and_its_edge_counts() {
    let intensity = Intensity { restarts: nth(2).unwrap(), within: secs(100) };
    let policy = Policy { stable_after: secs(10), intensity: Some(intensity), ..Policy::default() };
    let check = |pause: u64, expected: &str| {
        let mut walk = Walk::new(policy.clone()).ready();
        for _ in 0..2 {
            assert_eq!(flap(&mut walk, secs(50)), "backoff");
        }
        assert_eq!(flap(&mut walk, secs(pause)), expected, "after {pause} s");
    };
    check(50, "quarantined, notice quarantined 3");
    check(51, "backoff");
}

#[test]
fn a_person_forgives_the_restarts_too_and_the_host_is_not_held_against_a_server() {
    let intensity = Intensity { restarts: nth(2).unwrap(), within: secs(1000) };
    let policy = Policy { stable_after: secs(10), intensity: Some(intensity), ..Policy::default() };
    let mut walk = Walk::new(policy.clone()).ready();
    for _ in 0..6 {
        flap(&mut walk, secs(20));
        walk.effects(Event::Restart);
        walk.released();
        walk.permit();
        walk.up();
    }
    assert_eq!(flap(&mut walk, secs(20)), "backoff");
    let mut short = Walk::new(policy).ready();
    for _ in 0..6 {
        assert!(short.down(FaultClass::HostResource).starts_with("stopping"));
        short.released();
        short.permit();
        short.up();
    }
}

#[test]
fn after_an_intensity_quarantine_one_failed_try_leads_back_into_it() {
    let intensity = Intensity { restarts: nth(2).unwrap(), within: secs(100) };
    let mut walk = Walk::new(Policy { intensity: Some(intensity), ..Policy::default() }).crashed(3);
    assert_eq!(walk.state.view(), ServerState::Quarantined);
    walk.tick();
    walk.permit();
    assert_eq!(walk.down(FaultClass::CrashOnStart), "quarantined, return 4", "the window is empty by now");
    walk.released();
    walk.tick();
    walk.permit();
    walk.up();
    assert_eq!(walk.tick(), "ready, notice recovered");
    assert_eq!(walk.down(FaultClass::CrashRunning), "backoff");
}

#[test]
fn without_quarantine_no_number_of_restarts_is_too_many() {
    let policy = Policy { quarantine_after: None, ..Policy::default() };
    assert_eq!(Walk::new(policy).crashed(100).state.view(), ServerState::Backoff);
    let policy = Policy { intensity: None, quarantine_after: nth(200), ..Policy::default() };
    assert_eq!(Walk::new(policy).crashed(100).state.view(), ServerState::Backoff);
}

// ---- Zombies -----------------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_ended_is_given_up_and_the_next_one_starts() {
    let mut walk = Walk::new(Policy::default()).ready();
    walk.effects(Event::Restart);
    assert_eq!(walk.wakes_in(), Some(15_000));
    assert_eq!(walk.tick(), "queued, zombie 1, request 2 fresh");
    assert!(walk.state.is_released());
    assert_eq!(walk.permit(), "starting, restarted operator, connect 2");
    assert_eq!(walk.on(Event::Released { incarnation: incarnation(1) }), "starting, stale");
    assert!(!walk.state.is_released(), "what the zombie reports is nobody's release");
}

#[test]
fn a_zombie_does_not_hold_up_a_shutdown_and_a_late_release_is_harmless() {
    let mut walk = Walk::new(Policy::default()).ready();
    walk.effects(Event::Shutdown);
    assert_eq!(walk.tick(), "stopped, zombie 1");
    assert_eq!(walk.released(), "=");
    assert_eq!(walk.state.wake_at(), None);
}

#[test]
fn patience_covers_the_grace_and_begins_once() {
    let check = |stop_patience: u64, stop_grace: u64, expected: u128| {
        let policy = Policy { stop_patience: secs(stop_patience), stop_grace: secs(stop_grace), ..Policy::default() };
        let mut walk = Walk::new(policy).ready();
        walk.effects(Event::Stop);
        assert_eq!(walk.wakes_in(), Some(expected));
        walk.now += secs(1);
        walk.effects(Event::Restart);
        assert_eq!(walk.wakes_in(), Some(expected - 1_000), "another order does not begin it anew");
    };
    check(15, 5, 15_000);
    check(15, 60, 65_000);
    check(0, 0, 5_000);
}

#[test]
fn required_servers_are_one_line_ahead() {
    let mut walk = Walk::new(Policy { required: true, ..Policy::default() });
    assert_eq!(walk.on(Event::Start), "queued, request 1 required");
    walk.permit();
    walk.down(FaultClass::CrashOnStart);
    walk.released();
    assert_eq!(walk.tick(), "queued, request 2 fresh");
    assert_eq!(walk.on(Event::Restart), "queued, return 2, request 3 required");
}
