//! The operator: stops, starts and restarts servers, changes the configuration, and lets the registry be killed.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::{ServerId, ServerState};
use ostler_policy::gate::StartKind;
use ostler_policy::machine::{Policy, Restart};
use ostler_policy::reconcile::Fingerprint;
use ostler_policy::schedule::Schedule;
use ostler_runtime::{LaneLimits, ServerSpec, WhileRestarting};
use ractor::ActorRef;

use super::book::Order;
use super::dice::Dice;
use super::root::RootMsg;
use super::scripted::{Port, Scripted};
use super::window::Window;
use super::world::{World, now};

/// How often the list is looked at while a new registry learns what the old one knew.
const GLANCES: usize = 200;

pub(super) struct Operator {
    pub(super) window: Window,
    pub(super) root: ActorRef<RootMsg>,
    pub(super) desired: Vec<ServerSpec>,
    pub(super) maker: Maker,
    /// From one order to the next.
    pub(super) pause: Duration,
}

/// Makes servers and their configurations.
pub(super) struct Maker {
    pub(super) world: Arc<World>,
    pub(super) limit: Duration,
    pub(super) made: u64,
}

impl Operator {
    /// Gives orders for ever.
    pub(super) async fn run(mut self) {
        for number in 0.. {
            let mut dice = self.window.world.dice("operator", number);
            tokio::time::sleep(dice.about(self.pause)).await;
            self.act(&mut dice);
            // Orders that cross: the second is given before anybody has heard the first.
            while dice.chance(25) {
                self.act(&mut dice);
            }
            for _ in 0..GLANCES {
                tokio::task::yield_now().await;
                self.window.look();
            }
        }
    }

    fn act(&mut self, dice: &mut Dice) {
        match dice.below(100) {
            0..=19 => self.order(dice, Order::Restart),
            20..=34 => self.order(dice, Order::Stop),
            35..=59 => self.order(dice, Order::Start),
            60..=69 => self.change(dice, None),
            70..=73 => self.change(dice, Some(false)),
            74..=79 => self.change(dice, Some(true)),
            80..=85 => self.remove(dice),
            86..=93 => self.add(dice),
            94..=96 => self.shuffle(dice),
            _ => {
                self.window.world.say("the registry is killed".to_owned());
                self.window.world.book(|book| book.tally.registries += 1);
                // A root that is gone has ended the run.
                let _ = self.root.cast(RootMsg::KillRegistry);
            }
        }
    }

    fn order(&self, dice: &mut Dice, order: Order) {
        let Some(mut server) = dice.pick(&self.desired).map(|spec| spec.id.clone()) else { return };
        if order == Order::Start && dice.chance(80) {
            // Most are started because somebody stopped them.
            let is_stopped = |spec: &&ServerSpec| {
                self.window.fleet.status(&spec.id).is_some_and(|status| status.state == ServerState::Stopped)
            };
            if let Some(stopped) = self.desired.iter().find(is_stopped) {
                server = stopped.id.clone();
            }
        }
        let fleet = &self.window.fleet;
        let result = match order {
            Order::Start => fleet.start(&server),
            Order::Stop => fleet.stop(&server),
            Order::Restart | Order::Remove => fleet.restart(&server),
        };
        self.window.world.say(format!("order: {order:?} {server}: {result:?}"));
        if result.is_ok() {
            self.window.world.book(|book| book.ordered(&server, order, now()));
        }
    }

    /// Gives a server another configuration, and behind it another server.
    fn change(&mut self, dice: &mut Dice, is_enabled: Option<bool>) {
        if self.desired.is_empty() {
            return;
        }
        let index = dice.below(self.desired.len());
        let id = self.desired[index].id.clone();
        let enabled = is_enabled.unwrap_or(self.desired[index].policy.enabled);
        let spec = self.maker.spec(id, enabled);
        self.desired[index] = spec;
        self.reconcile("changes", index);
    }

