//! What was said in one conversation, in the alternating form that every provider accepts.
//!
//! It keeps order and merges neighbours of one role. That each tool call has its result is the turn's care.

use ostler_core::dialogue::Message;

/// A dialogue in which user and assistant alternate.
#[derive(Debug, Clone, Default)]
pub struct History {
    messages: Vec<Message>,
}

impl History {
    /// Adds a message. One of the same role as the last is joined to it; an empty one is dropped.
    pub fn push(&mut self, message: Message) {
        if message.blocks.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => last.blocks.extend(message.blocks),
            _ => self.messages.push(message),
        }
    }

    /// The dialogue so far, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}

#[cfg(test)]
mod tests {
    use ostler_core::dialogue::{Block, Role};

    use super::*;

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
