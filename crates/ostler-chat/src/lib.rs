//! Conversations between a user, a model and the tools of the fleet.
//!
//! [`turn`] decides and is pure; the conversation actor runs what it decides; the lobby supervises conversations;
//! [`provider`] holds the models. Tools are reached through `ostler_core::port::Dispatch`: nothing here knows MCP
//! sessions, servers or their supervision. Embedders meet [`LobbyHandle`], [`ConversationHandle`] and the models.

#![warn(missing_docs)]

mod clock;
mod conversation;
pub mod error;
mod handle;
pub mod history;
mod lobby;
pub mod provider;
pub mod reading;
mod reply;
#[cfg(test)]
mod testing;
pub mod turn;

pub use conversation::{TurnEvent, TurnLimits};
pub use error::{LobbyError, TurnError};
pub use handle::{ConversationHandle, LobbyHandle};
pub use lobby::{LobbyActor, LobbyArgs, LobbyMsg, MAX_CONVERSATIONS};
pub use turn::Answer;
