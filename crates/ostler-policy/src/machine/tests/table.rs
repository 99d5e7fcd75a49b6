//! What each event does in each state: one row a state, `=` where nothing changes.

use super::*;

/// One server in each state, by a name of ours. All but the first six have incarnation 1 or a later one behind them.
fn states() -> Vec<(&'static str, Walk)> {
    let policy = || Policy { quarantine_after: nth(4), ..Policy::default() };
    let new = || Walk::new(policy());
    let then = |mut walk: Walk, events: &[Event]| {
        for event in events {
            walk.effects(event.clone());
        }
        walk
    };
    let one = Incarnation::FIRST;
    let permit = Event::Permit { incarnation: one };
    let missed = Event::ProbeMissed { incarnation: one };
    let down = |class| Event::Down { incarnation: one, fault: fault(class) };
    let mut retry = new().crashed(1);
    retry.tick();
    let mut slow = then(new(), &[Event::Start, permit.clone()]);
    slow.tick();
    vec![
        ("disabled", then(new(), &[Event::Disable])),
        ("idle", then(Walk::new(Policy { lazy: true, ..policy() }), &[Event::Start])),
        ("stopped", new()),
        ("shut down", then(new(), &[Event::Shutdown])),
        ("queued", then(new(), &[Event::Start])),
        ("starting", then(new(), &[Event::Start, permit.clone()])),
        ("queued again", retry),
        ("ready", new().ready()),
        ("degraded", then(new().ready(), &[missed])),
        ("stopping to stop", then(new().ready(), &[Event::Stop])),
        ("stopping to retry", slow),
        ("stopping to close", then(new().ready(), &[Event::Shutdown])),
        ("backoff, leased", then(new(), &[Event::Start, permit.clone(), down(FaultClass::Oom)])),
        ("backoff", new().crashed(1)),
        ("quarantined", new().crashed(4)),
        (
            "needs action",
            then(new(), &[Event::Start, permit, down(FaultClass::Auth), Event::Released { incarnation: one }]),
        ),
    ]
}

