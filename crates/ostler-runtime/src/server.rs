//! The actor of one configured server: it owns the policy and the machine's state, and carries out what the machine
//! decides.
//!
//! It parks a server that cannot run and never takes others down. It alone talks to the registry for its server, and
//! [`ServerState::enter`] is the only place where a status changes: metrics, events and the board all come out of it.

mod enter;
mod listing;
mod recall;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::Connector;
use ostler_core::status::{DeathReason, Facts, Fault, FaultClass, ServerState as State};
use ostler_core::{Incarnation, ServerId};
use ostler_policy::gate::StartKind;
use ostler_policy::machine::{self, Effect, Event, Policy};
use ostler_policy::reconcile::Fingerprint;
use ostler_telemetry::record;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio_util::task::AbortOnDropHandle;

use self::listing::Listed;
use crate::clock;
use crate::connection::{ConnectionActor, ConnectionArgs, Released};
use crate::house::House;
use crate::lane::{Lane, LaneLimits};
use crate::message::{ConnectionMsg, FleetMsg, RegistryMsg, ServerMsg};

/// How long before a start is given up its connector must have said why.
const LAST_WORD: Duration = Duration::from_millis(250);

/// A configured server.
#[derive(Clone)]
pub struct ServerSpec {
    /// Its id, unique in the fleet without regard to case.
    pub id: ServerId,
    /// When and how it is started, restarted and given up.
    pub policy: Arc<Policy>,
    /// The bounds of its calls.
    pub lane: LaneLimits,
    /// Makes connections to it.
    pub connector: Arc<dyn Connector>,
    /// How its start loads this host.
    pub kind: StartKind,
    /// The digest of its launch line: what is remembered of another launch line is void.
    pub launch: String,
    /// Differs when the server must be replaced: made of everything that the connector was made of.
    pub fingerprint: Fingerprint,
}

impl fmt::Debug for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSpec").field("id", &self.id).field("policy", &self.policy).finish_non_exhaustive()
    }
}

pub(crate) struct ServerActor;

pub(crate) struct ServerArgs {
    pub(crate) spec: ServerSpec,
    pub(crate) house: Arc<House>,
    pub(crate) fleet: ActorRef<FleetMsg>,
    pub(crate) registry: ActorRef<RegistryMsg>,
}

pub(crate) struct ServerState {
    spec: ServerSpec,
    house: Arc<House>,
    fleet: ActorRef<FleetMsg>,
    registry: ActorRef<RegistryMsg>,
    machine: machine::State,
    lane: Arc<Lane>,
    connection: Option<Running>,
    timer: Option<(Instant, AbortOnDropHandle<()>)>,
    /// Runs while it serves and may be put to sleep.
    idle_timer: Option<AbortOnDropHandle<()>>,
    listed: Listed,
    /// The end of the last incarnation that served, until the next one does.
    died_at: Option<Instant>,
    /// Set by a shutdown: the longest that any stop may take from then on.
    shutdown: Option<Duration>,
}

struct Running {
    actor: ActorRef<ConnectionMsg>,
    id: ActorId,
    incarnation: Incarnation,
    /// Set once it is connected.
    facts: Option<Arc<Facts>>,
    ready_at: Option<Instant>,
}

