//! Random lives against a model of the world: a gate, a lease, one process at a time, and strangers who report nonsense.

use ostler_core::status::DeathReason;
use proptest::prelude::*;

use super::*;

/// What may happen next. What the world's state does not allow is skipped, so that the world never lies.
#[derive(Debug, Clone)]
enum Move {
    Order(Event),
    Grant,
    Up,
    Down(FaultClass),
    Release,
    Probe {
        ok: bool,
    },
    Idle,
    Throttle {
        millis: u64,
    },
    Wait {
        millis: u64,
    },
    WaitUntilDue,
    Tick,
    /// A report of another incarnation.
    Stranger {
        kind: u8,
        number: u64,
    },
    /// A report of the current incarnation that comes too late or twice.
    Late {
        kind: u8,
    },
}

/// One draw of two numbers a move: a union of strategies would cost ten times as much as the lives themselves.
fn any_move() -> impl Strategy<Value = Move> {
    (0_u8..200, any::<u32>()).prop_map(|(kind, detail)| {
        let pick = |count: usize| usize::try_from(detail).unwrap_or(0) % count;
        match kind {
            0..45 => Move::Grant,
            45..80 => Move::Release,
            80..105 => Move::Up,
            105..128 => Move::Down(FaultClass::ALL[pick(FaultClass::ALL.len())]),
            128..129 => Move::Idle,
            129..130 => Move::Throttle { millis: u64::from(detail % 400_000) },
            130..155 => Move::WaitUntilDue,
            155..167 => {
                Move::Order([Event::Start, Event::Restart, Event::Stop, Event::Disable, Event::Called][pick(5)].clone())
            }
            167..168 => Move::Order(Event::Shutdown),
            168..178 => Move::Probe { ok: pick(4) == 0 },
            178..182 => Move::Wait { millis: u64::from(detail % 2_000) },
            182..186 => Move::Wait { millis: u64::from(detail % 100_000) },
            186..188 => Move::Tick,
            188..194 => Move::Stranger { kind: detail.to_le_bytes()[0] % 8, number: u64::from(detail >> 8) % 40 + 1 },
            _ => Move::Late { kind: detail.to_le_bytes()[0] % 8 },
        }
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let restart = prop::sample::select(vec![Restart::Always, Restart::Always, Restart::OnFailure, Restart::Never]);
    let enabled = prop::sample::select(vec![true, true, true, true, true, false]);
    let choices = any::<[bool; 6]>();
    (restart, enabled, choices, 0_u32..5, 0_u32..6).prop_map(|(restart, enabled, choices, notify, quarantine)| {
        let [sleepy, tired, required, probed, bounded, fussy] = choices;
        Policy {
            restart,
            enabled,
            lazy: sleepy && tired,
            idle_stop: tired.then_some(secs(60)),
            required,
            probe: probed.then_some(secs(30)),
            intensity: bounded.then_some(Intensity { restarts: nth(quarantine + 2).unwrap(), within: secs(90) }),
            expected_exits: if fussy { vec![3] } else { vec![0] },
            notify_after: nth(notify),
            quarantine_after: nth(quarantine),
            ..Policy::default()
        }
    })
}

fn report(kind: u8, incarnation: Incarnation) -> Event {
    match kind {
        0 => Event::Permit { incarnation },
        1 => Event::Up { incarnation },
        2 => Event::Down { incarnation, fault: fault(FaultClass::NotFound) },
        3 => Event::ProbeOk { incarnation },
        4 => Event::ProbeMissed { incarnation },
        5 => Event::Idle { incarnation },
        6 => Event::Throttled { incarnation, until: moment() + secs(3600) },
        _ => Event::Released { incarnation },
    }
}

/// The world outside of the machine, and what it remembers of the past.
#[expect(clippy::struct_excessive_bools, reason = "a world is many independent facts")]
struct World {
    walk: Walk,
    /// The permit asked for, and whether it was granted.
    permit: Option<(Incarnation, bool)>,
    /// Of which incarnation something may be left.
    lease: Option<Incarnation>,
    /// Which incarnation is connected, not disconnected and not reported dead.
    live: Option<Incarnation>,
    connects: u64,
    restarts: u64,
    /// Starts after the first that a call woke.
    wakes: u64,
    /// Whether it has been idle since it was last connected.
    slept: bool,
    /// The deadline of the probe that was sent last.
    probed: Option<Instant>,
    ended: Option<DeathReason>,
    up_at: Option<Instant>,
    /// Whether the live incarnation has had a stable run.
    stable: bool,
    /// Notices in this streak.
    failing: u32,
    quarantined: u32,
    acts: Vec<FaultClass>,
    /// Notices of trouble since the last good news.
    trouble: bool,
    shut: bool,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            walk: Walk::new(policy),
            permit: None,
            lease: None,
            live: None,
            connects: 0,
            restarts: 0,
            wakes: 0,
            slept: false,
            probed: None,
            ended: None,
            up_at: None,
            stable: false,
            failing: 0,
            quarantined: 0,
            acts: Vec::new(),
            trouble: false,
            shut: false,
        }
    }

    fn view(&self) -> ServerState {
        self.walk.state.view()
    }

    /// The event that `step` stands for now, if the world allows it.
    fn event(&mut self, step: Move) -> Option<Event> {
        let current = self.walk.state.incarnation();
        match step {
            Move::Order(event) => Some(event),
            Move::Grant => {
                let (incarnation, granted) = self.permit.as_mut().filter(|(_, granted)| !granted)?;
                *granted = true;
                Some(Event::Permit { incarnation: *incarnation })
            }
            Move::Up => {
                let incarnation = self.live.filter(|_| self.view() == ServerState::Starting)?;
                Some(Event::Up { incarnation })
            }
            Move::Down(class) => Some(Event::Down { incarnation: self.live?, fault: fault(class) }),
            Move::Release => Some(Event::Released { incarnation: self.lease? }),
            Move::Idle => Some(Event::Idle { incarnation: self.live? }),
            Move::Throttle { millis } => {
                Some(Event::Throttled { incarnation: self.live?, until: self.walk.now + Duration::from_millis(millis) })
            }
            Move::Probe { ok: true } => Some(Event::ProbeOk { incarnation: self.live? }),
            Move::Probe { ok: false } => Some(Event::ProbeMissed { incarnation: self.live? }),
            Move::Wait { millis } => {
                self.walk.now += Duration::from_millis(millis);
                None
            }
            Move::WaitUntilDue => {
                self.walk.now = self.walk.now.max(self.walk.state.wake_at()?);
                Some(Event::Tick)
            }
            Move::Tick => Some(Event::Tick),
            Move::Stranger { kind, number } => {
                let stranger = incarnation(number);
                (Some(stranger) != current).then(|| report(kind, stranger))
            }
            Move::Late { kind } => {
                let waits = match kind {
                    0 => self.permit.is_some_and(|(_, granted)| !granted),
                    1 => self.view() == ServerState::Starting,
                    7 => self.lease.is_some(),
                    _ => self.live.is_some(),
                };
                (!waits).then_some(report(kind, current?))
            }
        }
    }

    fn apply(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let before = self.walk.state.clone();
        let now = self.walk.now;
        let stranger = event.incarnation().is_some_and(|incarnation| before.incarnation() != Some(incarnation));
        let due = self.up_at.is_some_and(|at| now >= at + self.walk.policy.stable_after);
        self.stable |= before.view() == ServerState::Ready && due;
        if !stranger {
            self.before(event, &before);
        }
        let effects = self.walk.effects(event.clone());
        prop_assert_eq!(effects == [Effect::Stale], stranger, "{:?}", event);
        if stranger {
            prop_assert_eq!(&self.walk.state, &before);
            return Ok(());
        }
        for (place, effect) in effects.iter().enumerate() {
            self.take(event, effect, effects.get(place + 1))?;
        }
        if self.view() == ServerState::Idle {
            (self.slept, self.ended) = (true, None);
        }
        self.agree(event, &before)
    }

    /// What the world knows by itself from the event.
    fn before(&mut self, event: &Event, before: &State) {
        let sleeps = matches!(event, Event::Idle { .. }) && self.walk.policy.idle_stop.is_some();
        let judged = sleeps || matches!(event, Event::Tick | Event::Down { .. } | Event::ProbeMissed { .. });
        let settles = judged && self.stable && before.view() == ServerState::Ready;
        let pardons = match event {
            Event::Start => {
                let runs = matches!(
                    before.view(),
                    ServerState::Queued | ServerState::Starting | ServerState::Ready | ServerState::Degraded
                );
                !runs && !before.awaits_start()
            }
            Event::Restart | Event::Stop | Event::Disable => true,
            Event::Shutdown
            | Event::Permit { .. }
            | Event::Up { .. }
            | Event::Down { .. }
            | Event::Released { .. }
            | Event::Called
            | Event::Idle { .. }
            | Event::Throttled { .. }
            | Event::ProbeOk { .. }
            | Event::ProbeMissed { .. }
            | Event::Tick => false,
        };
        if settles || pardons {
            (self.failing, self.quarantined) = (0, 0);
            self.acts.clear();
        }
        match event {
            Event::Down { fault, .. } if self.live.take().is_some() => self.ended = Some(fault.reason),
            Event::Released { .. } => self.lease = None,
            Event::Up { .. } if before.view() == ServerState::Starting => self.up_at = Some(self.walk.now),
            Event::Shutdown => self.shut = true,
            Event::Stop | Event::Disable if !self.shut => self.trouble &= before.view() == ServerState::Disabled,
            Event::Start
            | Event::Restart
            | Event::Stop
            | Event::Disable
            | Event::Permit { .. }
            | Event::Up { .. }
            | Event::Down { .. }
            | Event::Called
            | Event::Idle { .. }
            | Event::Throttled { .. }
            | Event::ProbeOk { .. }
            | Event::ProbeMissed { .. }
            | Event::Tick => {}
        }
    }

    fn take(&mut self, event: &Event, effect: &Effect, next: Option<&Effect>) -> Result<(), TestCaseError> {
        match effect {
            Effect::RequestPermit { incarnation: number, .. } => {
                prop_assert!(!self.shut, "a start after a shutdown");
                prop_assert_eq!(self.permit.replace((*number, false)), None, "two permits");
                prop_assert_eq!(self.lease, None, "asked for while something is left");
            }
            Effect::ReturnPermit { incarnation } => {
                prop_assert_eq!(self.permit.take().map(|(number, _)| number), Some(*incarnation));
            }
            Effect::Connect { incarnation, deadline } => {
                prop_assert_eq!(self.permit, Some((*incarnation, true)), "connected without a permit");
                prop_assert_eq!(self.lease.replace(*incarnation), None, "two at a time");
                prop_assert_eq!(self.live.replace(*incarnation), None, "two at a time");
                prop_assert_eq!(*deadline, self.walk.now + self.walk.policy.start_timeout);
                self.wakes += u64::from(self.slept && self.connects > 0);
                prop_assert_eq!(self.restarts + self.wakes, self.connects, "every start after the first is a restart");
                (self.up_at, self.stable, self.slept, self.probed) = (None, false, false, None);
                self.connects += 1;
            }
            Effect::Disconnect { incarnation, grace } => {
                prop_assert_eq!(self.live.take(), Some(*incarnation), "nothing to disconnect");
                prop_assert_eq!(*grace, self.walk.policy.stop_grace);
                self.ended = Some(if *event == Event::Tick {
                    prop_assert!(self.up_at.is_none());
                    DeathReason::StartTimeout
                } else if matches!(event, Event::ProbeMissed { .. }) {
                    DeathReason::Hang
                } else {
                    DeathReason::Operator
                });
            }
            Effect::Restarted(reason) => {
                prop_assert_eq!(self.ended.take(), Some(*reason));
                prop_assert!(matches!(next, Some(Effect::Connect { .. })), "counted apart from its start");
                self.restarts += 1;
            }
            Effect::Probe { incarnation, deadline } => {
                prop_assert_eq!(self.live, Some(*incarnation));
                prop_assert!(self.probed.replace(*deadline).is_none_or(|last| last <= self.walk.now), "two at a time");
            }
            Effect::Zombie { incarnation } => {
                prop_assert_eq!(self.lease.take(), Some(*incarnation), "nothing of it is left");
                prop_assert_eq!(self.live, None, "it was never ended");
            }
            Effect::Notify(notice) => self.hear(notice)?,
            Effect::Retract => prop_assert!(matches!(event, Event::Stop | Event::Disable)),
            Effect::Stale => prop_assert!(false, "it was not a stranger"),
            Effect::PauseGate(_) => {
                let host = matches!(event, Event::Down { fault, .. } if fault.class == FaultClass::HostResource);
                prop_assert!(host, "the host lacks nothing");
            }
        }
        Ok(())
    }

    fn hear(&mut self, notice: &Notice) -> Result<(), TestCaseError> {
        let trouble = *notice != Notice::Recovered;
        match notice {
            Notice::FailingRepeatedly { failures, .. } => {
                self.failing += 1;
                prop_assert!(self.failing == 1, "told twice");
                prop_assert!(self.walk.policy.notify_after.is_some_and(|limit| *failures >= limit.get()));
            }
            Notice::Quarantined { .. } => {
                self.quarantined += 1;
                prop_assert!(self.quarantined == 1, "told twice");
            }
            Notice::NeedsAction(fault) => {
                prop_assert!(!self.acts.contains(&fault.class), "told twice");
                self.acts.push(fault.class);
            }
            Notice::Recovered => prop_assert!(self.trouble && self.stable, "good news for nobody"),
            Notice::Catalogue(_) | Notice::Together(_) | Notice::HostProblem => {
                prop_assert!(false, "not the machine's to say");
            }
        }
        self.trouble = trouble;
        Ok(())
    }

    /// The machine and the world are of one mind.
    fn agree(&self, event: &Event, before: &State) -> Result<(), TestCaseError> {
        let (state, policy) = (&self.walk.state, &self.walk.policy);
        let serving = matches!(state.view(), ServerState::Ready | ServerState::Degraded);
        let live = serving || state.view() == ServerState::Starting;
        prop_assert_eq!(live, self.live.is_some(), "{} and {:?}", state.view(), self.live);
        let starting = matches!(state.view(), ServerState::Queued | ServerState::Starting);
        prop_assert_eq!(starting, self.permit.is_some());
        prop_assert_eq!(state.is_released(), self.lease.is_none());
        prop_assert_eq!(state.restarts(), self.restarts);
        prop_assert!(!self.shut || !live && !starting);
        prop_assert_eq!(state.failures() > 0 && state.last_fault().is_none(), false);
        let limit_passed = policy.notify_after.is_some_and(|limit| state.failures() >= limit.get());
        prop_assert!(state.view() != ServerState::Backoff || !limit_passed || self.failing == 1, "never told");
        if state.view() != before.view() {
            prop_assert_eq!(state.since(), Some(self.walk.now));
        }
        if state.view() == ServerState::Backoff && matches!(event, Event::Down { .. }) && before.view() != state.view()
        {
            let delay = state.next_try().unwrap().saturating_duration_since(self.walk.now);
            let longest = policy.schedule.longest(nth(state.failures()).unwrap());
            prop_assert!(state.last_fault().is_some());
            let within = if self.stable { delay.is_zero() } else { delay >= longest / 2 && delay <= longest };
            prop_assert!(within, "{:?} after {} failures, stable: {}", delay, state.failures(), self.stable);
            prop_assert!(!self.stable || state.failures() == 1);
        }
        Ok(())
    }

    /// A world in which all goes well from now on: the server must come up.
    fn comes_up(&mut self) -> Result<(), TestCaseError> {
        self.walk.policy.enabled = true;
        for _ in 0..6 {
            let step = match self.view() {
                ServerState::Ready => return Ok(()),
                ServerState::Queued => match self.permit {
                    Some((incarnation, true)) => {
                        prop_assert!(false, "permit {incarnation} was granted and forgotten");
                        Move::Tick
                    }
                    _ => Move::Grant,
                },
                ServerState::Starting => Move::Up,
                ServerState::Degraded => Move::Probe { ok: true },
                ServerState::Stopping => Move::Release,
                ServerState::Idle => Move::Order(Event::Called),
                ServerState::Disabled
                | ServerState::Backoff
                | ServerState::Quarantined
                | ServerState::NeedsAction
                | ServerState::Stopped => Move::Order(Event::Start),
            };
            // A stop or a backoff in its course goes on by itself; here the order to start comes first.
            if self.view() == ServerState::Stopping {
                self.apply(&Event::Start)?;
            }
            let event = self.event(step);
            prop_assert!(event.is_some(), "{} and nothing can happen", self.view());
            self.apply(&event.unwrap())?;
        }
        prop_assert!(self.view() == ServerState::Ready, "still {}", self.view());
        Ok(())
    }

    /// A world that closes: nothing may be left, and nothing may begin.
    fn closes(&mut self) -> Result<(), TestCaseError> {
        self.apply(&Event::Shutdown)?;
        // Whether or not what is left ends: a shutdown does.
        let last = if self.walk.jitter < 0.5 { Move::Release } else { Move::WaitUntilDue };
        if let Some(event) = self.event(last) {
            prop_assert_eq!(self.view(), ServerState::Stopping);
            self.apply(&event)?;
        }
        prop_assert!(matches!(self.view(), ServerState::Stopped | ServerState::Disabled), "{}", self.view());
        prop_assert_eq!((self.permit, self.lease, self.live), (None, None, None));
        for order in [Event::Start, Event::Restart, Event::Called, Event::Tick, Event::Stop, Event::Disable] {
            let effects = self.walk.effects(order);
            prop_assert_eq!(effects, []);
        }
        Ok(())
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_random_life_keeps_every_promise_and_ends_well(
        policy in any_policy(),
        moves in prop::collection::vec((any_move(), 0.0_f64..=1.0), 0..200),
        close in any::<bool>(),
    ) {
        let mut world = World::new(policy);
        world.apply(&Event::Start)?;
        for (step, jitter) in moves {
            world.walk.jitter = jitter;
            if let Some(event) = world.event(step) {
                world.apply(&event)?;
            }
        }
        if close || world.shut { world.closes()? } else { world.comes_up()? }
    }
}
