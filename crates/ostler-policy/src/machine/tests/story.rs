//! Whole lives, step by step: what a person who watches a server sees.

use super::*;

#[test]
fn a_start_goes_through_the_gate_and_its_deadline_counts_from_the_permit() {
    let mut walk = Walk::new(Policy::default());
    let begin = walk.now;
    let request = Effect::RequestPermit { incarnation: Incarnation::FIRST, class: StartClass::Fresh };
    assert_eq!(walk.effects(Event::Start), [request]);
    assert_eq!((walk.state.wake_at(), walk.state.since()), (None, Some(begin)));
    walk.now += secs(100);
    let deadline = begin + secs(130);
    assert_eq!(
        walk.effects(Event::Permit { incarnation: Incarnation::FIRST }),
        [Effect::Connect { incarnation: Incarnation::FIRST, deadline }]
    );
    assert_eq!((walk.state.view(), walk.state.wake_at()), (ServerState::Starting, Some(deadline)));
    walk.now += secs(2);
    assert_eq!(walk.up(), "ready, return 1");
    assert_eq!((walk.state.since(), walk.wakes_in()), (Some(begin + secs(102)), Some(60_000)));
    assert_eq!((walk.state.restarts(), walk.state.failures()), (0, 0));
}

#[test]
fn delays_grow_and_the_third_failure_is_told_once() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    let mut seen = Vec::new();
    for _ in 0..7 {
        walk.permit();
        walk.up();
        walk.now += secs(1);
        let told = walk.down(FaultClass::CrashRunning);
        walk.released();
        seen.push((walk.wakes_in().unwrap(), told));
        walk.tick();
    }
    let expected = [
        (1_000, "backoff"),
        (2_000, "backoff"),
        (4_000, "backoff, notice failing 3"),
        (8_000, "backoff"),
        (16_000, "backoff"),
        (30_000, "backoff"),
        (30_000, "backoff"),
    ];
    assert_eq!(seen, expected.map(|(delay, told)| (delay, told.to_owned())));
    assert_eq!(walk.permit(), "starting, restarted exit, connect 8");
    assert_eq!((walk.state.failures(), walk.state.restarts()), (7, 7));
}

#[test]
fn jitter_shortens_a_delay_to_no_less_than_half() {
    let mut walk = Walk::new(Policy::default());
    walk.jitter = 0.0;
    assert_eq!(walk.clone().crashed(3).wakes_in(), Some(2_000));
    walk.jitter = 0.5;
    assert_eq!(walk.crashed(3).wakes_in(), Some(3_000));
}

#[test]
fn a_death_after_a_stable_run_is_followed_by_a_start_at_once() {
    let check = |served: u64, delay: u128, failures: u32| {
        let mut walk = Walk::new(Policy::default()).crashed(2);
        walk.tick();
        walk.permit();
        walk.up();
        walk.now += Duration::from_millis(served);
        assert_eq!(walk.down(FaultClass::CrashRunning).split(',').next(), Some("backoff"));
        assert_eq!((walk.wakes_in(), walk.state.failures()), (Some(delay), failures), "after {served} ms");
    };
    check(0, 4_000, 3);
    check(59_999, 4_000, 3);
    check(60_000, 0, 1);
    check(3_600_000, 0, 1);
}

#[test]
fn a_second_death_after_a_stable_run_waits_again() {
    let mut walk = Walk::new(Policy::default()).ready();
    walk.tick();
    walk.now += secs(10);
    assert_eq!((walk.down(FaultClass::CrashRunning), walk.wakes_in()), ("backoff".to_owned(), Some(0)));
    walk.released();
    assert_eq!(walk.tick(), "queued, request 2 retry");
    walk.permit();
    walk.down(FaultClass::CrashOnStart);
    assert_eq!((walk.wakes_in(), walk.state.failures()), (Some(2_000), 2));
}

