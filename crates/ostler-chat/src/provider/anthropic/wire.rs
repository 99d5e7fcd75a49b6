//! What goes to the Messages API: a dialogue and its tools as one request body.
//!
//! Schemas, arguments and a provider's own blocks are written byte for byte. No sampling parameter is ever sent:
//! version 2026-10-21 refuses them.

use ostler_core::dialogue::{Block, Message, Role};
use ostler_core::port::ModelRequest;
use serde::Serialize;
use serde_json::value::RawValue;

use super::AnthropicConfig;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireBlock<'a> {
    Known(KnownBlock<'a>),
    Opaque(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KnownBlock<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a RawValue,
}

/// The request body for `request`.
pub(super) fn body(config: &AnthropicConfig, request: &ModelRequest) -> Vec<u8> {
    let body = Body {
        model: &config.model,
        max_tokens: config.max_tokens,
        stream: true,
        system: request.system.as_deref().filter(|system| !system.trim().is_empty()),
        messages: request
            .messages
            .iter()
            .map(|said| message(said))
            .filter(|message| !message.content.is_empty())
            .collect(),
        tools: request
            .tools
            .iter()
            .map(|tool| WireTool {
                name: tool.name.as_str(),
                description: tool.definition.description.as_deref(),
                input_schema: &tool.definition.input_schema,
            })
            .collect(),
    };
    serde_json::to_vec(&body).expect("strings, numbers and JSON that was parsed before can be written")
}

fn message(message: &Message) -> WireMessage<'_> {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    WireMessage { role, content: message.blocks.iter().filter_map(block).collect() }
}

/// A block as it is written; a blank text is left out, because the API refuses it.
fn block(block: &Block) -> Option<WireBlock<'_>> {
    let known = match block {
        Block::Text(text) if text.trim().is_empty() => return None,
        Block::Text(text) => KnownBlock::Text { text },
        Block::ToolUse(wish) => KnownBlock::ToolUse { id: &wish.id, name: &wish.name, input: &wish.input },
        Block::ToolResult(result) => KnownBlock::ToolResult {
            tool_use_id: &result.tool_use_id,
            content: &result.content,
            is_error: result.is_error,
        },
        Block::Opaque(raw) => return Some(WireBlock::Opaque(raw)),
    };
    Some(WireBlock::Known(known))
}