fn check<const N: usize>(events: [fn(&Walk) -> Event; N], expected: &[(&str, [&str; N])]) {
    let states = states();
    assert_eq!(
        states.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        expected.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    let mut wrong = String::new();
    for ((name, walk), (_, row)) in states.iter().zip(expected) {
        for (event, expected) in events.iter().zip(row) {
            let mut walk = walk.clone();
            let event = event(&walk);
            let found = walk.on(event.clone());
            if found != *expected {
                let _ = writeln!(wrong, "{name}: {event:?}\n  expected {expected}\n  found    {found}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn an_order_does_in_each_state_what_the_table_says() {
    let orders: [fn(&Walk) -> Event; 5] =
        [|_| Event::Start, |_| Event::Stop, |_| Event::Restart, |_| Event::Disable, |_| Event::Shutdown];
    let again = "queued, request 2 fresh";
    let fifth = "queued, request 5 fresh";
    let stop = "stopped, retract";
    let disable = "disabled, retract";
    let wait = "stopping, retract";
    check(
        orders,
        &[
            ("disabled", ["queued, request 1 fresh", "=", "queued, request 1 fresh", "=", "disabled"]),
            ("idle", ["queued, request 1 fresh", stop, "queued, request 1 fresh", disable, "stopped"]),
            ("stopped", ["queued, request 1 fresh", stop, "queued, request 1 fresh", disable, "stopped"]),
            ("shut down", ["=", "=", "=", "=", "="]),
            ("queued", ["=", "stopped, return 1, retract", "=", "disabled, return 1, retract", "stopped, return 1"]),
            (
                "starting",
                [
                    "=",
                    "stopping, return 1, disconnect 1, retract",
                    "stopping, return 1, disconnect 1",
                    "stopping, return 1, disconnect 1, retract",
                    "stopping, return 1, disconnect 1",
                ],
            ),
            (
                "queued again",
                [
                    "=",
                    "stopped, return 2, retract",
                    "queued, return 2, request 3 fresh",
                    "disabled, return 2, retract",
                    "stopped, return 2",
                ],
            ),
            (
                "ready",
                [
                    "=",
                    "stopping, disconnect 1, retract",
                    "stopping, disconnect 1",
                    "stopping, disconnect 1, retract",
                    "stopping, disconnect 1",
                ],
            ),
            (
                "degraded",
                [
                    "=",
                    "stopping, disconnect 1, retract",
                    "stopping, disconnect 1",
                    "stopping, disconnect 1, retract",
                    "stopping, disconnect 1",
                ],
            ),
            ("stopping to stop", ["stopping", wait, "stopping", wait, "stopping"]),
            ("stopping to retry", ["stopping", wait, "stopping", wait, "stopping"]),
            ("stopping to close", ["=", "=", "=", "=", "="]),
            ("backoff, leased", ["stopping", wait, "stopping", wait, "stopping"]),
            ("backoff", [again, stop, again, disable, "stopped"]),
            ("quarantined", [fifth, stop, fifth, disable, "stopped"]),
            ("needs action", [again, stop, again, disable, "stopped"]),
        ],
    );
}

#[test]
fn a_report_does_in_each_state_what_the_table_says() {
    // Where nothing was ever started, the report is somebody else's: `stale`.
    fn of(walk: &Walk) -> Incarnation {
        walk.state.incarnation().unwrap_or(Incarnation::FIRST)
    }
    let reports: [fn(&Walk) -> Event; 10] = [
        |walk| Event::Permit { incarnation: of(walk) },
        |walk| Event::Up { incarnation: of(walk) },
        |walk| Event::Down { incarnation: of(walk), fault: fault(FaultClass::CrashRunning) },
        |walk| Event::Released { incarnation: of(walk) },
        |walk| Event::ProbeOk { incarnation: of(walk) },
        |walk| Event::ProbeMissed { incarnation: of(walk) },
        |walk| Event::Idle { incarnation: of(walk) },
        |walk| Event::Throttled { incarnation: of(walk), until: walk.now },
        |_| Event::Called,
        |_| Event::Tick,
    ];
    let stale = |view: &'static str| [view, view, view, view, view, view, view, view];
    let row = |[a, b, c, d, e, f, g, h]: [&'static str; 8], called, tick| [a, b, c, d, e, f, g, h, called, tick];
    let nothing = ["="; 10];
    check(
        reports,
        &[
            ("disabled", row(stale("disabled, stale"), "=", "=")),
            ("idle", row(stale("idle, stale"), "queued, request 1 fresh", "=")),
            ("stopped", row(stale("stopped, stale"), "=", "=")),
            ("shut down", row(stale("stopped, stale"), "=", "=")),
            ("queued", ["starting, connect 1", "=", "=", "=", "=", "=", "=", "=", "=", "="]),
            ("starting", ["=", "ready, return 1", "backoff, return 1", "starting", "=", "=", "=", "=", "=", "="]),
            ("queued again", ["starting, restarted exit, connect 2", "=", "=", "=", "=", "=", "=", "=", "=", "="]),
            ("ready", ["=", "=", "backoff", "ready", "=", "degraded", "=", "=", "=", "="]),
            ("degraded", ["=", "=", "backoff", "degraded", "ready", "degraded", "=", "=", "=", "="]),
            ("stopping to stop", ["=", "=", "=", "stopped", "=", "=", "=", "=", "=", "="]),
            ("stopping to retry", ["=", "=", "=", "backoff", "=", "=", "=", "=", "=", "="]),
            ("stopping to close", ["=", "=", "=", "stopped", "=", "=", "=", "=", "=", "="]),
            ("backoff, leased", ["=", "=", "=", "backoff", "=", "=", "=", "=", "=", "="]),
            ("backoff", nothing),
            ("quarantined", nothing),
            ("needs action", nothing),
        ],
    );
}

#[test]
fn a_due_tick_does_in_each_state_what_the_table_says() {
    let due = [
        ("starting", "stopping, return 1, disconnect 1"),
        ("ready", "ready"),
        ("stopping to stop", "stopped, zombie 1"),
        ("stopping to retry", "backoff, zombie 1"),
        ("stopping to close", "stopped, zombie 1"),
        ("backoff, leased", "stopping"),
        ("backoff", "queued, request 2 retry"),
        ("quarantined", "queued, request 5 retry"),
    ];
    let found: Vec<_> = states()
        .into_iter()
        .filter(|(_, walk)| walk.state.wake_at().is_some())
        .map(|(name, mut walk)| (name, walk.tick()))
        .collect();
    assert_eq!(found, due.map(|(name, text)| (name, text.to_owned())));
}

#[test]
fn a_report_of_another_incarnation_is_dropped_in_each_state() {
    for (name, walk) in states() {
        let other = walk.state.incarnation().map_or(Incarnation::FIRST, |current| current.next().next());
        for event in [
            Event::Permit { incarnation: other },
            Event::Up { incarnation: other },
            Event::Down { incarnation: other, fault: fault(FaultClass::Auth) },
            Event::Released { incarnation: other },
            Event::Idle { incarnation: other },
            Event::Throttled { incarnation: other, until: walk.now + secs(9000) },
            Event::ProbeOk { incarnation: other },
            Event::ProbeMissed { incarnation: other },
        ] {
            let (after, effects) = step(&walk.policy, &walk.state, event.clone(), walk.now + secs(3600), 0.5);
            assert_eq!((after, effects), (walk.state.clone(), vec![Effect::Stale]), "{name}: {event:?}");
        }
    }
}
