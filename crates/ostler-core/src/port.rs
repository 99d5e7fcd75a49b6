//! The ports: what one room asks of another without knowing who answers.
//!
//! Futures are boxed std futures: no executor is named here. Every request carries its deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::catalogue::{Catalogue, Kind};
use crate::dialogue::{Block, Message, StopReason, Usage};
use crate::error::CallError;
use crate::id::{ConversationId, Incarnation, ServerId};
use crate::memory::{Consent, ServerMemory, Spawned};
use crate::status::{Facts, Fault, What};
use crate::tool::OfferedTool;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// ---- To one server -------------------------------------------------------------------------------------------------

/// Makes connections to one configured server. Implemented by the wire, held by the server's actor.
pub trait Connector: Send + Sync {
    /// Starts one incarnation: spawn or connect, shake hands, list. It ends by the attempt's deadline.
    ///
    /// Dropping the future gives up: whatever was started is ended in the background. The attempt's lease is held until
    /// nothing of the incarnation is left. Errors: a fault with everything known of the failure.
    fn connect(&self, attempt: Attempt) -> BoxFuture<'_, Result<Connection, Fault>>;
}

/// One try to bring a server up.
pub struct Attempt {
    /// Which server.
    pub server: ServerId,
    /// Which life it will be.
    pub incarnation: Incarnation,
    /// When the try has failed.
    pub deadline: Instant,
    /// Where the server's own messages go.
    pub inbound: Arc<dyn Inbound>,
    /// The right to exist. See [`Lease`].
    pub lease: Lease,
}

