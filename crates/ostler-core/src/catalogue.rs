//! What one server offers, as last listed. Items that we do not read stay raw.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::tool::{ToolDefinition, ToolError};

/// The lists of one server. Order is the server's own; the registry sorts.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The tools that can be offered.
    pub tools: Vec<Arc<ToolDefinition>>,
    /// The tools that cannot, each with the reason.
    pub refused: Vec<RefusedTool>,
    /// Resources, unread.
    pub resources: Vec<Box<RawValue>>,
    /// Resource templates, unread.
    pub templates: Vec<Box<RawValue>>,
    /// Prompts, unread.
    pub prompts: Vec<Box<RawValue>>,
    /// The server's instructions to a model: its words, not ours.
    pub instructions: Option<String>,
}

/// A tool that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedTool {
    /// Its place in the server's list, from 0.
    pub position: usize,
    /// Why.
    pub reason: ToolError,
}

/// One of the lists that a server can say has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The tools.
    Tools,
    /// The resources and their templates.
    Resources,
    /// The prompts.
    Prompts,
}
