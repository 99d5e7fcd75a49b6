//! Every state that can be reached, up to what does not matter: all events in each, every invariant on every edge.
//!
//! Time passes only by what is due and by one long wait; numbers of incarnations and restarts are left out of what makes two
//! states different, and failures beyond the limits count as one more than they are.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use super::*;
use crate::invariant;
use crate::machine::state::{House, Next, Phase, Rest, Watch};

/// A state without what does not matter: two that have the same one have the same future.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that the future depends on")]
struct Shape {
    phase: (ServerState, ServerState, Option<Rest>, u32),
    /// What is due, and how far away the rest is, in seconds.
    due: [Option<u64>; 4],
    /// Whether a call may lead out of a quarantine.
    aged: bool,
    leased: bool,
    ended: bool,
    failures: u32,
    restarts_of_late: usize,
    told: (bool, bool, Vec<FaultClass>),
    recovery_owed: bool,
    house: House,
}

fn shape(policy: &Policy, state: &State, now: Instant) -> Shape {
    let away = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now).as_secs());
    let watch = state.watch().unwrap_or_default();
    let Watch { stable_at, probe_at, held_until } = watch;
    let rest = if let Phase::Stopped { rest } | Phase::Stopping { next: Next::Stopped { rest }, .. } = state.phase {
        Some(rest)
    } else {
        None
    };
    let limit = policy.quarantine_after.map_or(0, NonZeroU32::get);
    let since = state.since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let house = match state.house {
        House::Closing { parked: Some((view, _)) } => House::Closing { parked: Some((view, None)) },
        House::Open | House::Closing { parked: None } => state.house,
    };
    let ledger = state.ledger();
    let told = ledger.told();
    Shape {
        phase: (state.view(), state.destination(), rest, state.misses()),
        due: [away(state.wake_at()), away(stable_at), away(probe_at), away(held_until)],
        aged: state.view() == ServerState::Quarantined && since >= RETRY_ON_CALL,
        leased: !state.is_released(),
        ended: state.ended.is_some(),
        failures: state.failures().min(limit + 1),
        restarts_of_late: ledger.restarted().len(),
        told: (told.failing, told.quarantined, told.action.iter().copied().collect()),
        recovery_owed: ledger.owes_recovery(),
        house,
    }
}

/// What may happen in a state; the time that passes before it, first.
fn moves(state: &State, now: Instant) -> Vec<(Duration, Event)> {
    let at_once = |event: Event| (Duration::ZERO, event);
    let mut all: Vec<_> =
        [Event::Start, Event::Stop, Event::Restart, Event::Disable, Event::Shutdown, Event::Called].map(at_once).into();
    all.push((RETRY_ON_CALL, Event::Called));
    all.push(at_once(Event::Tick));
    if let Some(due) = state.wake_at() {
        all.push((due.saturating_duration_since(now), Event::Tick));
    }
    if let Some(incarnation) = state.incarnation() {
        let classes = [
            FaultClass::CrashRunning,
            FaultClass::CleanExit,
            FaultClass::HostResource,
            FaultClass::NotFound,
            FaultClass::Consent,
        ];
        all.extend(classes.map(|class| at_once(Event::Down { incarnation, fault: fault(class) })));
        all.extend(
            [
                Event::Permit { incarnation },
                Event::Up { incarnation },
                Event::Released { incarnation },
                Event::Idle { incarnation },
                Event::Throttled { incarnation, until: now + secs(45) },
                Event::ProbeOk { incarnation },
                Event::ProbeMissed { incarnation },
                Event::Up { incarnation: incarnation.next() },
            ]
            .map(at_once),
        );
    }
    all
}

/// All that was found under one policy: a state of each shape, and how it was reached.
struct Map {
    name: &'static str,
    policy: Policy,
    states: Vec<(State, Instant)>,
    edges: usize,
    came_from: Vec<Option<(usize, Event)>>,
}

impl Map {
    /// Walks through everything that `policy` allows. Panics on the first broken invariant, with the way that led there.
    fn of(name: &'static str, policy: Policy) -> Self {
        let begin = moment();
        let first = State::initial(&policy);
        let mut known: HashMap<Shape, usize> = HashMap::from([(shape(&policy, &first, begin), 0)]);
        let states = vec![(first, begin)];
        let mut map = Self { name, policy, states, edges: 0, came_from: vec![None] };
        let policy = &map.policy.clone();
        let mut todo = VecDeque::from([0]);
        while let Some(place) = todo.pop_front() {
            let (before, then) = map.states[place].clone();
            for (wait, event) in moves(&before, then) {
                let now = then + wait;
                let (after, effects) = Transition::new(policy, &before, now, 1.0).apply(event.clone());
                let step =
                    invariant::Step { policy, before: &before, event: &event, now, after: &after, effects: &effects };
                if let Some(broken) = invariant::broken(&step) {
                    panic!("{broken} is broken after {}: {step:#?}", map.way(place));
                }
                map.edges += 1;
                known.entry(shape(policy, &after, now)).or_insert_with(|| {
                    map.states.push((after, now));
                    map.came_from.push(Some((place, event)));
                    todo.push_back(map.states.len() - 1);
                    map.states.len() - 1
                });
            }
        }
        map
    }

