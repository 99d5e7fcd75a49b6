//! The fleet: one server actor for each wanted server, the start gate between them, and the shutdown of all.
//!
//! It decides nothing about a single server. A server actor that panics is a bug of ours: it is started again, and
//! after too many of those this actor gives up, so that its own supervisor decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::EventSink;
use ostler_core::status::{Notice, What};
use ostler_core::{Incarnation, ServerId};
use ostler_policy::brake::{Brake, Verdict};
use ostler_policy::chorus::{Chorus, Voice};
use ostler_policy::gate::Gate;
use ostler_policy::machine::Event;
use ostler_policy::reconcile::{self, Change};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::house::House;
use crate::message::{FleetMsg, Order, RegistryMsg, ServerMsg};
use crate::server::{ServerActor, ServerArgs, ServerSpec};

/// So many panics of server actors within [`BUG_PERIOD`] are too many.
const BUG_INTENSITY: usize = 3;

/// See [`BUG_INTENSITY`].
const BUG_PERIOD: Duration = Duration::from_secs(300);

/// The longest that a removed server may take to end.
const REMOVAL_GRACE: Duration = Duration::from_secs(5);

/// The actor.
#[derive(Debug)]
pub struct FleetActor;

/// What the fleet is started with.
#[derive(Debug)]
pub struct FleetArgs {
    /// What all actors share; it names the wanted servers.
    pub house: Arc<House>,
    /// The registry of the day.
    pub registry: ActorRef<RegistryMsg>,
}

/// What the fleet knows.
pub struct FleetState {
    house: Arc<House>,
    registry: ActorRef<RegistryMsg>,
    servers: BTreeMap<ServerId, Member>,
    gate: Gate,
    brake: Brake,
    chorus: Chorus,
    /// For whatever the gate or the chorus wait for next.
    timer: Option<AbortOnDropHandle<()>>,
    /// Servers that are leaving, and those that wait for one of the same name to leave.
    leaving: BTreeSet<ServerId>,
    /// Orders to servers that are leaving and may be wanted again.
    postponed: BTreeMap<ServerId, Order>,
    shutdown: Option<oneshot::Sender<()>>,
    bugs: VecDeque<Instant>,
}

struct Member {
    actor: ActorRef<ServerMsg>,
    id: ActorId,
    spec: ServerSpec,
}

impl Actor for FleetActor {
    type Msg = FleetMsg;
    type State = FleetState;
    type Arguments = FleetArgs;

    async fn pre_start(&self, myself: ActorRef<FleetMsg>, args: FleetArgs) -> Result<FleetState, ActorProcessingErr> {
        let FleetArgs { house, registry } = args;
        house.fleet.store(Some(Arc::new(myself)));
        let gate = Gate::new(house.options.start_slots);
        Ok(FleetState {
            house,
            registry,
            servers: BTreeMap::new(),
            gate,
            brake: Brake::default(),
            chorus: Chorus::default(),
            timer: None,
            leaving: BTreeSet::new(),
            postponed: BTreeMap::new(),
            shutdown: None,
            bugs: VecDeque::new(),
        })
    }

    async fn post_start(&self, myself: ActorRef<FleetMsg>, _: &mut FleetState) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(FleetMsg::Begin)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<FleetMsg>,
        message: FleetMsg,
        state: &mut FleetState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FleetMsg::Begin => state.reconcile(&myself).await?,
            FleetMsg::Reconcile(desired) => {
                state.house.want(desired);
                state.reconcile(&myself).await?;
            }
            FleetMsg::Order { server, order } => state.order(&server, order),
            FleetMsg::RequestPermit { server, from, incarnation, class, kind } => {
                if state.is_member(&server, from) {
                    state.gate.request(server, incarnation, class, kind);
                    state.grant(&myself);
                }
            }
            FleetMsg::ReturnPermit { server, from, incarnation } => {
                if state.is_member(&server, from) {
                    state.gate.release(&server, incarnation);
                    state.grant(&myself);
                }
            }
            FleetMsg::Notice { server, incarnation, notice } => {
                state.tell(&server, incarnation, notice);
                state.arm(&myself);
            }
            FleetMsg::Failed(server) => state.failed(&myself, &server),
            FleetMsg::PauseGate(pause) => {
                state.gate.pause_until(clock::now() + pause);
                state.grant(&myself);
            }
            FleetMsg::Tick => {
                state.tell_together();
                state.grant(&myself);
            }
            FleetMsg::Registry(registry) => state.rewire(registry),
            FleetMsg::Ended { server, from } => {
                if state.is_member(&server, from) {
                    state.ended(&myself, &server).await?;
                }
            }
            FleetMsg::Shutdown { grace, done } => state.shut_down(grace, done),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<FleetMsg>,
        event: SupervisionEvent,
        state: &mut FleetState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.server_failed(&myself, who.get_id(), &error.to_string()).await
            }
            SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

