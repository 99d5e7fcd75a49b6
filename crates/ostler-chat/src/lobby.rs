//! The lobby: opens conversations and outlives every one of them.
//!
//! It is the only supervisor of conversations. One that fails is logged and forgotten; its history is gone with it.

use std::collections::HashMap;
use std::sync::Arc;

use ostler_core::ConversationId;
use ostler_core::port::{Dispatch, Model};
use ostler_telemetry::record;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::conversation::{ConversationActor, ConversationArgs, TurnLimits};
use crate::error::LobbyError;
use crate::handle::ConversationHandle;

/// How many conversations may be open at a time.
pub const MAX_CONVERSATIONS: usize = 1_024;

/// The supervisor of conversations.
#[derive(Debug, Clone, Copy)]
pub struct LobbyActor;

/// What the lobby understands.
#[derive(Debug)]
pub enum LobbyMsg {
    /// Open a conversation.
    Open {
        /// Where it goes. If nobody waits any more, it ends at once.
        reply: oneshot::Sender<Result<ConversationHandle, LobbyError>>,
    },
}

/// What a lobby is made of.
#[derive(Clone)]
pub struct LobbyArgs {
    /// The tools.
    pub dispatch: Arc<dyn Dispatch>,
    /// The model.
    pub model: Arc<dyn Model>,
    /// The bounds of every turn.
    pub limits: TurnLimits,
}

/// What the lobby knows.
pub struct LobbyState {
    args: LobbyArgs,
    last: u64,
    open: HashMap<ActorId, ConversationId>,
}

impl Actor for LobbyActor {
    type Msg = LobbyMsg;
    type State = LobbyState;
    type Arguments = LobbyArgs;

    async fn pre_start(&self, _: ActorRef<LobbyMsg>, args: LobbyArgs) -> Result<LobbyState, ActorProcessingErr> {
        record::conversations(0);
        Ok(LobbyState { args, last: 0, open: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<LobbyMsg>,
        message: LobbyMsg,
        state: &mut LobbyState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LobbyMsg::Open { reply } => state.open(&myself, reply).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<LobbyMsg>,
        event: SupervisionEvent,
        state: &mut LobbyState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, _, _) => state.ended(who.get_id()),
            SupervisionEvent::ActorFailed(who, error) => state.failed(who.get_id(), &error),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl LobbyState {
    async fn open(
        &mut self,
        myself: &ActorRef<LobbyMsg>,
        reply: oneshot::Sender<Result<ConversationHandle, LobbyError>>,
    ) {
        if reply.is_closed() {
            return;
        }
        // A handle that nobody takes ends its conversation when it is dropped here.
        let _ = reply.send(self.start(myself).await);
    }

    async fn start(&mut self, myself: &ActorRef<LobbyMsg>) -> Result<ConversationHandle, LobbyError> {
        if self.open.len() >= MAX_CONVERSATIONS {
            return Err(LobbyError::Full { limit: MAX_CONVERSATIONS });
        }
        self.last += 1;
        let id = ConversationId(self.last);
        let LobbyArgs { dispatch, model, limits } = self.args.clone();
        let patience = limits.patience();
        let args = ConversationArgs { id, dispatch, model, limits };
        let (actor, _) =
            Actor::spawn_linked(None, ConversationActor, args, myself.get_cell()).await.map_err(|error| {
                tracing::error!(conversation.id = id.0, %error, "conversation did not start");
                LobbyError::Lost
            })?;
        self.open.insert(actor.get_id(), id);
        record::conversations(self.open.len());
        Ok(ConversationHandle::new(id, actor, patience))
    }

    fn failed(&mut self, who: ActorId, error: &ActorProcessingErr) {
        if let Some(id) = self.open.get(&who) {
            tracing::error!(conversation.id = id.0, %error, "conversation failed");
        }
        self.ended(who);
    }

    fn ended(&mut self, who: ActorId) {
        self.open.remove(&who);
        record::conversations(self.open.len());
    }
}