impl Actor for ServerActor {
    type Msg = ServerMsg;
    type State = ServerState;
    type Arguments = ServerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ServerMsg>,
        args: ServerArgs,
    ) -> Result<ServerState, ActorProcessingErr> {
        let ServerArgs { spec, house, fleet, registry } = args;
        let lane = lane(&spec, myself);
        let (machine, recalled) = recall::begin(&spec, &house);
        // The number is only a name here: no call goes to it, and the first that lists has it too.
        let catalogue = recalled.map(|catalogue| (Incarnation::FIRST, catalogue));
        Ok(ServerState {
            spec,
            house,
            fleet,
            registry,
            machine,
            lane,
            connection: None,
            timer: None,
            idle_timer: None,
            listed: Listed { catalogue, ..Listed::default() },
            died_at: None,
            shutdown: None,
        })
    }

    async fn post_start(&self, _: ActorRef<ServerMsg>, state: &mut ServerState) -> Result<(), ActorProcessingErr> {
        state.enrol();
        state.publish_recalled();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ServerMsg>,
        message: ServerMsg,
        state: &mut ServerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ServerMsg::Begin => state.begin(&myself).await,
            ServerMsg::Event(event) => state.apply(&myself, event).await,
            ServerMsg::IdleCheck => state.check_idle(&myself).await,
            ServerMsg::Connected { incarnation, catalogue, facts } => {
                state.connected(&myself, incarnation, catalogue, facts);
                Ok(())
            }
            ServerMsg::Refreshed { incarnation, catalogue } => {
                state.publish(&myself, incarnation, catalogue);
                Ok(())
            }
            ServerMsg::Published { incarnation, report } => state.published(&myself, incarnation, report).await,
            ServerMsg::Registry(registry) => {
                state.rewire(&myself, registry);
                Ok(())
            }
            ServerMsg::Replace(spec) => state.replace(&myself, spec).await,
            ServerMsg::Shutdown { grace } => state.shut_down(&myself, grace).await,
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ServerMsg>,
        event: SupervisionEvent,
        state: &mut ServerState,
    ) -> Result<(), ActorProcessingErr> {
        let (id, fault) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who.get_id(), fault_of(error)),
            SupervisionEvent::ActorTerminated(who, remains, _) => {
                // What is left of the actor holds the incarnation: let go of it before anything else is decided.
                drop(remains);
                (who.get_id(), Fault::new(FaultClass::KilledByUs, "ended as asked"))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        state.connection_ended(&myself, id, fault).await
    }
}

impl ServerState {
    /// Starts the server if it is to be started; one that was parked when we last ran stays parked.
    async fn begin(&mut self, myself: &ActorRef<ServerMsg>) -> Result<(), ActorProcessingErr> {
        if self.spec.policy.enabled && self.machine.awaits_start() {
            self.apply(myself, Event::Start).await?;
            // A server may sleep from the beginning only if its list is known: else nobody could call what it offers.
            if self.machine.view() == State::Idle && self.listed.catalogue.is_none() {
                self.apply(myself, Event::Called).await?;
            }
            return Ok(());
        }
        self.enter(self.machine.view());
        self.arm(myself);
        Ok(())
    }

    /// Lets the machine decide about `event`, then does what it says.
    async fn apply(&mut self, myself: &ActorRef<ServerMsg>, event: Event) -> Result<(), ActorProcessingErr> {
        let before = self.machine.view();
        let (next, effects) = machine::step(&self.spec.policy, &self.machine, event, clock::now(), self.house.jitter());
        self.machine = next;
        self.enter(before);
        for effect in effects {
            self.carry_out(myself, effect).await?;
        }
        self.arm(myself);
        self.watch_idleness(myself, before);
        self.finish(myself);
        Ok(())
    }

    async fn carry_out(&mut self, myself: &ActorRef<ServerMsg>, effect: Effect) -> Result<(), ActorProcessingErr> {
        let server = self.spec.id.clone();
        match effect {
            Effect::RequestPermit { incarnation, class } => {
                let kind = self.spec.kind;
                self.fleet.cast(FleetMsg::RequestPermit { server, from: myself.get_id(), incarnation, class, kind })?;
            }
            Effect::ReturnPermit { incarnation } => {
                self.fleet.cast(FleetMsg::ReturnPermit { server, from: myself.get_id(), incarnation })?;
            }
            Effect::Connect { incarnation, deadline } => self.connect(myself, incarnation, deadline).await?,
            Effect::Disconnect { incarnation, grace } => self.disconnect(incarnation, grace),
            Effect::Probe { incarnation, deadline } => self.probe(incarnation, deadline),
            Effect::Zombie { incarnation } => self.give_up(incarnation),
            Effect::Notify(notice) => self.notify(notice),
            Effect::Restarted(reason) => record::restart(&server, reason),
            Effect::Retract => self.retract(server),
            Effect::Stale => record::stale_event(&server),
            Effect::PauseGate(pause) => self.fleet.cast(FleetMsg::PauseGate(pause))?,
        }
        Ok(())
    }

