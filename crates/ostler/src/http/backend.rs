//! The port between the listeners or the command line and the fleet: everything that they can ask of it.
//!
//! Implemented by the application, and by a fake in tests. Nothing here waits without a deadline of the caller.

use std::time::Instant;

use ostler_core::ServerId;
use ostler_core::port::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::dto::{AnswerDto, CallDto, ModelDto, ServerDto, StatusDto, ToolDto};
use super::error::ErrorDto;
use super::event::{AskEvent, EventDto};

/// A fleet and a model, as the outside sees them.
pub trait Backend: Send + Sync + 'static {
    /// What runs: version, process, configuration.
    fn status(&self) -> StatusDto;

    /// All servers, in the order of the configuration.
    fn servers(&self) -> Vec<ServerDto>;

    /// All tools of the namespace, in its order.
    fn tools(&self) -> Vec<ToolDto>;

    /// Which model answers.
    fn model(&self) -> ModelDto;

    /// Calls one tool for an operator. `None`: the server's own limit holds. Dropping the future cancels the call.
    fn call(
        &self,
        name: String,
        arguments: Box<RawValue>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'_, Result<CallDto, ErrorDto>>;

    /// Opens a conversation. Dropping it ends it.
    fn converse(&self) -> BoxFuture<'_, Result<Box<dyn Talk>, ErrorDto>>;

    /// The events from now on, after at most `recent` past ones.
    fn events(&self, recent: usize) -> Box<dyn Events>;

    /// Orders one server about. The order is taken, not yet done, when this returns.
    fn control(&self, server: &ServerId, verb: Verb) -> Result<(), ErrorDto>;

    /// All metrics in the Prometheus text format.
    fn metrics(&self) -> String;
}

/// One conversation.
pub trait Talk: Send {
    /// Says `text` and waits for the answer; what happens meanwhile goes into `sink`. Dropping the future cancels.
    fn say(&mut self, text: String, sink: mpsc::Sender<AskEvent>) -> BoxFuture<'_, Result<AnswerDto, ErrorDto>>;
}

/// A subscription to events.
pub trait Events: Send {
    /// The next event; `None` when there will be none. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Option<EventDto>>;
}

/// What an operator can order a server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// End it and start it again.
    Restart,
    /// End it until somebody starts it.
    Stop,
    /// Start it, now, whatever its backoff says.
    Start,
}

impl Verb {
    /// The word in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// The verb of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Restart, Self::Stop, Self::Start].into_iter().find(|verb| verb.as_str() == word)
    }
}
