//! What survives our own process, and what a machine that begins from it does.

use super::*;

/// The machine of the next process, which begins a while later.
fn reborn(walk: &Walk) -> Walk {
    let remembered = walk.state.remember(walk.now);
    let now = walk.now + secs(1_000_000);
    Walk { state: State::restore(&walk.policy, &remembered, now), now, ..walk.clone() }
}

#[test]
fn what_ran_is_started_again_and_its_failures_are_not_forgotten() {
    let check = |walk: Walk| {
        let mut next = reborn(&walk);
        assert!(next.state.awaits_start(), "{}", walk.state.view());
        assert_eq!((next.state.view(), next.state.since()), (ServerState::Stopped, None));
        assert_eq!(next.on(Event::Start), "queued, request 1 retry");
        next.permit();
        assert_eq!(next.down(FaultClass::CrashOnStart), "backoff, notice failing 3, return 1");
    };
    let mut walk = Walk::new(Policy::default()).crashed(2);
    walk.tick();
    check(walk.clone());
    walk.permit();
    check(walk.clone());
    walk.up();
    check(walk.clone());
    walk.effects(Event::Shutdown);
    check(walk.clone());
    walk.released();
    check(walk);
}

#[test]
fn what_was_parked_is_parked_again_for_what_remained() {
    let mut walk = Walk::new(Policy::default()).crashed(5);
    walk.now += secs(6);
    let mut next = reborn(&walk);
    assert_eq!((next.state.view(), next.wakes_in()), (ServerState::Backoff, Some(10_000)));
    assert!(!next.state.awaits_start());
    assert_eq!((next.state.since(), next.state.failures()), (Some(next.now), 5));
    assert_eq!(next.state.last_fault(), walk.state.last_fault());
    assert_eq!(next.tick(), "queued, request 1 retry");
    next.permit();
    assert_eq!(next.down(FaultClass::CrashOnStart), "backoff, return 1", "told before the restart");
    next.released();
    next.tick();
    next.permit();
    next.up();
    assert_eq!(next.tick(), "ready, notice recovered");
}

#[test]
fn a_quarantine_and_its_notice_survive() {
    let mut walk = Walk::new(Policy::default()).crashed(10);
    walk.now += secs(60);
    let mut next = reborn(&walk);
    assert_eq!((next.state.view(), next.wakes_in()), (ServerState::Quarantined, Some(300_000)));
    assert_eq!(next.on(Event::Called), "=", "a call right after a boot is no reason");
    next.tick();
    next.permit();
    assert_eq!(next.down(FaultClass::CrashOnStart), "quarantined, return 1");
}

#[test]
fn what_a_person_stopped_stays_stopped_and_what_ended_by_itself_does_not() {
    let mut stopped = Walk::new(Policy::default()).ready();
    stopped.effects(Event::Stop);
    for _ in 0..2 {
        let next = reborn(&stopped);
        assert_eq!((next.state.view(), next.state.awaits_start()), (ServerState::Stopped, false));
        stopped.released();
    }
    stopped.effects(Event::Shutdown);
    assert!(!reborn(&stopped).state.awaits_start(), "a shutdown changes nothing about that");
    let mut over = Walk::new(Policy { restart: Restart::OnFailure, ..Policy::default() }).ready();
    over.down(FaultClass::CleanExit);
    over.released();
    assert!(reborn(&over).state.awaits_start());
}

#[test]
fn what_needs_somebody_is_looked_at_once_because_it_may_have_been_mended() {
    let check = |restart: Restart, class: FaultClass, expected: Option<u128>| {
        let mut walk = Walk::new(Policy { restart, ..Policy::default() });
        walk.effects(Event::Start);
        walk.permit();
        walk.down(class);
        walk.released();
        walk.now += secs(100);
        let mut next = reborn(&walk);
        assert_eq!((next.state.view(), next.wakes_in()), (ServerState::NeedsAction, expected), "{class}");
        if expected.is_some() {
            next.tick();
            next.permit();
            assert_eq!(next.down(class), "needs_action, return 1", "told before the restart");
        }
    };
    check(Restart::Always, FaultClass::NotFound, Some(200_000));
    check(Restart::Always, FaultClass::Auth, Some(300_000));
    check(Restart::Never, FaultClass::NotFound, None);
}

#[test]
fn a_clock_that_jumped_makes_nobody_wait_longer_than_the_policy() {
    let check = |parked: (ServerState, Option<Duration>), view: ServerState, wait: Option<u128>| {
        let remembered = Remembered { failures: 7, told: true, parked: Some(parked), fault: None };
        let (policy, now) = (Policy::default(), moment());
        let state = State::restore(&policy, &remembered, now);
        let waits = state.wake_at().map(|at| (at - now).as_millis());
        assert_eq!((state.view(), waits), (view, wait), "{parked:?}");
        let idle = State::restore(&Policy { enabled: false, ..policy }, &remembered, now);
        assert_eq!((idle.view(), idle.failures()), (ServerState::Disabled, 0));
    };
    let years = Some(Duration::from_hours(100_000));
    check((ServerState::Backoff, years), ServerState::Backoff, Some(30_000));
    check((ServerState::Backoff, None), ServerState::Backoff, Some(30_000));
    check((ServerState::Backoff, Some(secs(0))), ServerState::Backoff, Some(0));
    check((ServerState::Quarantined, years), ServerState::Quarantined, Some(360_000));
    check((ServerState::NeedsAction, years), ServerState::NeedsAction, Some(300_000));
    check((ServerState::Stopped, years), ServerState::Stopped, None);
    check((ServerState::Ready, years), ServerState::Stopped, None);
}

#[test]
fn a_policy_that_knows_no_quarantine_gets_out_of_one() {
    let walk = Walk::new(Policy::default()).crashed(10);
    let policy = Policy { quarantine_after: None, ..Policy::default() };
    let next = State::restore(&policy, &walk.state.remember(walk.now), walk.now);
    assert_eq!((next.view(), next.wake_at()), (ServerState::Backoff, Some(walk.now + secs(30))));
}

#[test]
fn remembering_twice_is_remembering_once() {
    for times in [1, 5, 10] {
        let walk = Walk::new(Policy::default()).crashed(times);
        let next = reborn(&walk);
        assert_eq!(next.state.remember(next.now), walk.state.remember(walk.now));
    }
}