    fn way(&self, mut place: usize) -> String {
        let mut way = Vec::new();
        while let Some((from, event)) = &self.came_from[place] {
            way.push(format!("{event:?}"));
            place = *from;
        }
        way.reverse();
        way.join(", ")
    }
}

static MAPS: LazyLock<Vec<Map>> = LazyLock::new(|| {
    let small = Policy {
        schedule: crate::Schedule::new(secs(4), 2.0, secs(8)).unwrap(),
        notify_after: nth(1),
        quarantine_after: nth(2),
        intensity: Some(Intensity { restarts: nth(2).unwrap(), within: secs(600) }),
        ..Policy::default()
    };
    let sleepy = Policy { lazy: true, idle_stop: Some(secs(60)), restart: Restart::OnFailure, ..small.clone() };
    let probed = Policy { probe: Some(secs(30)), intensity: None, notify_after: None, ..small.clone() };
    let never = Policy { restart: Restart::Never, required: true, idle_stop: Some(secs(60)), ..small.clone() };
    let off = Policy { enabled: false, ..small.clone() };
    let all = [("small", small), ("sleepy", sleepy), ("probed", probed), ("never", never), ("off", off)];
    all.into_iter().map(|(name, policy)| Map::of(name, policy)).collect()
});

#[test]
fn every_reachable_state_keeps_every_invariant_and_a_stop_ends_it_by_time_alone() {
    for map in MAPS.iter() {
        let Map { name, policy, states, edges, .. } = map;
        println!("{name}: {} states, {edges} edges", states.len());
        for (place, (state, now)) in states.iter().enumerate() {
            let (mut state, _) = step(policy, state, Event::Stop, *now, 1.0);
            if let Some(due) = state.wake_at() {
                assert!(due <= *now + policy.patience(), "{name}: after {}", map.way(place));
                state = step(policy, &state, Event::Tick, due, 1.0).0;
            }
            let rests = matches!(state.view(), ServerState::Stopped | ServerState::Disabled);
            assert!(rests && state.is_released(), "{name}: {} after {}", state.view(), map.way(place));
        }
    }
}

#[test]
fn the_walk_is_no_stroll_and_every_state_of_the_house_is_on_it() {
    let sizes: Vec<_> = MAPS.iter().map(|map| (map.name, map.states.len() / 100)).collect();
    assert!(sizes.iter().all(|(name, hundreds)| *hundreds >= if *name == "never" { 2 } else { 20 } || *name == "off"));
    let mut seen: Vec<ServerState> =
        MAPS.iter().flat_map(|map| map.states.iter().map(|(state, _)| state.view())).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, ServerState::ALL);
}

#[test]
fn from_every_state_that_may_run_a_start_leads_to_service() {
    for map in MAPS.iter().filter(|map| map.policy.enabled) {
        for (place, (state, now)) in map.states.iter().enumerate().filter(|(_, (state, _))| !state.is_shut_down()) {
            let (mut state, now) = (state.clone(), *now + secs(1));
            for _ in 0..8 {
                let Some(event) = towards_service(&state) else { break };
                state = step(&map.policy, &state, event, now, 1.0).0;
            }
            assert_eq!(state.view(), ServerState::Ready, "{}: after {}", map.name, map.way(place));
        }
    }
}

#[test]
fn every_state_can_be_remembered_and_a_machine_can_begin_from_it() {
    for map in MAPS.iter() {
        let policy = &map.policy;
        for (place, (state, now)) in map.states.iter().enumerate() {
            let (remembered, later) = (state.remember(*now), *now + secs(3600));
            let begun = State::restore(policy, &remembered, later);
            let way = || format!("{}: after {}", map.name, map.way(place));
            if !policy.enabled {
                assert_eq!(begun, State::initial(policy), "{}", way());
                continue;
            }
            let view = remembered.parked.map_or(ServerState::Stopped, |(view, _)| view);
            assert_eq!((begun.view(), begun.awaits_start()), (view, remembered.parked.is_none()), "{}", way());
            let again = begun.remember(later);
            assert_eq!((again.failures, again.told), (state.failures(), remembered.told), "{}", way());
            let longest = [policy.schedule.cap(), policy.quarantine(1.0), policy.recheck].into_iter().max();
            assert!(begun.wake_at().map(|due| due - later) <= longest, "{}", way());
            for (wait, event) in moves(&begun, later) {
                // A broken invariant panics here.
                let _ = step(policy, &begun, event, later + wait, 1.0);
            }
        }
    }
}

/// What a world in which all goes well does next.
fn towards_service(state: &State) -> Option<Event> {
    let incarnation = state.incarnation().unwrap_or(Incarnation::FIRST);
    Some(match state.view() {
        ServerState::Ready => return None,
        ServerState::Queued => Event::Permit { incarnation },
        ServerState::Starting => Event::Up { incarnation },
        ServerState::Degraded => Event::ProbeOk { incarnation },
        ServerState::Idle => Event::Called,
        ServerState::Stopping if state.destination() == ServerState::Queued => Event::Released { incarnation },
        ServerState::Stopping
        | ServerState::Disabled
        | ServerState::Backoff
        | ServerState::Quarantined
        | ServerState::NeedsAction
        | ServerState::Stopped => Event::Start,
    })
}
