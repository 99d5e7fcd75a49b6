//! Tests of the start gate: its order, its bounds, its pause and its brake.

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
        gate.request(server(name), Incarnation::FIRST, class, StartKind::Process);
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
    gate.request(server("a"), Incarnation::FIRST.next(), StartClass::Retry, StartKind::Process);
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

#[test]
fn required_starts_pass_first_and_retries_last() {
    let (mut gate, now) = (gate(1), moment());
    request(&mut gate, StartClass::Retry, &["r"]);
    request(&mut gate, StartClass::Fresh, &["f"]);
    request(&mut gate, StartClass::Required, &["q"]);
    for expected in ["q", "f", "r"] {
        assert_eq!(granted(&mut gate, now), [expected]);
        gate.release(&server(expected), Incarnation::FIRST);
    }
}

#[test]
fn cold_starts_take_half_of_the_slots_and_let_others_pass() {
    let check = |slots: usize, expected: &[&str]| {
        let (mut gate, now) = (gate(slots), moment());
        for name in ["npx1", "npx2", "npx3", "npx4"] {
            gate.request(server(name), Incarnation::FIRST, StartClass::Fresh, StartKind::Cold);
        }
        request(&mut gate, StartClass::Retry, &["p1", "p2", "p3"]);
        assert_eq!(granted(&mut gate, now), expected, "{slots} slots");
    };
    check(1, &["npx1"]);
    check(2, &["npx1", "p1"]);
    check(3, &["npx1", "p1", "p2"]);
    check(4, &["npx1", "npx2", "p1", "p2"]);
}

#[test]
fn the_network_has_slots_of_its_own() {
    let (mut gate, now) = (gate(1), moment());
    request(&mut gate, StartClass::Fresh, &["p1", "p2"]);
    for number in 0..20 {
        gate.request(server(&format!("n{number}")), Incarnation::FIRST, StartClass::Retry, StartKind::Network);
    }
    let first = granted(&mut gate, now);
    assert_eq!((first.len(), first[0].as_str(), first[16].as_str()), (17, "p1", "n15"));
    gate.release(&server("p1"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now), ["p2"]);
}

#[test]
fn launchers_that_fetch_packages_start_cold() {
    for (program, kind) in [
        ("npx", StartKind::Cold),
        ("/usr/local/bin/uvx", StartKind::Cold),
        ("npx.cmd", StartKind::Cold),
        ("bunx", StartKind::Cold),
        ("pipx", StartKind::Cold),
        ("node", StartKind::Process),
        ("/opt/npx/server", StartKind::Process),
    ] {
        assert_eq!(StartKind::of_program(Path::new(program)), kind, "{program}");
    }
}

#[test]
fn a_start_that_hangs_gives_up_its_slot_and_not_its_permit() {
    let (mut gate, now) = (gate(1), moment());
    request(&mut gate, StartClass::Fresh, &["hangs"]);
    assert_eq!(granted(&mut gate, now), ["hangs"]);
    assert_eq!(gate.wake_at(), None, "nobody waits");
    request(&mut gate, StartClass::Fresh, &["next", "last"]);
    assert_eq!(gate.wake_at(), Some(now + SLOT_TIME));
    assert_eq!(granted(&mut gate, now + SLOT_TIME / 2), [""; 0]);
    assert_eq!(granted(&mut gate, now + SLOT_TIME), ["next"]);
    gate.release(&server("hangs"), Incarnation::FIRST);
    assert_eq!((gate.in_use(), granted(&mut gate, now + SLOT_TIME)), (1, Vec::new()), "its slot was free already");
}

#[test]
fn a_brake_lets_one_start_at_a_time_and_no_retry() {
    let (mut gate, now) = (gate(3), moment());
    request(&mut gate, StartClass::Retry, &["r"]);
    request(&mut gate, StartClass::Fresh, &["f1", "f2"]);
    gate.brake_until(now + Duration::from_secs(4));
    gate.brake_until(now + Duration::from_secs(1));
    assert_eq!(granted(&mut gate, now), ["f1"]);
    assert_eq!(gate.wake_at(), Some(now + Duration::from_secs(4)));
    gate.release(&server("f1"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now), ["f2"]);
    gate.release(&server("f2"), Incarnation::FIRST);
    assert_eq!(granted(&mut gate, now + Duration::from_secs(3)), [""; 0]);
    assert_eq!(granted(&mut gate, now + Duration::from_secs(4)), ["r"]);
}

