//! The demo server `notes`: short texts under keys, kept in memory for as long as the process lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::handler::server::wrapper::Parameters;
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

/// How many notes are kept. A demonstration is no database.
const MOST_NOTES: usize = 10_000;

/// The notes.
#[derive(Clone, Default)]
pub(super) struct Notes {
    notes: Arc<Mutex<HashMap<String, String>>>,
}

#[derive(Deserialize, JsonSchema)]
struct Save {
    /// The key to save the value under.
    key: String,
    /// The text to save.
    value: String,
}

#[derive(Deserialize, JsonSchema)]
struct Recall {
    /// The key that the text was saved under.
    key: String,
}

#[tool_router]
impl Notes {
    #[tool(
        description = "Saves a text under a key. A text that was there before is replaced.",
        annotations(read_only_hint = false, idempotent_hint = true)
    )]
    fn save(&self, Parameters(Save { key, value }): Parameters<Save>) -> Result<String, String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= MOST_NOTES && !notes.contains_key(&key) {
            return Err(format!("there are {MOST_NOTES} notes already; save under a key that exists"));
        }
        let saved = format!("saved {} chars under '{key}'", value.chars().count());
        notes.insert(key, value);
        Ok(saved)
    }

    #[tool(
        description = "Recalls the text that was saved under a key, or answers 'not found'.",
        annotations(read_only_hint = true)
    )]
    fn recall(&self, Parameters(Recall { key }): Parameters<Recall>) -> String {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(&key).cloned().unwrap_or_else(|| "not found".to_owned())
    }
}

#[tool_handler(
    name = "ostler-demo-notes",
    instructions = "A demonstration server of Ostler: it saves short texts under keys and recalls them. They are lost when it ends."
)]
impl ServerHandler for Notes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_recalled() {
        let notes = Notes::default();
        let save = |key: &str, value: &str| notes.save(Parameters(Save { key: key.into(), value: value.into() }));
        let recall = |key: &str| notes.recall(Parameters(Recall { key: key.into() }));
        assert_eq!(recall("magic"), "not found");
        assert_eq!(save("magic", "391"), Ok("saved 3 chars under 'magic'".to_owned()));
        assert_eq!(recall("magic"), "391");
        assert_eq!(save("magic", "\u{e4}\u{f6}"), Ok("saved 2 chars under 'magic'".to_owned()));
        assert_eq!(recall("magic"), "\u{e4}\u{f6}");
    }
}