#[test]
fn recovery_is_told_when_the_run_is_stable_and_not_before() {
    let mut walk = Walk::new(Policy::default()).crashed(3);
    walk.tick();
    walk.permit();
    assert_eq!(walk.up(), "ready, return 4");
    assert_eq!(walk.state.failures(), 3);
    assert_eq!(walk.tick(), "ready, notice recovered");
    assert_eq!((walk.state.failures(), walk.state.wake_at()), (0, None));
    assert_eq!(walk.on(Event::Tick), "=");
    let mut quiet = Walk::new(Policy::default()).crashed(2);
    quiet.tick();
    quiet.permit();
    quiet.up();
    assert_eq!(quiet.tick(), "ready", "nobody was told of trouble");
}

#[test]
fn a_streak_after_a_recovery_is_told_anew() {
    let mut walk = Walk::new(Policy::default()).crashed(3);
    walk.tick();
    walk.permit();
    walk.up();
    walk.tick();
    for expected in ["backoff", "backoff, return 5", "backoff, notice failing 3, return 6"] {
        assert_eq!(walk.down(FaultClass::CrashRunning), expected);
        walk.released();
        walk.tick();
        walk.permit();
    }
}

#[test]
fn the_next_start_waits_for_what_is_left_of_the_last() {
    let mut walk = Walk::new(Policy::default()).ready();
    assert_eq!(walk.down(FaultClass::CrashRunning), "backoff");
    assert_eq!((walk.state.is_released(), walk.wakes_in()), (false, Some(1_000)));
    assert_eq!(walk.tick(), "stopping", "due, and not released");
    assert_eq!(walk.wakes_in(), Some(15_000), "not for ever");
    walk.now += secs(14);
    assert_eq!(walk.on(Event::Tick), "=");
    assert_eq!(walk.released(), "queued, request 2 retry");
}

#[test]
fn a_release_before_the_death_is_reported_is_enough() {
    let mut walk = Walk::new(Policy::default()).ready();
    assert_eq!(walk.released(), "ready");
    assert_eq!(walk.down(FaultClass::CrashRunning), "backoff");
    assert_eq!(walk.tick(), "queued, request 2 retry");
}

#[test]
fn a_slow_start_is_ended_and_tried_again() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    walk.permit();
    walk.now += secs(30);
    let ended = [
        Effect::ReturnPermit { incarnation: Incarnation::FIRST },
        Effect::Disconnect { incarnation: Incarnation::FIRST, grace: secs(5) },
    ];
    assert_eq!(walk.effects(Event::Tick), ended);
    let last = walk.state.last_fault().expect("it failed");
    assert_eq!((last.class, last.reason), (FaultClass::SlowStart, DeathReason::StartTimeout));
    assert_eq!((walk.state.view(), walk.state.failures()), (ServerState::Stopping, 1));
    assert_eq!(walk.state.next_try(), Some(walk.now + secs(1)), "the delay runs while it is being stopped");
    walk.now += Duration::from_millis(300);
    assert_eq!(walk.up(), "=", "too late");
    assert_eq!(walk.down(FaultClass::KilledByUs), "=", "that was us");
    assert_eq!((walk.released(), walk.wakes_in()), ("backoff".to_owned(), Some(700)));
    walk.tick();
    assert_eq!(walk.permit(), "starting, restarted start_timeout, connect 2");
}

#[test]
fn a_long_stop_uses_the_delay_up() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    walk.permit();
    walk.tick();
    walk.now += secs(5);
    assert_eq!((walk.released(), walk.wakes_in()), ("backoff".to_owned(), Some(0)));
}

#[test]
fn what_a_person_must_mend_is_told_once_and_looked_at_again_now_and_then() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    walk.permit();
    assert_eq!(walk.down(FaultClass::NotFound), "needs_action, notice act not_found, return 1");
    assert_eq!((walk.wakes_in(), walk.state.failures()), (Some(300_000), 1));
    assert_eq!(walk.state.next_try(), walk.state.wake_at());
    walk.released();
    assert_eq!(walk.tick(), "queued, request 2 fresh");
    walk.permit();
    assert_eq!(walk.down(FaultClass::NotFound), "needs_action, return 2", "told already");
    walk.released();
    walk.tick();
    walk.permit();
    assert_eq!(walk.down(FaultClass::Auth), "needs_action, notice act auth, return 3", "another thing to mend");
    assert_eq!((walk.state.wake_at(), walk.state.next_try()), (None, None));
    walk.released();
    assert_eq!(walk.on(Event::Restart), "queued, request 4 fresh");
    walk.permit();
    walk.up();
    assert_eq!(walk.tick(), "ready, notice recovered");
}