/// The right of an incarnation to exist. Whoever holds it can still act; dropping it says that nothing is left.
///
/// At most one is out for a server at a time: the next incarnation waits for it.
pub struct Lease(#[expect(dead_code, reason = "held for its Drop alone")] Box<dyn Send + Sync>);

impl Lease {
    /// Makes a lease of a guard that tells its owner when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

/// A live incarnation.
pub struct Connection {
    /// The way to it.
    pub upstream: Arc<dyn Upstream>,
    /// What it offers.
    pub catalogue: Catalogue,
    /// What is known of it.
    pub facts: Facts,
}

/// The way to one live incarnation. Dropping the last handle ends the incarnation at once.
pub trait Upstream: Send + Sync {
    /// Sends one request and waits for its answer, at most until its deadline.
    ///
    /// Dropping the future cancels the request at the server. When the incarnation dies, every request in flight ends
    /// with [`CallError::ServerLost`] at once.
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Outcome, CallError>>;

    /// Lists one kind again and returns the whole catalogue with that part replaced.
    fn refresh(&self, kind: Kind, deadline: Instant) -> BoxFuture<'_, Result<Catalogue, CallError>>;

    /// Asks the server whether it lives, in the way of its revision.
    fn probe(&self, deadline: Instant) -> BoxFuture<'_, Result<(), CallError>>;

    /// Resolves when the incarnation is dead, with the reason. Resolves at once if it already is.
    fn closed(&self) -> BoxFuture<'_, Fault>;

    /// Asks the incarnation to end, step by step, and kills it once `grace` is over. Resolves when nothing is left.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}

/// A request to a server.
pub struct Request {
    /// The JSON-RPC method.
    pub method: &'static str,
    /// The parameters: a JSON object, passed on byte for byte (`_meta` is added inside it where a revision asks).
    pub params: Option<Box<RawValue>>,
    /// When the caller no longer waits.
    pub deadline: Instant,
    /// Who asks.
    pub caller: Caller,
    /// Who wants to hear of progress.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The house itself: listing, probing.
    House,
    /// A person at the command line.
    Operator,
    /// A conversation.
    Conversation(ConversationId),
}

/// Hears of one request's progress.
pub trait Observer: Send + Sync {
    /// The parameters of a progress notification, unread.
    fn progress(&self, params: &RawValue);
}

/// How a server answered.
#[derive(Debug)]
pub enum Outcome {
    /// The result, byte for byte.
    Raw(Box<RawValue>),
    /// The server wants something first; the result, byte for byte.
    InputRequired(Box<RawValue>),
    /// The server made a task of it; the result, byte for byte.
    Task(Box<RawValue>),
}

/// Where a server's own messages go. Never blocks: what cannot be taken now is counted and dropped.
pub trait Inbound: Send + Sync {
    /// A list changed.
    fn changed(&self, kind: Kind);
    /// The server logged something: MCP's level and the data, unread.
    fn log(&self, level: &str, data: &RawValue);
    /// The server asks something of us.
    fn request(&self, request: ServerRequest) -> BoxFuture<'static, Reply>;
    /// Bytes arrived: the server is not hung.
    fn activity(&self);
}

/// What a server asks of its client.
#[derive(Debug)]
pub struct ServerRequest {
    /// The JSON-RPC method: `sampling/createMessage`, `elicitation/create`, `roots/list`.
    pub method: String,
    /// The parameters, unread.
    pub params: Option<Box<RawValue>>,
}

/// Our answer to a server's request.
#[derive(Debug)]
pub enum Reply {
    /// A result.
    Result(Box<RawValue>),
    /// A refusal.
    Error {
        /// The JSON-RPC code.
        code: i64,
        /// Why.
        message: String,
    },
}

// ---- To the fleet --------------------------------------------------------------------------------------------------

/// The merged namespace and the way into it: what conversations and gateways see of the fleet.
pub trait Dispatch: Send + Sync {
    /// All tools, in their stable order, as one immutable list.
    fn tools(&self) -> Arc<[OfferedTool]>;

    /// Makes one call. It ends exactly once, by its deadline at the latest. Dropping the future cancels it.
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolAnswer>;
}

/// A call to a tool of the namespace.
pub struct ToolCall {
    /// The offered name, as the caller wrote it.
    pub name: String,
    /// The arguments: a JSON object, passed on byte for byte.
    pub arguments: Box<RawValue>,
    /// When the caller no longer waits. `None`: the server's own limit.
    pub deadline: Option<Instant>,
    /// Who asks.
    pub caller: Caller,
    /// Who wants to hear of progress.
    pub observer: Option<Arc<dyn Observer>>,
}

/// How a call ended.
#[derive(Debug)]
pub struct ToolAnswer {
    /// The server that owns the tool; `None` if no tool has the name.
    pub server: Option<ServerId>,
    /// The incarnation that was asked, if one was.
    pub incarnation: Option<Incarnation>,
    /// Whether a restart of that server is to be told to those who used it before.
    pub stateful: bool,
    /// From admission to the end.
    pub elapsed: Duration,
    /// What came of it.
    pub result: Result<Outcome, CallError>,
}

/// Takes events into the log. Never blocks.
pub trait EventSink: Send + Sync {
    /// Records what happened to a server.
    fn emit(&self, server: &ServerId, incarnation: Option<Incarnation>, what: What);
}

// ---- To what survives us ------------------------------------------------------------------------------------------

/// Remembers across restarts of this process. Writes return at once; the newest of each server is on disk soon after.
pub trait Store: Send + Sync {
    /// Everything remembered of servers. Read once, at boot.
    fn servers(&self) -> Vec<ServerMemory>;

    /// Remembers a server. A later memory of the same server replaces an earlier one that is not written yet.
    fn remember(&self, memory: ServerMemory);

    /// Forgets a server that is no longer configured.
    fn forget(&self, server: &ServerId);

    /// What was last approved for a server.
    fn consent(&self, server: &ServerId) -> Option<Consent>;

    /// Records an approval; it is on disk when this returns. Errors: why it is not, in words.
    fn approve(&self, consent: Consent) -> Result<(), String>;
}

/// Remembers what was spawned. Called by the process room; both return at once.
pub trait Ledger: Send + Sync {
    /// A process runs.
    fn spawned(&self, process: Spawned);

    /// Nothing of the tree with this cookie is left.
    fn gone(&self, cookie: &str);

    /// What an earlier process of ours had spawned and not seen the end of.
    fn leftovers(&self) -> Vec<Spawned>;
}

/// Both in one place, as one process keeps them.
pub trait Journal: Store + Ledger {}

impl<T: Store + Ledger> Journal for T {}

// ---- To a model ----------------------------------------------------------------------------------------------------

/// A model that can be asked.
pub trait Model: Send + Sync {
    /// What it is, for people and for metrics.
    fn info(&self) -> ModelInfo;

    /// Asks it once; retries of the provider are inside. Dropping the future gives up.
    fn complete<'a>(
        &'a self,
        request: ModelRequest,
        stream: &'a dyn ModelStream,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>>;
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The provider: `anthropic`, `rehearsal`. A metric label.
    pub provider: &'static str,
    /// The model's id, as configured. A metric label.
    pub model: String,
    /// One line that a user must read before the first answer, if there is one.
    pub notice: Option<String>,
}

/// A question to a model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// Instructions before the dialogue.
    pub system: Option<Arc<str>>,
    /// The dialogue so far. Shared: a long one is not copied for every question.
    pub messages: Vec<Arc<Message>>,
    /// The tools on offer.
    pub tools: Arc<[OfferedTool]>,
    /// When the answer is no longer wanted.
    pub deadline: Instant,
}

/// A model's answer.
#[derive(Debug, Clone)]
pub struct ModelReply {
    /// What it said, in order.
    pub blocks: Vec<Block>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it cost.
    pub usage: Usage,
}

/// Hears a model while it speaks. Never blocks.
pub trait ModelStream: Send + Sync {
    /// More text.
    fn text(&self, delta: &str);
    /// The call is tried again after a pause.
    fn retrying(&self, after: Duration, why: &str);
}

/// Why a model has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The model does not know what to do with the prompt; the text says what it knows.
    #[error("{0}")]
    UnknownPrompt(String),
    /// The configuration of the model cannot work; the text says what to change.
    #[error("{0}")]
    Config(String),
    /// The credentials were refused.
    #[error("the provider refused the credentials: {0}")]
    Auth(String),
    /// The provider refused the request.
    #[error("the provider refused the request: {0}")]
    Rejected(String),
    /// The provider is overloaded or limits our rate, also after retries.
    #[error("the provider is busy: {message}")]
    Busy {
        /// What it said.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The connection failed or the answer broke off.
    #[error("the connection to the provider failed: {0}")]
    Network(String),
    /// The answer cannot be understood.
    #[error("the provider's answer cannot be understood: {0}")]
    Protocol(String),
    /// The deadline passed.
    #[error("the model did not answer in time")]
    TimedOut,
}

impl ModelError {
    /// The stable code, for machines and for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownPrompt(_) => "unknown_prompt",
            Self::Config(_) => "model_config",
            Self::Auth(_) => "model_auth",
            Self::Rejected(_) => "model_rejected",
            Self::Busy { .. } => "model_busy",
            Self::Network(_) => "model_network",
            Self::Protocol(_) => "model_protocol",
            Self::TimedOut => "model_timeout",
        }
    }
}
