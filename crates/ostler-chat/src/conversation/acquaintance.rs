//! Which incarnation of each server a conversation has used, so that a restart in between is told and not guessed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ostler_core::port::ToolAnswer;
use ostler_core::{Incarnation, ServerId};

/// The servers that a conversation knows. As many as are configured, at most.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(Mutex<HashMap<ServerId, Incarnation>>);

impl Acquaintances {
    /// What the model is to be told before it reads this answer: that the server has forgotten what it knew.
    /// Once a restart; nothing for a server that keeps no state.
    pub(super) fn meet(&self, answer: &ToolAnswer) -> Option<String> {
        let (Some(server), Some(incarnation)) = (&answer.server, answer.incarnation) else { return None };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(server.clone(), incarnation)?;
        (answer.stateful && before < incarnation).then(|| {
            format!(
                "(The server '{server}' was restarted since it was last used here; what it kept in memory is gone.)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ostler_core::CallError;

    use super::*;

    fn answer(server: &str, incarnation: Incarnation, stateful: bool) -> ToolAnswer {
        ToolAnswer {
            server: Some(ServerId::new(server).expect("an id")),
            incarnation: Some(incarnation),
            stateful,
            elapsed: Duration::ZERO,
            result: Err(CallError::Cancelled),
        }
    }

    #[test]
    fn a_restart_is_told_once_to_those_who_knew_the_server() {
        let known = Acquaintances::default();
        let (first, second) = (Incarnation::FIRST, Incarnation::FIRST.next());
        assert_eq!(known.meet(&answer("notes", first, true)), None);
        assert_eq!(known.meet(&answer("math", second, true)), None, "never met before");
        assert_eq!(known.meet(&answer("notes", first, true)), None);
        let told = known.meet(&answer("notes", second, true)).expect("told");
        assert!(told.contains("'notes' was restarted"), "{told}");
        assert_eq!(known.meet(&answer("notes", second, true)), None, "once");
        assert_eq!(known.meet(&answer("math", second.next(), false)), None, "it keeps no state");
    }
}