    fn add(&mut self, dice: &mut Dice) {
        let is_free = |id: &ServerId| self.desired.iter().all(|spec| spec.id != *id);
        let Some(id) = (0..=self.desired.len()).map(id).find(is_free) else { return };
        let spec = self.maker.spec(id, true);
        let index = dice.below(self.desired.len() + 1);
        self.desired.insert(index, spec);
        self.reconcile("adds", index);
    }

    fn remove(&mut self, dice: &mut Dice) {
        if self.desired.len() < 2 {
            return;
        }
        let gone = self.desired.remove(dice.below(self.desired.len())).id;
        self.window.world.say(format!("order: removes {gone}"));
        self.window.world.book(|book| book.ordered(&gone, Order::Remove, now()));
        self.send();
    }

    /// The same servers in another order.
    fn shuffle(&mut self, dice: &mut Dice) {
        let (one, other) = (dice.below(self.desired.len()), dice.below(self.desired.len()));
        self.desired.swap(one, other);
        self.window.world.say("order: shuffles".to_owned());
        self.send();
    }

    fn reconcile(&self, verb: &str, index: usize) {
        let spec = &self.desired[index];
        self.window.world.say(format!("order: {verb} {} {:?}", spec.id, spec.policy.restart));
        self.window.world.book(|book| {
            book.tally.orders += 1;
            book.configured(&spec.id, &spec.policy, now());
        });
        self.send();
    }

    fn send(&self) {
        self.window.world.book(|book| book.arranged(now()));
        // A fleet that is gone has ended the run.
        let _ = self.window.fleet.reconcile(self.desired.clone());
    }
}

pub(super) fn id(number: usize) -> ServerId {
    ServerId::new(&format!("s{number:02}")).expect("this is an id")
}

impl Maker {
    /// A configuration of `id`, with a scripted server of its own.
    pub(super) fn spec(&mut self, id: ServerId, enabled: bool) -> ServerSpec {
        self.made += 1;
        let mut dice = self.world.dice("spec", self.made);
        let policy = Policy { enabled, ..policy(&mut dice) };
        let lane = LaneLimits {
            in_flight: if dice.chance(30) { 1 + dice.below(3) } else { 64 },
            waiting: if dice.chance(30) { dice.below(3) } else { 64 },
            call_timeout: self.limit,
            while_restarting: if dice.chance(70) { WhileRestarting::Wait } else { WhileRestarting::Fail },
            ..LaneLimits::default()
        };
        let server = Scripted::new(&self.world, id.clone(), self.made);
        let fingerprint = Fingerprint::new(format!("{id} {}", self.made));
        ServerSpec {
            policy: Arc::new(policy),
            lane,
            connector: Arc::new(Port(server)),
            kind: StartKind::Process,
            launch: fingerprint.as_str().to_owned(),
            fingerprint,
            id,
        }
    }
}

fn policy(dice: &mut Dice) -> Policy {
    let restart = match dice.below(10) {
        0 => Restart::Never,
        1..=2 => Restart::OnFailure,
        _ => Restart::Always,
    };
    let schedule = match dice.below(4) {
        0 => Schedule::new(Duration::from_millis(250), 1.5, Duration::from_secs(5)),
        1 => Schedule::new(Duration::from_secs(3), 3.0, Duration::from_secs(60)),
        _ => Ok(Schedule::default()),
    };
    Policy {
        lazy: dice.chance(10),
        restart,
        schedule: schedule.expect("these numbers are within the bounds"),
        stable_after: Duration::from_secs(if dice.chance(30) { 20 } else { 60 }),
        start_timeout: Duration::from_secs(if dice.chance(30) { 5 } else { 30 }),
        notify_after: if dice.chance(10) { None } else { NonZeroU32::new(3) },
        quarantine_after: NonZeroU32::new(if dice.chance(30) { 4 } else { 10 }),
        ..Policy::default()
    }
}