    async fn connect(
        &mut self,
        myself: &ActorRef<ServerMsg>,
        incarnation: Incarnation,
        deadline: Instant,
    ) -> Result<(), ActorProcessingErr> {
        let now = clock::now();
        let left = deadline.saturating_duration_since(now);
        let args = ConnectionArgs {
            server: self.spec.id.clone(),
            incarnation,
            // The wire knows best why a start is late: it is given the first word.
            deadline: now + left.saturating_sub(LAST_WORD.min(left / 10)),
            connector: Arc::clone(&self.spec.connector),
            lane: Arc::clone(&self.lane),
            owner: myself.clone(),
            house: Arc::clone(&self.house),
        };
        let args = (args, Released::new(myself.clone(), incarnation));
        let (actor, _) = ConnectionActor::spawn_linked(None, ConnectionActor, args, myself.get_cell()).await?;
        self.connection = Some(Running { id: actor.get_id(), actor, incarnation, facts: None, ready_at: None });
        Ok(())
    }

    fn disconnect(&self, incarnation: Incarnation, grace: Duration) {
        let Some(running) = self.connection.as_ref().filter(|running| running.incarnation == incarnation) else {
            return;
        };
        let grace = self.shutdown.map_or(grace, |limit| limit.min(grace));
        // An actor that is gone has nothing left to close.
        let _ = running.actor.cast(ConnectionMsg::Close { grace });
    }

    fn probe(&self, incarnation: Incarnation, deadline: Instant) {
        if let Some(running) = self.connection.as_ref().filter(|running| running.incarnation == incarnation) {
            let _ = running.actor.cast(ConnectionMsg::Probe { deadline });
        }
    }

    /// Begins to watch for a server that nobody calls when it is ready, and ends with it.
    fn watch_idleness(&mut self, myself: &ActorRef<ServerMsg>, before: State) {
        match (before, self.machine.view()) {
            (State::Ready, State::Ready) | (_, State::Degraded) => {}
            (_, State::Ready) if self.spec.policy.idle_stop.is_some() => {
                let _ = myself.cast(ServerMsg::IdleCheck);
            }
            (_, _) => self.idle_timer = None,
        }
    }

