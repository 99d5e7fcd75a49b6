//! A model that is none: it plays a script. Offline, deterministic, and it says what it is.
//!
//! It keeps no state: where a scene stands follows from the dialogue alone, and every value in its answers comes from
//! the prompt or from a tool. `script` is the file's shape and its check, `pattern` the texts with captures.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ostler_core::dialogue::{Block, Message, Role, StopReason, ToolResult, ToolUse, Usage};
use ostler_core::port::{BoxFuture, Model, ModelError, ModelInfo, ModelReply, ModelRequest, ModelStream};
use ostler_core::tool::OfferedTool;
use serde_json::value::to_raw_value;
use serde_json::{Map, Number, Value};

use self::pattern::{Bindings, Template, is_number};
use self::script::{Argument, CheckedCall, CheckedScene};

mod pattern;
mod script;

pub use self::script::{Call, Scene, Script, Step};

/// The provider's and the model's name.
const NAME: &str = "rehearsal";

/// How many tools an error lists.
const MAX_LISTED: usize = 40;

/// Why the rehearsal answers and not a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no key for a real one.
    NoKey,
    /// The configuration asks for it.
    Configured,
}

/// The player of a script.
pub struct Rehearsal {
    scenes: Vec<CheckedScene>,
    source: String,
    reason: Reason,
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").field("source", &self.source).field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// Checks a script. `source` is the file it came from, for messages. Errors: [`ModelError::Config`] with every
    /// mistake in it.
    pub fn new(script: Script, source: impl Into<String>, reason: Reason) -> Result<Self, ModelError> {
        let source = source.into();
        let scenes = script::check(script, &source)?;
        Ok(Self { scenes, source, reason })
    }

    /// What the assistant says next in this dialogue.
    fn play(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let so_far = SoFar::of(&request.messages);
        let (scene, mut values) = self
            .scenes
            .iter()
            .find_map(|scene| Some((scene, scene.prompt.matches(so_far.prompt)?)))
            .ok_or_else(|| self.unknown_prompt())?;
        for (calls, uses) in scene.steps.iter().zip(&so_far.steps) {
            for (call, id) in calls.iter().zip(uses) {
                match so_far.results.get(id) {
                    Some(result) if result.is_error => return Ok(failed(scene, call, result, values)),
                    Some(result) => drop(values.insert(call.id.clone(), result.content.trim().to_owned())),
                    None => return Err(ModelError::Protocol(format!("the call {id} has no result"))),
                }
            }
        }
        let Some(calls) = scene.steps.get(so_far.steps.len()) else {
            return Ok(answer(scene.answer.fill(&values)));
        };
        // Looked up for the whole scene, so that none is left half played.
        for call in scene.steps.iter().flatten() {
            self.offered(&call.tool, &request.tools)?;
        }
        let step = so_far.steps.len() + 1;
        let blocks = calls.iter().map(|call| {
            let tool = self.offered(&call.tool, &request.tools)?;
            let id = format!("rehearsal_{}_{step}_{}", so_far.prompts, call.id);
            let input = to_raw_value(&arguments(call, tool, &values))
                .map_err(|error| ModelError::Protocol(error.to_string()))?;
            Ok(Block::ToolUse(ToolUse { id, name: call.tool.clone(), input }))
        });
        let blocks = blocks.collect::<Result<_, _>>()?;
        Ok(ModelReply { blocks, stop: StopReason::ToolUse, usage: Usage::default() })
    }

    fn offered<'a>(&self, name: &str, tools: &'a [OfferedTool]) -> Result<&'a OfferedTool, ModelError> {
        tools.iter().find(|tool| tool.name.as_str() == name).ok_or_else(|| {
            let mut there: Vec<&str> = tools.iter().take(MAX_LISTED).map(|tool| tool.name.as_str()).collect();
            match tools.len() {
                0 => there.push("none"),
                len if len > MAX_LISTED => there.push("…"),
                _ => {}
            }
            ModelError::Config(format!(
                "the rehearsal script {} calls the tool '{name}', which is not on offer; on offer: {}",
                self.source,
                there.join(", ")
            ))
        })
    }

    fn unknown_prompt(&self) -> ModelError {
        let known: Vec<String> = self.scenes.iter().map(|scene| format!("\n  {}", scene.prompt.shown())).collect();
        let way_out = match self.reason {
            Reason::NoKey => "set ANTHROPIC_API_KEY",
            Reason::Configured => "set ANTHROPIC_API_KEY and choose a model in the configuration",
        };
        ModelError::UnknownPrompt(format!(
            "the rehearsal script {} does not know this prompt; it knows:{}\nto ask a language model, {way_out}",
            self.source,
            known.concat()
        ))
    }
}