impl FleetState {
    /// Makes the fleet what it should be. Servers that are the same in both are not touched.
    async fn reconcile(&mut self, myself: &ActorRef<FleetMsg>) -> Result<(), ActorProcessingErr> {
        if self.shutdown.is_some() {
            return Ok(());
        }
        let desired = self.house.desired.load_full();
        let order: Vec<ServerId> = desired.iter().map(|spec| spec.id.clone()).collect();
        // A registry that is gone is replaced, and its successor is told by `rewire`.
        let _ = self.registry.cast(RegistryMsg::Arrange(order));
        let running: Vec<_> =
            self.servers.iter().map(|(id, member)| (id.clone(), member.spec.fingerprint.clone())).collect();
        let wanted: Vec<_> = desired.iter().map(|spec| (spec.id.clone(), spec.fingerprint.clone())).collect();
        for change in reconcile::plan(&running, &wanted) {
            match change {
                Change::Add(id) => self.add(myself, &id).await?,
                Change::Replace(id) => self.replace(&id),
                Change::Remove(id) => self.remove(&id),
            }
        }
        Ok(())
    }

    async fn add(&mut self, myself: &ActorRef<FleetMsg>, id: &ServerId) -> Result<(), ActorProcessingErr> {
        let desired = self.house.desired.load_full();
        let Some(spec) = desired.iter().find(|spec| spec.id == *id) else { return Ok(()) };
        let args = ServerArgs {
            spec: spec.clone(),
            house: Arc::clone(&self.house),
            fleet: myself.clone(),
            registry: self.registry.clone(),
        };
        let (actor, _) = ServerActor::spawn_linked(None, ServerActor, args, myself.get_cell()).await?;
        // Before anybody else can send it anything: an order never overtakes the beginning.
        let _ = actor.cast(ServerMsg::Begin);
        self.servers.insert(id.clone(), Member { id: actor.get_id(), actor, spec: spec.clone() });
        Ok(())
    }

    /// Whether this actor is the server's actor of today. What an earlier one still says is dropped.
    fn is_member(&self, server: &ServerId, actor: ActorId) -> bool {
        self.servers.get(server).is_some_and(|member| member.id == actor)
    }

    fn replace(&mut self, id: &ServerId) {
        let desired = self.house.desired.load_full();
        let spec = desired.iter().find(|spec| spec.id == *id);
        if let (Some(spec), Some(member)) = (spec, self.servers.get_mut(id)) {
            member.spec = spec.clone();
            let _ = member.actor.cast(ServerMsg::Replace(spec.clone()));
        }
    }

    fn remove(&mut self, id: &ServerId) {
        if let Some(member) = self.servers.get(id) {
            self.leaving.insert(id.clone());
            let _ = member.actor.cast(ServerMsg::Shutdown { grace: REMOVAL_GRACE });
        }
    }

    fn order(&mut self, server: &ServerId, order: Order) {
        if self.leaving.contains(server) {
            self.postponed.insert(server.clone(), order);
            return;
        }
        let event = match order {
            Order::Start => Event::Start,
            Order::Stop => Event::Stop,
            Order::Restart => Event::Restart,
        };
        // A server that left the configuration a moment ago takes no orders.
        if let (Some(member), None) = (self.servers.get(server), &self.shutdown) {
            let _ = member.actor.cast(ServerMsg::Event(event));
        }
    }

    /// Hands out the permits that are free, and wakes up when a pause is over.
    fn grant(&mut self, myself: &ActorRef<FleetMsg>) {
        for (server, incarnation) in self.gate.grants(clock::now()) {
            if let Some(member) = self.servers.get(&server) {
                let _ = member.actor.cast(ServerMsg::Event(Event::Permit { incarnation }));
            } else {
                self.gate.release(&server, incarnation);
            }
        }
        self.arm(myself);
    }

