//! Fakes for the tests of this crate: tools, a dispatcher, a model that follows a list.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_core::dialogue::{Block, Message, StopReason, ToolUse, Usage};
use ostler_core::port::{
    BoxFuture, Dispatch, Model, ModelError, ModelInfo, ModelReply, ModelRequest, ModelStream, Outcome, ToolAnswer,
    ToolCall,
};
use ostler_core::tool::OfferedTool;
use ostler_core::{CallError, Incarnation, OfferedName, ServerId, ToolDefinition};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::clock;

pub(crate) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

pub(crate) fn tool(server: &str, definition: &str) -> OfferedTool {
    let server = ServerId::new(server).expect("an id");
    let definition = Arc::new(ToolDefinition::parse(&json(definition)).expect("a tool"));
    OfferedTool { name: OfferedName::new(&server, &definition.name), server, definition }
}

/// The tools of the first tour: math and notes.
pub(crate) fn tour() -> Arc<[OfferedTool]> {
    let numbers = r#""inputSchema":{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}}}"#;
    let texts = r#""inputSchema":{"type":"object","properties":{"key":{"type":"string"},"value":{"type":"string"}}}"#;
    [
        tool("math", &format!(r#"{{"name":"add","description":"Adds.",{numbers}}}"#)),
        tool("math", &format!(r#"{{"name":"multiply",{numbers}}}"#)),
        tool("notes", &format!(r#"{{"name":"save",{texts}}}"#)),
        tool("notes", &format!(r#"{{"name":"recall",{texts}}}"#)),
    ]
    .into()
}

pub(crate) fn request(messages: Vec<impl Into<Arc<Message>>>, tools: Arc<[OfferedTool]>) -> ModelRequest {
    let messages = messages.into_iter().map(Into::into).collect();
    ModelRequest { system: None, messages, tools, deadline: clock::now() + Duration::from_secs(30) }
}

pub(crate) fn text_result(text: &str) -> Outcome {
    let text = serde_json::to_string(text).expect("a text");
    Outcome::Raw(json(&format!(r#"{{"content":[{{"type":"text","text":{text}}}]}}"#)))
}

/// What a tool does with its name and arguments.
type Tool = dyn Fn(&str, &str) -> Act + Send + Sync;

/// What a tool does.
pub(crate) enum Act {
    Answer(Result<Outcome, CallError>),
    /// Waits until it is told to go on, then answers.
    Wait(Arc<Notify>, Result<Outcome, CallError>),
    Hang,
    Panic,
}

pub(crate) struct FakeDispatch(pub(crate) Box<Tool>);

impl Dispatch for FakeDispatch {
    fn tools(&self) -> Arc<[OfferedTool]> {
        tour()
    }

    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolAnswer> {
        Box::pin(async move {
            let result = match (self.0)(&call.name, call.arguments.get()) {
                Act::Answer(result) => result,
                Act::Wait(go, result) => {
                    go.notified().await;
                    result
                }
                Act::Hang => pending().await,
                Act::Panic => panic!("the tool broke"),
            };
            let server = call.name.split_once("__").and_then(|(server, _)| ServerId::new(server).ok());
            ToolAnswer {
                server,
                incarnation: Some(Incarnation::FIRST),
                stateful: true,
                elapsed: Duration::from_millis(7),
                result,
            }
        })
    }
}

/// What a fake model does when it is asked.
pub(crate) enum Line {
    Say(&'static str),
    Call(&'static [(&'static str, &'static str)]),
    /// Says these deltas, then answers with them.
    Stream(Vec<String>),
    Fail(ModelError),
    Hang,
    Panic,
}

/// A model that does one line after the other and keeps what it was asked.
pub(crate) struct FakeModel {
    lines: Mutex<VecDeque<Line>>,
    pub(crate) asked: Mutex<Vec<ModelRequest>>,
}

impl FakeModel {
    pub(crate) fn new(lines: impl IntoIterator<Item = Line>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::new(lines.into_iter().collect()), asked: Mutex::default() })
    }
}

impl Model for FakeModel {
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "fake", model: "fake".to_owned(), notice: None }
    }

    fn complete<'a>(
        &'a self,
        request: ModelRequest,
        stream: &'a dyn ModelStream,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            self.asked.lock().expect("no panic").push(request);
            let line = self.lines.lock().expect("no panic").pop_front().expect("a line");
            let reply = |blocks, stop| Ok(ModelReply { blocks, stop, usage: Usage::default() });
            match line {
                Line::Say(text) => {
                    stream.text(text);
                    reply(vec![Block::Text(text.to_owned())], StopReason::EndTurn)
                }
                Line::Call(calls) => {
                    let block = |(id, name): &(&str, &str)| {
                        let (id, name) = ((*id).to_owned(), (*name).to_owned());
                        Block::ToolUse(ToolUse { id, name, input: json(r#"{"a":1}"#) })
                    };
                    reply(calls.iter().map(block).collect(), StopReason::ToolUse)
                }
                Line::Stream(deltas) => {
                    for delta in &deltas {
                        stream.text(delta);
                    }
                    reply(vec![Block::Text(deltas.concat())], StopReason::EndTurn)
                }
                Line::Fail(error) => Err(error),
                Line::Hang => pending().await,
                Line::Panic => panic!("the model broke"),
            }
        })
    }
}

/// Keeps what a model said while it spoke.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) text: Mutex<String>,
    pub(crate) retries: Mutex<Vec<String>>,
}

impl ModelStream for Heard {
    fn text(&self, delta: &str) {
        self.text.lock().expect("no panic").push_str(delta);
    }

    fn retrying(&self, after: Duration, why: &str) {
        self.retries.lock().expect("no panic").push(format!("{} ms: {why}", after.as_millis()));
    }
}