impl Model for Rehearsal {
    fn info(&self) -> ModelInfo {
        let why = match self.reason {
            Reason::NoKey => "no ANTHROPIC_API_KEY: ",
            Reason::Configured => "",
        };
        let notice = format!("{why}answers come from a script, not from a language model: {}", self.source);
        ModelInfo { provider: NAME, model: NAME.to_owned(), notice: Some(notice) }
    }

    fn complete<'a>(
        &'a self,
        request: ModelRequest,
        stream: &'a dyn ModelStream,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let reply = self.play(&request)?;
            for block in &reply.blocks {
                if let Block::Text(text) = block {
                    stream.text(text);
                }
            }
            Ok(reply)
        })
    }
}

/// Where a dialogue stands: the last prompt and what was done since.
struct SoFar<'a> {
    prompt: &'a str,
    /// How many prompts there were, this one included: it keeps the ids of calls apart.
    prompts: usize,
    /// The ids of the tool calls since the prompt, by turn.
    steps: Vec<Vec<&'a str>>,
    results: HashMap<&'a str, &'a ToolResult>,
}

impl<'a> SoFar<'a> {
    fn of(messages: &'a [Arc<Message>]) -> Self {
        let mut so_far = Self { prompt: "", prompts: 0, steps: Vec::new(), results: HashMap::new() };
        for message in messages {
            let mut uses = Vec::new();
            for block in &message.blocks {
                match (message.role, block) {
                    (Role::User, Block::Text(text)) => so_far.next(text),
                    (Role::User, Block::ToolResult(result)) => {
                        so_far.results.insert(&result.tool_use_id, result);
                    }
                    (Role::Assistant, Block::ToolUse(wish)) => uses.push(wish.id.as_str()),
                    (
                        Role::User | Role::Assistant,
                        Block::Text(_) | Block::ToolUse(_) | Block::ToolResult(_) | Block::Opaque(_),
                    ) => {}
                }
            }
            if !uses.is_empty() {
                so_far.steps.push(uses);
            }
        }
        so_far
    }

    fn next(&mut self, prompt: &'a str) {
        self.prompt = prompt;
        self.prompts += 1;
        self.steps.clear();
        self.results.clear();
    }
}

fn answer(text: String) -> ModelReply {
    ModelReply { blocks: vec![Block::Text(text)], stop: StopReason::EndTurn, usage: Usage::default() }
}

fn failed(scene: &CheckedScene, call: &CheckedCall, result: &ToolResult, mut values: Bindings) -> ModelReply {
    let Some(template) = &scene.on_error else {
        return answer(format!("The call to {} failed: {}", call.tool, result.content));
    };
    values.insert("tool".to_owned(), call.tool.clone());
    values.insert("error".to_owned(), result.content.clone());
    answer(template.fill(&values))
}

fn arguments(call: &CheckedCall, tool: &OfferedTool, values: &Bindings) -> Map<String, Value> {
    // A schema that is odd is the server's affair: then every reference stays a text.
    let schema: Value = serde_json::from_str(tool.definition.input_schema.get()).unwrap_or_default();
    let wanted = |name: &str| &schema["properties"][name]["type"];
    let argument = |(name, argument): (&String, &Argument)| {
        let value = match argument {
            Argument::Text(template) => text_or_number(template, wanted(name), values),
            Argument::List(_) | Argument::Object(_) | Argument::Fixed(_) => fill(argument, values),
        };
        (name.clone(), value)
    };
    call.arguments.iter().map(argument).collect()
}

fn fill(argument: &Argument, values: &Bindings) -> Value {
    match argument {
        Argument::Text(template) => Value::String(template.fill(values)),
        Argument::List(items) => items.iter().map(|item| fill(item, values)).collect(),
        Argument::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), fill(field, values))).collect())
        }
        Argument::Fixed(value) => value.clone(),
    }
}

/// A single reference to a number becomes one where the tool's schema wants it, and stays a text elsewhere.
fn text_or_number(template: &Template, wanted: &Value, values: &Bindings) -> Value {
    let text = template.fill(values);
    let wants = |kind: &str| wanted == kind || wanted.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
    if template.only_reference().is_none() || !is_number(&text) || !(wants("number") || wants("integer")) {
        return Value::String(text);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(&text);
    let number = match unsigned.parse::<i64>() {
        Ok(whole) => Some(Number::from(whole)),
        Err(_) if wants("number") => unsigned.parse::<f64>().ok().and_then(Number::from_f64),
        Err(_) => None,
    };
    number.map_or(Value::String(text), Value::Number)
}

#[cfg(test)]
mod tests;
