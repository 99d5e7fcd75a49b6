//! What is said between a user, a model and tools. Provider-neutral; a provider's own blocks stay raw.

use serde_json::value::RawValue;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user, and tool results.
    User,
    /// The model.
    Assistant,
}

/// One message of a dialogue.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub blocks: Vec<Block>,
}

impl Message {
    /// A user's plain text.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, blocks: vec![Block::Text(text.into())] }
    }
}

/// A part of a message.
#[derive(Debug, Clone)]
pub enum Block {
    /// Text.
    Text(String),
    /// The model asks for a tool.
    ToolUse(ToolUse),
    /// A tool's answer.
    ToolResult(ToolResult),
    /// A provider's own block (thinking, signatures, what is new): sent back byte for byte.
    Opaque(Box<RawValue>),
}

/// A model's wish to call a tool.
#[derive(Debug, Clone)]
pub struct ToolUse {
    /// The model's id for it. Its result must carry the same.
    pub id: String,
    /// The name, as the model wrote it.
    pub name: String,
    /// The arguments: a JSON object.
    pub input: Box<RawValue>,
}

/// What a tool answered, as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of the wish.
    pub tool_use_id: String,
    /// The text: text blocks joined by newlines, `(no output)` for none.
    pub content: String,
    /// Whether the call or the tool failed.
    pub is_error: bool,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It is done.
    EndTurn,
    /// It wants tools.
    ToolUse,
    /// The answer reached its size limit.
    MaxTokens,
    /// It paused; the same dialogue sent again lets it go on.
    Pause,
    /// It refuses, with the provider's category if given.
    Refusal(Option<String>),
    /// The dialogue no longer fits the model.
    ContextFull,
    /// Something else, as the provider calls it.
    Other(String),
}

impl StopReason {
    /// A label from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::ToolUse => "tool_use",
            Self::MaxTokens => "max_tokens",
            Self::Pause => "pause_turn",
            Self::Refusal(_) => "refusal",
            Self::ContextFull => "context_full",
            Self::Other(_) => "other",
        }
    }
}

/// Tokens spent by one model call. Zero where a provider does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read, not from the cache.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the prompt cache.
    pub cache_read: u64,
    /// Written to the prompt cache.
    pub cache_write: u64,
}