    /// Wakes up when the gate or the chorus has something to do although nothing came.
    fn arm(&mut self, myself: &ActorRef<FleetMsg>) {
        let due = [self.gate.wake_at(), self.chorus.wake_at()].into_iter().flatten().min();
        self.timer = due.map(|at| {
            let actor = myself.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                let _ = actor.cast(FleetMsg::Tick);
            }))
        });
    }

    /// Says a notice alone, or as a part of one that many servers share.
    fn tell(&mut self, server: &ServerId, incarnation: Option<Incarnation>, notice: Notice) {
        if let Notice::Catalogue(_) = notice {
            return self.house.events.emit(server, incarnation, What::Notice(notice));
        }
        match self.chorus.hear(server.clone(), clock::now()) {
            Voice::Alone => self.house.events.emit(server, incarnation, What::Notice(notice)),
            Voice::Together(servers) => self.tell_of(servers),
            Voice::Unsaid => {}
        }
    }

    fn tell_together(&mut self) {
        if let Some(servers) = self.chorus.due(clock::now()) {
            self.tell_of(servers);
        }
    }

    fn tell_of(&self, servers: Vec<ServerId>) {
        if let Some(first) = servers.first().cloned() {
            self.house.events.emit(&first, None, What::Notice(Notice::Together(servers)));
        }
    }

    /// Slows all starts if so many servers fail at once that it looks like this host.
    fn failed(&mut self, myself: &ActorRef<FleetMsg>, server: &ServerId) {
        let now = clock::now();
        let meant_to_run = self.servers.values().filter(|member| member.spec.policy.enabled).count();
        self.brake.failed(server.clone(), now);
        let Verdict::HostProblem { until, is_news } = self.brake.verdict(now, meant_to_run) else { return };
        self.gate.brake_until(until);
        self.grant(myself);
        if is_news {
            tracing::warn!("more than half of the servers failed within a minute; starts are slowed");
            self.house.events.emit(server, None, What::Notice(Notice::HostProblem));
        }
    }

    fn rewire(&mut self, registry: ActorRef<RegistryMsg>) {
        self.registry = registry;
        let order = self.house.desired.load().iter().map(|spec| spec.id.clone()).collect();
        let _ = self.registry.cast(RegistryMsg::Arrange(order));
        // The old one may have died before it heard that these have left.
        for (_, lane) in self.house.routes.load().lanes.iter() {
            if !self.servers.contains_key(lane.server()) {
                let _ = self.registry.cast(RegistryMsg::Leave(lane.server().clone()));
            }
        }
        for member in self.servers.values() {
            let _ = member.actor.cast(ServerMsg::Registry(self.registry.clone()));
        }
    }

    async fn ended(&mut self, myself: &ActorRef<FleetMsg>, server: &ServerId) -> Result<(), ActorProcessingErr> {
        let Some(member) = self.servers.remove(server) else { return Ok(()) };
        member.actor.stop(None);
        if self.shutdown.is_some() {
            self.finish();
            return Ok(());
        }
        if self.leaving.remove(server) {
            self.brake.forget(server);
            let _ = self.registry.cast(RegistryMsg::Leave(server.clone()));
            if let Some(store) = &self.house.store {
                store.forget(server);
            }
            // It may have been wanted again while it was leaving.
            self.reconcile(myself).await?;
            if let Some(order) = self.postponed.remove(server) {
                self.order(server, order);
            }
        }
        Ok(())
    }

    fn shut_down(&mut self, grace: Duration, done: oneshot::Sender<()>) {
        for member in self.servers.values() {
            let _ = member.actor.cast(ServerMsg::Shutdown { grace });
        }
        self.shutdown = Some(done);
        self.finish();
    }

    /// Says that the shutdown is complete, once the last server has ended.
    fn finish(&mut self) {
        if self.servers.is_empty()
            && let Some(done) = self.shutdown.take()
        {
            let _ = done.send(());
        }
    }

    async fn server_failed(
        &mut self,
        myself: &ActorRef<FleetMsg>,
        id: ActorId,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(server) = self.servers.iter().find(|(_, member)| member.id == id).map(|(server, _)| server.clone())
        else {
            return Ok(());
        };
        tracing::error!(server.id = %server, error, "a server actor failed; this is a bug in ostler");
        self.servers.remove(&server);
        self.brake.forget(&server);
        self.gate.cancel(&server);
        let now = clock::now();
        self.bugs.push_back(now);
        self.bugs.retain(|at| now.saturating_duration_since(*at) <= BUG_PERIOD);
        if self.bugs.len() > BUG_INTENSITY {
            return Err(format!("server actors failed {} times in five minutes", self.bugs.len()).into());
        }
        if self.shutdown.is_some() {
            self.finish();
            return Ok(());
        }
        self.grant(myself);
        self.add(myself, &server).await
    }
}
