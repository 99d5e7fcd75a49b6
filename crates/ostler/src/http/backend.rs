//! The port between the listeners or the command line and the fleet: everything that they can ask of it.
//!
//! Implemented by the application, and by a fake in tests. Nothing here waits without a deadline of the caller.

use std::time::Instant;

use ostler_core::ServerId;
use ostler_core::port::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::dto::{AnswerDto, CallDto, LaunchDto, LogDto, ModelDto, ServerDto, StatusDto, ToolDto, WhyDto};
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

    /// Why a server or a tool is as it is. A name that nobody knows has an answer too.
    fn why(&self, name: &str) -> WhyDto;

    /// What a server writes to its standard error: what is kept of its newest incarnation, and all that follows if asked.
    fn logs(&self, server: &ServerId, follow: Follow) -> Box<dyn Logs>;

    /// What would be run for a server. Errors: it is not configured any more.
    fn launch(&self, server: &ServerId) -> BoxFuture<'_, Result<LaunchDto, ErrorDto>>;

    /// Records that a person approved the launch line with this digest, and starts the server. Errors: the launch line is
    /// another one by now, or the approval cannot be stored.
    fn approve(&self, server: &ServerId, digest: String) -> BoxFuture<'_, Result<(), ErrorDto>>;

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

/// A reader of a server's standard error.
pub trait Logs: Send {
    /// The next pieces, at least one; `None` when there will be none. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<LogDto>>>;
}

/// Whether a reader stays for what is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It stays, also across restarts of the server.
    Yes,
    /// It reads what is there.
    No,
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
