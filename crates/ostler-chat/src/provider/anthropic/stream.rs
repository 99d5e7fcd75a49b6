//! What comes from the Messages API: the events of one stream, put together to one reply.
//!
//! Pure. Unknown events are skipped. Unknown blocks are kept for the way back: as they came if nothing was added to
//! them, else with each delta's strings added to the block's fields of the same name.

use ostler_core::dialogue::{Block, StopReason, ToolUse, Usage};
use ostler_core::port::{ModelError, ModelReply};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::provider::sse;

/// How much content one reply may have, in bytes.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// What an event meant for whoever drives the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to do.
    Nothing,
    /// The first content, without text.
    Content,
    /// More text.
    Text(String),
    /// The reply is complete.
    Stop,
}

/// An `error` event inside a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ApiError {
    /// Its kind, as the API calls it.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    /// What it says.
    #[serde(default)]
    pub(super) message: String,
}

/// Why a stream cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The API said so.
    Api(ApiError),
    /// It makes no sense.
    Protocol(String),
}

/// A reply that is being put together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    parts: Vec<Part>,
    stop: Option<String>,
    category: Option<String>,
    usage: Usage,
    size: usize,
}

#[derive(Debug)]
struct Part {
    index: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Text(String),
    Tool { id: String, name: String, start: Option<Box<RawValue>>, json: String },
    Opaque { raw: Box<RawValue>, changed: Option<Map<String, Value>>, json: String },
}

#[derive(Deserialize)]
struct Start<'a> {
    index: u64,
    #[serde(borrow)]
    content_block: &'a RawValue,
}

#[derive(Deserialize)]
struct BlockHead<'a> {
    r#type: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta {
    index: u64,
    delta: Map<String, Value>,
}

#[derive(Deserialize)]
struct MessageStart {
    message: MessageHead,
}

#[derive(Deserialize)]
struct MessageHead {
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct MessageDelta {
    #[serde(default)]
    delta: StopDelta,
    usage: Option<WireUsage>,
}

#[derive(Deserialize, Default)]
struct StopDelta {
    stop_reason: Option<String>,
    stop_details: Option<StopDetails>,
}

#[derive(Deserialize)]
struct StopDetails {
    category: Option<String>,
}

/// The counts are totals so far; what an event leaves out is as it was.
#[derive(Deserialize)]
struct WireUsage {
    #[serde(rename = "input_tokens")]
    input: Option<u64>,
    #[serde(rename = "output_tokens")]
    output: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_write: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorEvent {
    error: ApiError,
}

impl Assembly {
    /// Takes in one event.
    pub(super) fn on(&mut self, event: &sse::Event) -> Result<Step, Broken> {
        match event.name.as_str() {
            "message_start" => {
                self.count(read::<MessageStart>(event)?.message.usage);
                Ok(Step::Nothing)
            }
            "content_block_start" => self.start(&read(event)?),
            "content_block_delta" => self.delta(read(event)?),
            "message_delta" => {
                let MessageDelta { delta, usage } = read(event)?;
                self.count(usage);
                self.stop = delta.stop_reason.or(self.stop.take());
                self.category = delta.stop_details.and_then(|details| details.category).or(self.category.take());
                Ok(Step::Nothing)
            }
            "message_stop" => Ok(Step::Stop),
            "error" => Err(Broken::Api(read::<ErrorEvent>(event)?.error)),
            // `ping`, `content_block_stop`, and whatever will be invented.
            _ => Ok(Step::Nothing),
        }
    }

