//! A small supervisor of registry and fleet, after the product's own: it starts a lost registry again and tells the
//! fleet. A lost fleet is a bug of ours, and breaks a promise.

use std::sync::Arc;

use ostler_runtime::{FleetActor, FleetArgs, FleetMsg, House, RegistryActor, RegistryMsg};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::invariant::Invariant;
use super::world::World;

pub(super) struct RootActor;

pub(super) struct RootArgs {
    pub(super) house: Arc<House>,
    pub(super) world: Arc<World>,
    /// Told once both run.
    pub(super) ready: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) enum RootMsg {
    Begin,
    /// Ends the registry in the middle of things.
    KillRegistry,
    /// Ends both; nothing is started again.
    Close,
}

pub(super) struct RootState {
    house: Arc<House>,
    world: Arc<World>,
    ready: Option<oneshot::Sender<()>>,
    children: Option<(ActorRef<RegistryMsg>, ActorRef<FleetMsg>)>,
    is_closing: bool,
}

impl Actor for RootActor {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(&self, _: ActorRef<RootMsg>, args: RootArgs) -> Result<RootState, ActorProcessingErr> {
        let RootArgs { house, world, ready } = args;
        Ok(RootState { house, world, ready: Some(ready), children: None, is_closing: false })
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
            RootMsg::Begin => {
                let registry = state.registry(&myself).await?;
                let args = FleetArgs { house: Arc::clone(&state.house), registry: registry.clone() };
                let (fleet, _) = FleetActor::spawn_linked(None, FleetActor, args, myself.get_cell()).await?;
                state.children = Some((registry, fleet));
                if let Some(ready) = state.ready.take() {
                    // The run waits for it, unless it is broken already.
                    let _ = ready.send(());
                }
            }
            RootMsg::KillRegistry => {
                if let Some((registry, _)) = &state.children {
                    registry.kill();
                }
            }
            RootMsg::Close => {
                state.is_closing = true;
                if let Some((registry, fleet)) = &state.children {
                    fleet.stop(None);
                    registry.stop(None);
                }
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (who, why) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, why) => (who, why.unwrap_or_default()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        let Some((registry, fleet)) = state.children.clone() else { return Ok(()) };
        if state.is_closing {
            return Ok(());
        }
        if who.get_id() == fleet.get_id() {
            state.world.breaks(Invariant::NoBugs, format!("the fleet ended: {why}"));
        } else if who.get_id() == registry.get_id() {
            if why != "killed" {
                state.world.breaks(Invariant::NoBugs, format!("the registry ended: {why}"));
            }
            let registry = state.registry(&myself).await?;
            // A fleet that is gone has just been complained about.
            let _ = fleet.cast(FleetMsg::Registry(registry.clone()));
            state.children = Some((registry, fleet));
        }
        Ok(())
    }
}

impl RootState {
    async fn registry(&self, myself: &ActorRef<RootMsg>) -> Result<ActorRef<RegistryMsg>, ActorProcessingErr> {
        let house = Arc::clone(&self.house);
        Ok(RegistryActor::spawn_linked(None, RegistryActor, house, myself.get_cell()).await?.0)
    }
}
