//! The doors of this crate: open a conversation, say something in it, cancel, leave.
//!
//! Nothing of the actors behind them shows but the reference that [`LobbyHandle::new`] takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ostler_core::{ConversationId, TurnId};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::conversation::{ConversationMsg, TurnEvent};
use crate::error::{LobbyError, TurnError};
use crate::lobby::LobbyMsg;
use crate::reply::{self, Unanswered};
use crate::turn::Answer;

/// How long the lobby may take to open a conversation.
const OPENING: Duration = Duration::from_secs(5);

/// The way to the lobby.
#[derive(Debug, Clone)]
pub struct LobbyHandle {
    lobby: ActorRef<LobbyMsg>,
}

impl LobbyHandle {
    /// Wraps the lobby's reference.
    pub fn new(lobby: ActorRef<LobbyMsg>) -> Self {
        Self { lobby }
    }

    /// Opens a conversation with an empty history. It takes five seconds at most. Cancel-safe.
    pub async fn open(&self) -> Result<ConversationHandle, LobbyError> {
        let (reply, opened) = oneshot::channel();
        self.lobby.cast(LobbyMsg::Open { reply }).map_err(|_| LobbyError::Lost)?;
        match reply::wait(opened, &self.lobby, clock::now() + OPENING).await {
            Ok(result) => result,
            Err(Unanswered::Lost) => Err(LobbyError::Lost),
            Err(Unanswered::TimedOut) => Err(LobbyError::TimedOut),
        }
    }
}

/// One conversation. Dropping it ends the conversation and whatever runs for it.
#[derive(Debug)]
pub struct ConversationHandle {
    id: ConversationId,
    actor: ActorRef<ConversationMsg>,
    /// Longer than any turn can take by its own limits.
    patience: Duration,
    /// The number of the last turn.
    turns: AtomicU64,
}

impl ConversationHandle {
    pub(crate) fn new(id: ConversationId, actor: ActorRef<ConversationMsg>, patience: Duration) -> Self {
        Self { id, actor, patience, turns: AtomicU64::new(0) }
    }

    #[cfg(test)]
    pub(crate) fn actor_for_tests(&self) -> ActorRef<ConversationMsg> {
        self.actor.clone()
    }

    /// Which conversation it is.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Says `text` and waits for the answer. What happens meanwhile goes to `events`, in order; the channel ends with
    /// the turn, so a reader can drain it after this returns.
    ///
    /// A slow reader slows the turn: an event waits for room for up to five seconds, after which the reader counts as
    /// gone and gets no more. Deltas of text may arrive joined. Dropping the future cancels the turn. Errors:
    /// [`TurnError::Busy`] while another turn runs.
    pub async fn say(&self, text: String, events: mpsc::Sender<TurnEvent>) -> Result<Answer, TurnError> {
        let turn = TurnId(self.turns.fetch_add(1, Ordering::Relaxed) + 1);
        let (reply, answer) = oneshot::channel();
        self.actor.cast(ConversationMsg::Say { turn, text, events, reply }).map_err(|_| TurnError::ConversationLost)?;
        // A turn that is over ignores it.
        let _cancel = CancelOnDrop { actor: &self.actor, turn };
        match reply::wait(answer, &self.actor, clock::now() + self.patience).await {
            Ok(result) => result,
            Err(Unanswered::Lost) => Err(TurnError::ConversationLost),
            Err(Unanswered::TimedOut) => Err(TurnError::TimedOut),
        }
    }

    /// Cancels the turn that runs, if one does. Its `say` returns [`TurnError::Cancelled`]; the conversation goes on.
    pub fn cancel(&self) {
        // A conversation that is gone has nothing to cancel.
        let _ = self.actor.cast(ConversationMsg::CancelAny);
    }
}

impl Drop for ConversationHandle {
    fn drop(&mut self) {
        self.actor.stop(None);
    }
}

struct CancelOnDrop<'a> {
    actor: &'a ActorRef<ConversationMsg>,
    turn: TurnId,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.actor.cast(ConversationMsg::Cancel { turn: self.turn });
    }
}