#[test]
fn a_host_that_is_short_of_something_is_not_the_servers_failure() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    walk.permit();
    let incarnation = walk.current();
    let effects = walk.effects(Event::Down { incarnation, fault: fault(FaultClass::HostResource) });
    assert_eq!(effects, [Effect::PauseGate(secs(5)), Effect::ReturnPermit { incarnation }]);
    assert_eq!(walk.released(), "queued, request 2 fresh");
    assert_eq!(walk.state.failures(), 0);
    assert_eq!(walk.permit(), "starting, restarted resources, connect 2");
}

#[test]
fn ten_failures_lead_to_quarantine_and_a_call_leads_out_of_it() {
    let mut walk = Walk::new(Policy::default()).crashed(9);
    walk.tick();
    walk.permit();
    assert_eq!(walk.down(FaultClass::CrashOnStart), "quarantined, notice quarantined 10, return 10");
    assert_eq!(walk.wakes_in(), Some(360_000));
    walk.released();
    walk.now += Duration::from_millis(29_999);
    assert_eq!(walk.on(Event::Called), "=");
    walk.now += Duration::from_millis(1);
    assert_eq!(walk.on(Event::Called), "queued, request 11 retry");
    walk.permit();
    walk.jitter = 0.0;
    assert_eq!(walk.down(FaultClass::CrashOnStart), "quarantined, return 11", "told already");
    assert_eq!(walk.wakes_in(), Some(240_000));
    walk.released();
    assert_eq!(walk.tick(), "queued, request 12 retry");
    walk.permit();
    walk.up();
    assert_eq!(walk.tick(), "ready, notice recovered");
}

#[test]
fn a_quarantine_alone_is_trouble_enough_for_good_news() {
    let policy = Policy { notify_after: None, quarantine_after: nth(1), ..Policy::default() };
    let mut walk = Walk::new(policy).crashed(1);
    walk.tick();
    walk.permit();
    walk.up();
    assert_eq!(walk.tick(), "ready, notice recovered");
}

#[test]
fn a_policy_that_becomes_less_patient_is_followed_from_the_next_step() {
    let mut walk = Walk::new(Policy { notify_after: None, ..Policy::default() }).crashed(5);
    walk.tick();
    walk.permit();
    walk.tick();
    assert_eq!(walk.state.next_try(), Some(walk.now + secs(30)));
    walk.policy.notify_after = nth(3);
    walk.policy.schedule = crate::Schedule::new(secs(1), 2.0, secs(2)).unwrap();
    assert_eq!((walk.released(), walk.wakes_in()), ("backoff".to_owned(), Some(2_000)));
    walk.tick();
    walk.permit();
    assert_eq!(walk.down(FaultClass::CrashOnStart), "backoff, notice failing 7, return 7");
}

#[test]
fn without_a_limit_there_is_neither_notice_nor_quarantine() {
    let policy = Policy { notify_after: None, quarantine_after: None, ..Policy::default() };
    let mut walk = Walk::new(policy).crashed(40);
    walk.tick();
    walk.permit();
    assert_eq!(walk.down(FaultClass::CrashOnStart), "backoff, return 41");
    assert_eq!(walk.wakes_in(), Some(30_000));
}

