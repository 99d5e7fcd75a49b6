//! Tests of the start gate: its order, its bounds, its pause.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an instant can only be made from the clock; which one does not matter")]
fn moment() -> Instant {
    Instant::now()
}

fn server(name: &str) -> ServerId {
    ServerId::new(name).unwrap()
}

fn gate(slots: usize) -> Gate {
    Gate::new(NonZeroUsize::new(slots).unwrap())
}

fn request(gate: &mut Gate, class: StartClass, names: &[&str]) {
    for name in names {
        gate.request(server(name), Incarnation::FIRST, class);
    }
}

fn granted(gate: &mut Gate, now: Instant) -> Vec<String> {
    gate.grants(now).into_iter().map(|(server, _)| server.to_string()).collect()
}

#[test]
fn fresh_starts_pass_before_retries_and_each_line_keeps_its_order() {
    let (mut gate, now) = (gate(2), moment());
    request(&mut gate, StartClass::Retry, &["r1", "r2"]);
    request(&mut gate, StartClass::Fresh, &["f1", "f2", "f3"]);
    assert_eq!(granted(&mut gate, now), ["f1", "f2"]);
    assert_eq!(granted(&mut gate, now), [""; 0], "no slot is free");
    gate.release(&server("f2"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now), ["f3"]);
    gate.release(&server("f1"), Incarnation::FIRST);
    gate.release(&server("f3"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now), ["r1", "r2"]);
    assert_eq!((gate.in_use(), gate.waiting()), (2, 0));
}

#[test]
fn a_request_that_waits_can_be_withdrawn() {
    let (mut gate, now) = (gate(1), moment());
    request(&mut gate, StartClass::Fresh, &["a", "b", "c"]);
    assert_eq!(granted(&mut gate, now), ["a"]);
    gate.release(&server("b"), Incarnation::FIRST);
    gate.release(&server("a"), Incarnation::FIRST.next());
    assert_eq!(granted(&mut gate, now), [""; 0], "another incarnation's permit frees nothing");
    gate.release(&server("a"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now), ["c"]);
}

#[test]
fn a_server_that_is_gone_leaves_nothing_behind() {
    let (mut gate, now) = (gate(1), moment());
    request(&mut gate, StartClass::Fresh, &["a", "b"]);
    assert_eq!(granted(&mut gate, now), ["a"]);
    gate.request(server("a"), Incarnation::FIRST.next(), StartClass::Retry);
    gate.cancel(&server("a"));
    assert_eq!(granted(&mut gate, now), ["b"]);
    assert_eq!(gate.waiting(), 0);
}

#[test]
fn a_second_request_for_the_same_start_changes_nothing() {
    let (mut gate, now) = (gate(3), moment());
    request(&mut gate, StartClass::Fresh, &["a", "a"]);
    assert_eq!(granted(&mut gate, now), ["a"]);
    request(&mut gate, StartClass::Retry, &["a"]);
    assert_eq!(granted(&mut gate, now), [""; 0]);
}

#[test]
fn a_pause_holds_grants_back_and_is_never_shortened() {
    let (mut gate, now) = (gate(1), moment());
    let second = Duration::from_secs(1);
    gate.pause_until(now + 5 * second);
    gate.pause_until(now + second);
    assert_eq!(gate.wake_at(), None, "nobody waits for it");
    request(&mut gate, StartClass::Fresh, &["a"]);
    assert_eq!(gate.wake_at(), Some(now + 5 * second));
    assert_eq!(granted(&mut gate, now + 4 * second), [""; 0]);
    assert_eq!(granted(&mut gate, now + 5 * second), ["a"]);
    assert_eq!(gate.wake_at(), None);
}

#[derive(Debug, Clone)]
enum Move {
    Request(u8, bool),
    Release(u8),
    Pause(u64),
    Wait(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0_u8..12, any::<bool>()).prop_map(|(server, fresh)| Move::Request(server, fresh)),
        3 => (0_u8..12).prop_map(Move::Release),
        1 => (0_u64..5_000).prop_map(Move::Pause),
        2 => (0_u64..5_000).prop_map(Move::Wait),
    ]
}

proptest! {
    #[test]
    fn permits_are_bounded_unique_and_never_withheld_without_cause(
        slots in 1_usize..4,
        moves in prop::collection::vec(any_move(), 0..100),
    ) {
        let mut gate = gate(slots);
        let mut now = moment();
        let (mut asked, mut held, mut paused) = (BTreeSet::new(), BTreeSet::new(), now);
        for step in moves {
            match step {
                Move::Request(number, fresh) => {
                    let class = if fresh { StartClass::Fresh } else { StartClass::Retry };
                    gate.request(server(&format!("s{number}")), Incarnation::FIRST, class);
                    if !held.contains(&format!("s{number}")) {
                        asked.insert(format!("s{number}"));
                    }
                }
                Move::Release(number) => {
                    gate.release(&server(&format!("s{number}")), Incarnation::FIRST);
                    asked.remove(&format!("s{number}"));
                    held.remove(&format!("s{number}"));
                }
                Move::Pause(millis) => {
                    let until = now + Duration::from_millis(millis);
                    gate.pause_until(until);
                    paused = paused.max(until);
                }
                Move::Wait(millis) => now += Duration::from_millis(millis),
            }
            for name in granted(&mut gate, now) {
                prop_assert!(now >= paused, "granted in a pause");
                prop_assert!(asked.remove(&name), "granted what nobody asked for");
                prop_assert!(held.insert(name), "granted twice");
            }
            prop_assert!(held.len() <= slots);
            prop_assert_eq!((gate.in_use(), gate.waiting()), (held.len(), asked.len()));
            let due = !asked.is_empty() && held.len() < slots;
            prop_assert!(!due || gate.wake_at() == Some(paused) && paused > now, "a free slot, a waiter and no pause");
        }
    }
}
