//! How a turn or the opening of a conversation can fail, each with a stable code.

use ostler_core::port::ModelError;

/// Why a turn has no answer. What tools did before it failed is done all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// The model gave no answer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The conversation is still busy with another turn; wait for its answer, or cancel it.
    #[error("the conversation is busy with another turn; wait for its answer or cancel it")]
    Busy,
    /// Somebody cancelled the turn.
    #[error("the turn was cancelled")]
    Cancelled,
    /// The conversation ended before the turn did; open a new one.
    #[error("the conversation was lost; open a new one")]
    ConversationLost,
    /// The turn outlived the sum of all its limits, which is a defect of ours.
    #[error("the turn did not end in time")]
    TimedOut,
}

impl TurnError {
    /// The stable code, for machines and for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Model(error) => error.code(),
            Self::Busy => "conversation_busy",
            Self::Cancelled => "cancelled",
            Self::ConversationLost => "conversation_lost",
            Self::TimedOut => "turn_timeout",
        }
    }
}

/// Why a conversation cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LobbyError {
    /// Too many conversations are open; end one first.
    #[error("{limit} conversations are open, which is the limit; end one first")]
    Full {
        /// How many may be open.
        limit: usize,
    },
    /// The lobby ended, or could not start the conversation.
    #[error("no conversation can be opened: the lobby is gone")]
    Lost,
    /// The lobby did not answer in time.
    #[error("no conversation can be opened: the lobby does not answer")]
    TimedOut,
}

impl LobbyError {
    /// The stable code, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "lobby_full",
            Self::Lost => "lobby_lost",
            Self::TimedOut => "lobby_timeout",
        }
    }
}