#[test]
fn three_missed_probes_are_a_hang_and_an_answer_clears_them() {
    let mut walk = Walk::new(Policy::default()).ready();
    assert_eq!(walk.probe(false), "degraded");
    assert_eq!(walk.probe(false), "degraded");
    assert_eq!(walk.probe(true), "ready");
    assert_eq!(walk.wakes_in(), Some(60_000));
    walk.probe(false);
    walk.probe(false);
    assert_eq!(walk.probe(false), "stopping, disconnect 1");
    assert_eq!(walk.state.last_fault().map(|fault| fault.class), Some(FaultClass::Hang));
    assert_eq!((walk.released(), walk.wakes_in()), ("backoff".to_owned(), Some(1_000)));
    walk.tick();
    assert_eq!(walk.permit(), "starting, restarted hang, connect 2");
}

#[test]
fn a_degraded_server_is_not_stable_until_it_answers() {
    let mut walk = Walk::new(Policy::default()).ready();
    walk.now += secs(50);
    walk.probe(false);
    assert_eq!(walk.wakes_in(), None);
    walk.now += secs(50);
    let mut dead = walk.clone();
    dead.down(FaultClass::CrashRunning);
    assert_eq!(dead.wakes_in(), Some(1_000));
    assert_eq!((walk.probe(true), walk.wakes_in()), ("ready".to_owned(), Some(0)));
    walk.tick();
    walk.probe(false);
    walk.down(FaultClass::CrashRunning);
    assert_eq!(walk.wakes_in(), Some(0), "it had been stable before");
}

#[test]
fn a_restart_by_a_person_forgives_and_waits_only_for_the_release() {
    let mut walk = Walk::new(Policy::default()).crashed(3);
    walk.tick();
    walk.permit();
    walk.up();
    assert_eq!(walk.on(Event::Restart), "stopping, disconnect 4");
    assert_eq!((walk.state.failures(), walk.state.next_try()), (0, None));
    assert_eq!(walk.released(), "queued, request 5 fresh");
    assert_eq!(walk.permit(), "starting, restarted operator, connect 5");
    walk.up();
    assert_eq!(walk.tick(), "ready, notice recovered", "somebody was told of trouble before the restart");
}

#[test]
fn a_restart_while_a_recheck_waits_for_its_permit_begins_a_new_streak() {
    let mut walk = Walk::new(Policy { notify_after: nth(1), ..Policy::default() }).crashed(1);
    walk.tick();
    walk.permit();
    walk.down(FaultClass::NotFound);
    walk.released();
    assert_eq!(walk.tick(), "queued, request 3 fresh");
    assert_eq!(walk.on(Event::Restart), "queued", "it keeps its place");
    walk.permit();
    assert_eq!(walk.down(FaultClass::CrashOnStart), "backoff, notice failing 1, return 3");
}

#[test]
fn the_last_order_given_during_a_stop_is_the_one_that_counts() {
    let check = |orders: &[Event], expected: &str| {
        let mut walk = Walk::new(Policy::default()).ready();
        for order in orders {
            walk.effects(order.clone());
            assert_eq!(walk.state.view(), ServerState::Stopping);
        }
        assert_eq!(walk.released(), expected, "after {orders:?}");
    };
    check(&[Event::Stop], "stopped");
    check(&[Event::Disable], "disabled");
    check(&[Event::Shutdown], "stopped");
    check(&[Event::Stop, Event::Start], "queued, request 2 fresh");
    check(&[Event::Stop, Event::Disable], "disabled");
    check(&[Event::Restart, Event::Stop], "stopped");
    check(&[Event::Disable, Event::Stop], "disabled");
    check(&[Event::Disable, Event::Shutdown], "disabled");
    check(&[Event::Restart, Event::Shutdown, Event::Start, Event::Restart], "stopped");
}

#[test]
fn a_shutdown_is_never_answered_with_a_restart() {
    let mut walk = Walk::new(Policy::default()).ready();
    walk.down(FaultClass::CrashRunning);
    assert_eq!(walk.on(Event::Shutdown), "stopping");
    assert!(walk.state.is_shut_down());
    walk.now += secs(14);
    for order in [Event::Tick, Event::Called, Event::Start, Event::Restart] {
        assert_eq!(walk.on(order), "=");
    }
    assert_eq!(walk.released(), "stopped");
    for order in [Event::Tick, Event::Called, Event::Start, Event::Restart, Event::Stop, Event::Disable] {
        assert_eq!(walk.on(order), "=");
    }
}