    /// Puts the server to sleep if nobody has called it for long enough; else looks again when that may be so.
    async fn check_idle(&mut self, myself: &ActorRef<ServerMsg>) -> Result<(), ActorProcessingErr> {
        let Some(incarnation) = self.connection.as_ref().map(|running| running.incarnation) else { return Ok(()) };
        let Some(limit) = self.spec.policy.idle_stop else { return Ok(()) };
        let now = clock::now();
        let asleep_at = self.lane.idle_since().map(|since| since + limit);
        if asleep_at.is_some_and(|at| at <= now) {
            self.idle_timer = None;
            return self.apply(myself, Event::Idle { incarnation }).await;
        }
        let actor = myself.clone();
        let look_again = asleep_at.unwrap_or(now + limit);
        self.idle_timer = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep_until(look_again.into()).await;
            let _ = actor.cast(ServerMsg::IdleCheck);
        })));
        Ok(())
    }

    /// What is left of an incarnation cannot be ended: it is cut off, and its place is free.
    fn give_up(&mut self, incarnation: Incarnation) {
        let server = &self.spec.id;
        tracing::error!(server.id = %server, %incarnation, "what is left of a server cannot be ended; it is given up");
        self.lane.end(incarnation);
        self.house.revoke(server);
        if let Some(running) = self.connection.take_if(|running| running.incarnation == incarnation) {
            running.actor.kill();
        }
    }

    async fn connection_ended(
        &mut self,
        myself: &ActorRef<ServerMsg>,
        id: ActorId,
        fault: Fault,
    ) -> Result<(), ActorProcessingErr> {
        let Some(running) = self.connection.take_if(|running| running.id == id) else {
            record::stale_event(&self.spec.id);
            return Ok(());
        };
        // An actor that panicked may still hold its guard when this is heard.
        self.lane.end(running.incarnation);
        if let (Some(facts), Some(ready_at)) = (&running.facts, running.ready_at) {
            let lived = clock::now().saturating_duration_since(ready_at);
            let orderly = fault.reason == DeathReason::Operator;
            record::session(facts.transport, if orderly { "" } else { fault.reason.as_str() }, lived);
            // What a person ends does not recover; it is started again when somebody wants it.
            self.died_at = (!orderly).then(clock::now);
        }
        if can_be_the_hosts(fault.class) {
            let _ = self.fleet.cast(FleetMsg::Failed(self.spec.id.clone()));
        }
        self.apply(myself, Event::Down { incarnation: running.incarnation, fault: Arc::new(fault) }).await
    }

    async fn replace(&mut self, myself: &ActorRef<ServerMsg>, spec: ServerSpec) -> Result<(), ActorProcessingErr> {
        self.spec = spec;
        self.lane = lane(&self.spec, myself.clone());
        self.enrol();
        let event = if self.spec.policy.enabled { Event::Restart } else { Event::Disable };
        self.apply(myself, event).await
    }

    async fn shut_down(&mut self, myself: &ActorRef<ServerMsg>, grace: Duration) -> Result<(), ActorProcessingErr> {
        self.shutdown = Some(grace);
        self.apply(myself, Event::Shutdown).await
    }

    /// After a shutdown: says that the server has ended, once nothing of it is left.
    fn finish(&self, myself: &ActorRef<ServerMsg>) {
        let ended = self.shutdown.is_some()
            && self.connection.is_none()
            && matches!(self.machine.view(), State::Stopped | State::Disabled);
        if ended {
            let _ = self.fleet.cast(FleetMsg::Ended { server: self.spec.id.clone(), from: myself.get_id() });
        }
    }

    /// Arms the one timer for the machine's next deadline.
    fn arm(&mut self, myself: &ActorRef<ServerMsg>) {
        let wanted = self.machine.wake_at();
        if self.timer.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        self.timer = wanted.map(|at| {
            let actor = myself.clone();
            let task = tokio::spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                let _ = actor.cast(ServerMsg::Event(Event::Tick));
            });
            (at, AbortOnDropHandle::new(task))
        });
    }
}

fn lane(spec: &ServerSpec, actor: ActorRef<ServerMsg>) -> Arc<Lane> {
    let wanted = move || {
        let _ = actor.cast(ServerMsg::Event(Event::Called));
    };
    Lane::new(spec.id.clone(), spec.lane, Box::new(wanted))
}

/// A connection dies with a fault; anything else is a bug of ours, and is named as one.
fn fault_of(error: ActorProcessingErr) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(other) => Fault::new(FaultClass::Protocol, format!("internal error in the connection: {other}"))
            .with_hint("this is a bug in ostler; please report it with the log"),
    }
}

/// Whether a failure of this class may have its cause in this host, and so in many servers at once.
fn can_be_the_hosts(class: FaultClass) -> bool {
    match class {
        FaultClass::CrashOnStart
        | FaultClass::CrashRunning
        | FaultClass::CleanExit
        | FaultClass::Hang
        | FaultClass::SlowStart
        | FaultClass::Oom
        | FaultClass::Network
        | FaultClass::HostResource => true,
        FaultClass::NotFound
        | FaultClass::BadConfig
        | FaultClass::Auth
        | FaultClass::Consent
        | FaultClass::Incompatible
        | FaultClass::Protocol
        | FaultClass::Throttled
        | FaultClass::KilledByUs => false,
    }
}
