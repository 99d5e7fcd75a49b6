//! What was said in one conversation, in the alternating form that every provider accepts.
//!
//! It keeps order and merges neighbours of one role. That each tool call has its result is the turn's care.

use std::sync::Arc;

use ostler_core::dialogue::{Block, Message};

/// The most that one conversation keeps, in bytes of text. Far beyond any model's context; it bounds our memory.
pub const MAX_BYTES: usize = 32 << 20;

/// A dialogue in which user and assistant alternate.
#[derive(Debug, Clone, Default)]
pub struct History {
    messages: Vec<Arc<Message>>,
    bytes: usize,
}

impl History {
    /// Adds a message. One of the same role as the last is joined to it; an empty one is dropped.
    pub fn push(&mut self, message: Message) {
        if message.blocks.is_empty() {
            return;
        }
        self.bytes += message.blocks.iter().map(size).sum::<usize>();
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => Arc::make_mut(last).blocks.extend(message.blocks),
            _ => self.messages.push(Arc::new(message)),
        }
    }

    /// The dialogue so far, oldest first.
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    /// Whether it has more than [`MAX_BYTES`]: nothing can be asked about it any more.
    pub fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }
}

/// The bytes of a block that grow with what was said.
fn size(block: &Block) -> usize {
    match block {
        Block::Text(text) => text.len(),
        Block::ToolUse(wish) => wish.id.len() + wish.name.len() + wish.input.get().len(),
        Block::ToolResult(result) => result.tool_use_id.len() + result.content.len(),
        Block::Opaque(raw) => raw.get().len(),
    }
}

#[cfg(test)]
mod tests {
    use ostler_core::dialogue::{Block, Role};

    use super::*;

    #[test]
    fn a_history_is_full_beyond_its_bound() {
        let mut history = History::default();
        history.push(Message::user("x".repeat(MAX_BYTES)));
        assert!(!history.is_full());
        history.push(Message::user("y"));
        assert!(history.is_full());
    }

    #[test]
    fn neighbours_of_one_role_become_one_message() {
        let mut history = History::default();
        history.push(Message::user("a"));
        history.push(Message::user("b"));
        history.push(Message { role: Role::Assistant, blocks: Vec::new() });
        history.push(Message { role: Role::Assistant, blocks: vec![Block::Text("c".into())] });
        history.push(Message::user("d"));
        let shape: Vec<_> = history.messages().iter().map(|message| (message.role, message.blocks.len())).collect();
        assert_eq!(shape, [(Role::User, 2), (Role::Assistant, 1), (Role::User, 1)]);
    }
}
