//! The spans of the house: one an incarnation, one a call, one a turn.
//!
//! Field names are the same in spans and in single log lines. Payloads and secrets are never fields.

use ostler_core::{CallId, ConversationId, Incarnation, ServerId, TurnId};
use tracing::{Span, info_span};

use crate::log;

/// The longest tool name in a span, in bytes.
const TOOL: usize = 128;

/// The life of one incarnation.
pub fn incarnation(server: &ServerId, incarnation: Incarnation) -> Span {
    info_span!("incarnation", server.id = server.as_str(), incarnation = incarnation.get())
}

/// One call of a tool. The name may be a caller's or a server's word, so it is cleaned and cut.
pub fn call(server: &ServerId, tool: &str, call_id: CallId) -> Span {
    info_span!("call", server.id = server.as_str(), tool = log::line(tool, TOOL), call.id = call_id.0)
}

/// One turn of a conversation.
pub fn turn(conversation: ConversationId, turn: TurnId) -> Span {
    info_span!("turn", conversation.id = conversation.0, turn = turn.0)
}
