//! The words of the house: ids, names, tools, statuses, errors, and the ports between rooms.
//!
//! No I/O, no clock, no dice, no executor. Every other crate imports this one; it imports none of them.

#![warn(missing_docs)]

pub mod catalogue;
pub mod dialogue;
pub mod error;
pub mod id;
pub mod memory;
pub mod name;
pub mod port;
pub mod secret;
pub mod status;
pub mod tool;
pub mod trie;

pub use catalogue::Catalogue;
pub use error::CallError;
pub use id::{CallId, ConversationId, Incarnation, ServerId, TurnId};
pub use name::{OfferedName, RawName};
pub use secret::Secret;
pub use status::{DeathReason, ServerEvent, ServerState, ServerStatus};
pub use tool::ToolDefinition;
pub use trie::NameTrie;