    fn start(&mut self, start: &Start<'_>) -> Result<Step, Broken> {
        let raw = start.content_block;
        let head: BlockHead<'_> =
            serde_json::from_str(raw.get()).map_err(|error| Broken::Protocol(format!("a block: {error}")))?;
        if self.parts.iter().any(|part| part.index == start.index) {
            return Err(Broken::Protocol(format!("block {} starts twice", start.index)));
        }
        self.grow(raw.get().len())?;
        let BlockHead { r#type, text, id, name, input } = head;
        let (body, step) = match (r#type.as_str(), id, name) {
            ("text", _, _) => {
                let text = text.unwrap_or_default();
                let step = if text.is_empty() { Step::Content } else { Step::Text(text.clone()) };
                (Body::Text(text), step)
            }
            ("tool_use", Some(id), Some(name)) => {
                let start = input.filter(|input| input.get().starts_with('{')).map(ToOwned::to_owned);
                (Body::Tool { id, name, start, json: String::new() }, Step::Content)
            }
            ("tool_use", _, _) => return Err(Broken::Protocol("a tool_use block without id or name".to_owned())),
            _ => (Body::Opaque { raw: raw.to_owned(), changed: None, json: String::new() }, Step::Content),
        };
        self.parts.push(Part { index: start.index, body });
        Ok(step)
    }

    fn delta(&mut self, Delta { index, mut delta }: Delta) -> Result<Step, Broken> {
        let kind = delta.remove("type");
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
        let Some(place) = self.parts.iter().position(|part| part.index == index) else {
            return Err(Broken::Protocol(format!("a delta of block {index}, which did not start")));
        };
        let added = delta.values().filter_map(Value::as_str).map(str::len).sum();
        self.grow(added)?;
        match (&mut self.parts[place].body, kind) {
            (Body::Text(text), "text_delta") => {
                let more = take(&mut delta, "text");
                text.push_str(&more);
                Ok(Step::Text(more))
            }
            (Body::Tool { json, .. } | Body::Opaque { json, .. }, "input_json_delta") => {
                json.push_str(&take(&mut delta, "partial_json"));
                Ok(Step::Nothing)
            }
            (Body::Opaque { raw, changed, .. }, _) => {
                extend(raw, changed, delta)?;
                Ok(Step::Nothing)
            }
            // Citations of a text, and whatever will be invented.
            (Body::Text(_) | Body::Tool { .. }, _) => Ok(Step::Nothing),
        }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Broken> {
        self.size += bytes;
        if self.size > MAX_REPLY {
            return Err(Broken::Protocol(format!("the reply is larger than {MAX_REPLY} bytes")));
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<WireUsage>) {
        let Some(usage) = usage else { return };
        let set = |count: &mut u64, new: Option<u64>| *count = new.unwrap_or(*count);
        set(&mut self.usage.input, usage.input);
        set(&mut self.usage.output, usage.output);
        set(&mut self.usage.cache_read, usage.cache_read);
        set(&mut self.usage.cache_write, usage.cache_write);
    }

    /// The reply, once [`Step::Stop`] was seen. A tool call that the size limit cut off is left out.
    pub(super) fn finish(mut self) -> Result<ModelReply, ModelError> {
        self.parts.sort_by_key(|part| part.index);
        let cut_off = self.stop.as_deref() == Some("max_tokens");
        let last = self.parts.last().map(|part| part.index);
        let mut blocks = Vec::with_capacity(self.parts.len());
        for Part { index, body } in self.parts {
            match body {
                Body::Text(text) if text.is_empty() => {}
                Body::Text(text) => blocks.push(Block::Text(text)),
                Body::Tool { id, name, start, json } => {
                    // Nothing of the arguments came: whole for a tool without any, unless the limit struck here.
                    let unfinished = cut_off && last == Some(index) && json.is_empty();
                    match arguments(start, json) {
                        Some(input) if !unfinished => blocks.push(Block::ToolUse(ToolUse { id, name, input })),
                        Some(_) | None if cut_off => {}
                        Some(_) | None => {
                            let why = format!("the arguments for '{name}' are not a JSON object");
                            return Err(ModelError::Protocol(why));
                        }
                    }
                }
                Body::Opaque { raw, changed, json } => blocks.push(Block::Opaque(opaque(raw, changed, &json)?)),
            }
        }
        let wants_tools = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
        let stop = match self.stop.as_deref() {
            None if wants_tools => StopReason::ToolUse,
            None | Some("end_turn" | "stop_sequence") => StopReason::EndTurn,
            Some("tool_use") => StopReason::ToolUse,
            Some("max_tokens") => StopReason::MaxTokens,
            Some("pause_turn") => StopReason::Pause,
            Some("refusal") => StopReason::Refusal(self.category),
            Some("model_context_window_exceeded") => StopReason::ContextFull,
            Some(other) => StopReason::Other(other.to_owned()),
        };
        Ok(ModelReply { blocks, stop, usage: self.usage })
    }
}

fn read<'a, T: Deserialize<'a>>(event: &'a sse::Event) -> Result<T, Broken> {
    serde_json::from_str(&event.data).map_err(|error| Broken::Protocol(format!("{}: {error}", event.name)))
}

fn take(delta: &mut Map<String, Value>, field: &str) -> String {
    match delta.remove(field) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Adds the strings of a delta to the block: at the end of a string, or in place of nothing.
fn extend(raw: &RawValue, changed: &mut Option<Map<String, Value>>, delta: Map<String, Value>) -> Result<(), Broken> {
    let block = match changed {
        Some(block) => block,
        None => changed.insert(object(raw).map_err(Broken::Protocol)?),
    };
    for (field, value) in delta {
        match (block.get_mut(&field), value) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (Some(Value::Null) | None, Value::String(more)) => drop(block.insert(field, Value::String(more))),
            _ => {}
        }
    }
    Ok(())
}

fn opaque(
    raw: Box<RawValue>,
    mut changed: Option<Map<String, Value>>,
    json: &str,
) -> Result<Box<RawValue>, ModelError> {
    if !json.is_empty() {
        let input = serde_json::from_str(json)
            .map_err(|error| ModelError::Protocol(format!("the input of a provider's own block: {error}")))?;
        let mut block = match changed {
            Some(block) => block,
            None => object(&raw).map_err(ModelError::Protocol)?,
        };
        block.insert("input".to_owned(), input);
        changed = Some(block);
    }
    match changed {
        None => Ok(raw),
        Some(block) => serde_json::value::to_raw_value(&block).map_err(|error| ModelError::Protocol(error.to_string())),
    }
}

fn object(raw: &RawValue) -> Result<Map<String, Value>, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("a block: {error}"))
}

/// The arguments of a tool call, if they are an object: the pieces that were streamed, else what the start had.
fn arguments(start: Option<Box<RawValue>>, json: String) -> Option<Box<RawValue>> {
    if json.trim().is_empty() {
        return start.or_else(|| RawValue::from_string("{}".to_owned()).ok());
    }
    RawValue::from_string(json).ok().filter(|input| input.get().starts_with('{'))
}

#[cfg(test)]
mod tests;
