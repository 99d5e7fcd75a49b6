//! The root of the tree: registry, fleet and lobby, in this order, and what happens when one of them fails.
//!
//! They fail only by bugs of ours. Each is started again by itself: readers keep the last snapshot of a lost registry and
//! every server publishes to its successor; a new fleet takes up the wanted servers once the leases of the old one are
//! free; a new lobby begins without conversations. After too many failures the root gives up, and the process ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use ostler_chat::{LobbyActor, LobbyArgs, LobbyHandle, LobbyMsg, TurnLimits};
use ostler_core::port::{Dispatch, Model};
use ostler_runtime::{FleetActor, FleetArgs, FleetMsg, House, RegistryActor, RegistryMsg};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::clock;

/// So many failures within [`PERIOD`] are too many. Meaning of the two: Erlang/OTP, supervisor(3).
const INTENSITY: usize = 3;

/// See [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(300);

/// The actor.
pub(crate) struct RootActor;

/// What the tree is made of.
pub(crate) struct RootArgs {
    pub(crate) house: Arc<House>,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) limits: TurnLimits,
    /// Where the lobby of the day can be found.
    pub(crate) lobby: Arc<ArcSwapOption<LobbyHandle>>,
    /// Told once all three run.
    pub(crate) ready: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(crate) enum RootMsg {
    /// Start the three.
    Begin,
    /// A shutdown has begun: nothing is started again, and the lobby closes first.
    Close,
}

pub(crate) struct RootState {
    args: RootArgs,
    ready: Option<oneshot::Sender<()>>,
    children: Option<Children>,
    failures: VecDeque<Instant>,
    is_closing: bool,
}

struct Children {
    registry: ActorRef<RegistryMsg>,
    fleet: ActorRef<FleetMsg>,
    lobby: ActorRef<LobbyMsg>,
}

impl Actor for RootActor {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(&self, _: ActorRef<RootMsg>, mut args: RootArgs) -> Result<RootState, ActorProcessingErr> {
        let (unused, _) = oneshot::channel();
        let ready = Some(std::mem::replace(&mut args.ready, unused));
        Ok(RootState { args, ready, children: None, failures: VecDeque::new(), is_closing: false })
    }

    async fn post_start(&self, myself: ActorRef<RootMsg>, _: &mut RootState) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(RootMsg::Begin)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        message: RootMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Begin => state.begin(&myself).await,
            RootMsg::Close => {
                state.close();
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (who, why) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, why) => (who, why.unwrap_or_else(|| "it ended".to_owned())),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        state.replace(&myself, who.get_id(), &why).await
    }
}

impl RootState {
    async fn begin(&mut self, myself: &ActorRef<RootMsg>) -> Result<(), ActorProcessingErr> {
        let registry = self.registry(myself).await?;
        let fleet = self.fleet(myself, &registry).await?;
        let lobby = self.lobby(myself).await?;
        self.children = Some(Children { registry, fleet, lobby });
        if let Some(ready) = self.ready.take() {
            // Whoever started us may have given up.
            let _ = ready.send(());
        }
        Ok(())
    }

    fn close(&mut self) {
        self.is_closing = true;
        self.args.lobby.store(None);
        if let Some(children) = &self.children {
            children.lobby.stop(None);
        }
    }

    /// Starts the child that ended again, and tells the others.
    async fn replace(
        &mut self,
        myself: &ActorRef<RootMsg>,
        who: ractor::ActorId,
        why: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(mut children) = self.children.take() else { return Ok(()) };
        if self.is_closing {
            self.children = Some(children);
            return Ok(());
        }
        if who == children.registry.get_id() {
            self.count_failure("registry", why)?;
            children.registry = self.registry(myself).await?;
            // A fleet that has just died too is started with the new registry.
            let _ = children.fleet.cast(FleetMsg::Registry(children.registry.clone()));
        } else if who == children.fleet.get_id() {
            self.count_failure("fleet", why)?;
            children.fleet = self.fleet(myself, &children.registry).await?;
        } else if who == children.lobby.get_id() {
            self.count_failure("lobby", why)?;
            children.lobby = self.lobby(myself).await?;
        }
        self.children = Some(children);
        Ok(())
    }

    fn count_failure(&mut self, child: &str, why: &str) -> Result<(), ActorProcessingErr> {
        let now = clock::now();
        self.failures.push_back(now);
        self.failures.retain(|at| now.saturating_duration_since(*at) <= PERIOD);
        let count = self.failures.len();
        tracing::error!(child, error = why, count, "a part of the house failed; this is a bug in ostler");
        if count > INTENSITY {
            return Err(format!("{count} failures of our own in five minutes, the last in the {child}: {why}").into());
        }
        Ok(())
    }

    async fn registry(&self, myself: &ActorRef<RootMsg>) -> Result<ActorRef<RegistryMsg>, ActorProcessingErr> {
        let house = Arc::clone(&self.args.house);
        Ok(RegistryActor::spawn_linked(None, RegistryActor, house, myself.get_cell()).await?.0)
    }

    async fn fleet(
        &self,
        myself: &ActorRef<RootMsg>,
        registry: &ActorRef<RegistryMsg>,
    ) -> Result<ActorRef<FleetMsg>, ActorProcessingErr> {
        let args = FleetArgs { house: Arc::clone(&self.args.house), registry: registry.clone() };
        Ok(FleetActor::spawn_linked(None, FleetActor, args, myself.get_cell()).await?.0)
    }

    async fn lobby(&self, myself: &ActorRef<RootMsg>) -> Result<ActorRef<LobbyMsg>, ActorProcessingErr> {
        let args = LobbyArgs {
            dispatch: Arc::clone(&self.args.dispatch),
            model: Arc::clone(&self.args.model),
            limits: self.args.limits.clone(),
        };
        let (lobby, _) = LobbyActor::spawn_linked(None, LobbyActor, args, myself.get_cell()).await?;
        self.args.lobby.store(Some(Arc::new(LobbyHandle::new(lobby.clone()))));
        Ok(lobby)
    }
}