#[derive(Debug, Clone)]
enum Move {
    Request(u8, StartClass, StartKind),
    Release(u8),
    Pause(u64),
    Brake(u64),
    Wait(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    let class = prop::sample::select(vec![StartClass::Required, StartClass::Fresh, StartClass::Retry]);
    let kind = prop::sample::select(vec![StartKind::Process, StartKind::Cold, StartKind::Network]);
    prop_oneof![
        8 => (0_u8..40, class, kind).prop_map(|(server, class, kind)| Move::Request(server, class, kind)),
        3 => (0_u8..40).prop_map(Move::Release),
        1 => (0_u64..5_000).prop_map(Move::Pause),
        1 => (0_u64..5_000).prop_map(Move::Brake),
        2 => (0_u64..9_000).prop_map(Move::Wait),
    ]
}

/// What a gate is to do, said in the plainest way.
struct Model {
    slots: usize,
    waiting: Vec<(u8, StartClass, StartKind)>,
    held: Vec<(u8, StartKind, Instant)>,
    paused: Instant,
    braked: Instant,
}

impl Model {
    fn count(&self, kinds: &[StartKind]) -> usize {
        self.held.iter().filter(|(_, kind, _)| kinds.contains(kind)).count()
    }

    fn may(&self, class: StartClass, kind: StartKind, now: Instant) -> bool {
        let processes = self.count(&[StartKind::Process, StartKind::Cold]);
        let room = match kind {
            StartKind::Network => self.count(&[StartKind::Network]) < NETWORK_SLOTS,
            StartKind::Process => processes < self.slots,
            StartKind::Cold => processes < self.slots && self.count(&[StartKind::Cold]) < (self.slots / 2).max(1),
        };
        let brake = now >= self.braked || class != StartClass::Retry && self.held.is_empty();
        now >= self.paused && brake && room
    }

    fn grant(&mut self, now: Instant) -> Vec<String> {
        self.held.retain(|(_, _, since)| now.duration_since(*since) < SLOT_TIME);
        let mut granted = Vec::new();
        loop {
            let mut able: Vec<_> =
                self.waiting.iter().filter(|(_, class, kind)| self.may(*class, *kind, now)).collect();
            able.sort_by_key(|(_, class, _)| *class);
            let Some(&(number, _, kind)) = able.first().copied() else { return granted };
            self.waiting.retain(|(other, ..)| *other != number);
            self.held.push((number, kind, now));
            granted.push(format!("s{number}"));
        }
    }
}

proptest! {
    #[test]
    fn a_gate_does_what_its_model_does_and_wakes_in_time(
        slots in 1_usize..5,
        moves in prop::collection::vec(any_move(), 0..100),
    ) {
        let mut gate = gate(slots);
        let mut now = moment();
        let mut model = Model { slots, waiting: Vec::new(), held: Vec::new(), paused: now, braked: now };
        for step in moves {
            match step {
                Move::Request(number, class, kind) => {
                    gate.request(server(&format!("s{number}")), Incarnation::FIRST, class, kind);
                    let known = model.waiting.iter().any(|(other, ..)| *other == number)
                        || model.held.iter().any(|(other, ..)| *other == number);
                    if !known {
                        model.waiting.push((number, class, kind));
                    }
                }
                Move::Release(number) => {
                    gate.release(&server(&format!("s{number}")), Incarnation::FIRST);
                    model.waiting.retain(|(other, ..)| *other != number);
                    model.held.retain(|(other, ..)| *other != number);
                }
                Move::Pause(millis) => {
                    let until = now + Duration::from_millis(millis);
                    gate.pause_until(until);
                    model.paused = model.paused.max(until);
                }
                Move::Brake(millis) => {
                    let until = now + Duration::from_millis(millis);
                    gate.brake_until(until);
                    model.braked = model.braked.max(until);
                }
                Move::Wait(millis) => {
                    // Nothing could have been granted before the gate wanted to be woken.
                    let later = now + Duration::from_millis(millis);
                    let due = gate.wake_at().filter(|due| *due <= later);
                    let before = due.and_then(|due| due.checked_sub(Duration::from_nanos(1))).unwrap_or(later);
                    prop_assert_eq!(granted(&mut gate.clone(), before.max(now)), Vec::<String>::new());
                    now = later;
                }
            }
            prop_assert_eq!(granted(&mut gate, now), model.grant(now));
            prop_assert_eq!((gate.in_use(), gate.waiting()), (model.held.len(), model.waiting.len()));
            prop_assert!(gate.wake_at().is_none_or(|due| due > now), "a timer that would run at once, again and again");
        }
    }
}