#[test]
fn a_disabled_server_starts_only_when_its_policy_enables_it() {
    let mut walk = Walk::new(Policy { enabled: false, ..Policy::default() });
    for order in [Event::Start, Event::Restart, Event::Stop, Event::Called, Event::Tick] {
        assert_eq!(walk.on(order), "=");
    }
    walk.policy.enabled = true;
    assert_eq!(walk.on(Event::Start), "queued, request 1 fresh");
}

#[test]
fn the_restart_policy_decides_which_deaths_are_followed_by_a_start() {
    let check = |restart: Restart, served: bool, class: FaultClass, expected: &str| {
        let mut walk = Walk::new(Policy { restart, ..Policy::default() });
        walk.effects(Event::Start);
        walk.permit();
        if served {
            walk.up();
        }
        walk.down(class);
        walk.released();
        assert_eq!(walk.state.view().as_str(), expected, "{restart:?}, served {served}, {class}");
    };
    check(Restart::Always, true, FaultClass::CleanExit, "backoff");
    check(Restart::OnFailure, true, FaultClass::CleanExit, "stopped");
    check(Restart::OnFailure, false, FaultClass::CleanExit, "backoff");
    check(Restart::OnFailure, true, FaultClass::CrashRunning, "backoff");
    check(Restart::Never, true, FaultClass::CleanExit, "stopped");
    check(Restart::Never, true, FaultClass::CrashRunning, "stopped");
    check(Restart::Never, false, FaultClass::CrashOnStart, "stopped");
    check(Restart::Never, false, FaultClass::HostResource, "queued");
    check(Restart::Never, true, FaultClass::HostResource, "stopped");
    check(Restart::Never, false, FaultClass::NotFound, "needs_action");
}

#[test]
fn a_server_that_is_not_restarted_keeps_its_tools_and_has_no_timer() {
    let mut walk = Walk::new(Policy { restart: Restart::Never, ..Policy::default() }).ready();
    assert_eq!(walk.down(FaultClass::CrashRunning), "stopping");
    assert_eq!((walk.released(), walk.state.failures()), ("stopped".to_owned(), 1));
    let mut missing = Walk::new(Policy { restart: Restart::Never, ..Policy::default() });
    missing.effects(Event::Start);
    missing.permit();
    missing.down(FaultClass::NotFound);
    assert_eq!((missing.state.view(), missing.state.wake_at()), (ServerState::NeedsAction, None));
}

#[test]
fn a_lazy_server_sleeps_until_it_is_called() {
    let mut walk = Walk::new(Policy { lazy: true, ..Policy::default() });
    assert_eq!(walk.on(Event::Start), "idle");
    assert_eq!(walk.on(Event::Called), "queued, request 1 fresh");
}

#[test]
fn a_permit_that_crosses_its_return_starts_nothing() {
    let mut walk = Walk::new(Policy::default());
    walk.effects(Event::Start);
    assert_eq!(walk.on(Event::Stop), "stopped, return 1, retract");
    assert_eq!(walk.permit(), "=");
    walk.effects(Event::Start);
    assert_eq!(walk.on(Event::Permit { incarnation: incarnation(1) }), "queued, stale");
    assert_eq!(walk.permit(), "starting, connect 2", "number 1 never lived: not a restart");
}

#[test]
fn boundless_durations_overflow_nothing() {
    let forever = Duration::MAX;
    let policy = Policy {
        stable_after: forever,
        start_timeout: forever,
        quarantine_probe: forever,
        recheck: forever,
        quarantine_after: nth(1),
        ..Policy::default()
    };
    let mut walk = Walk::new(policy).ready();
    walk.down(FaultClass::CrashRunning);
    walk.released();
    assert_eq!(walk.tick(), "queued, request 2 retry");
    walk.permit();
    walk.down(FaultClass::NotFound);
    assert!(walk.state.wake_at().is_some());
}
