//! One conversation as an actor: it owns the history and runs what the turn decides.
//!
//! The actor itself never waits. Each model call and each tool call is a task that it owns and that reports by message
//! with the number of its turn; what reports late falls out. The work inside those tasks is in `conversation::task`.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use ostler_core::dialogue::{StopReason, ToolUse, Usage};
use ostler_core::port::{Dispatch, Model, ModelError, ModelReply, ModelRequest};
use ostler_core::{ConversationId, Incarnation, ServerId, TurnId};
use ostler_telemetry::{record, span};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use crate::clock;
use crate::error::TurnError;
use crate::history::History;
use crate::turn::{Answer, CallKey, Effect, Input, Turn};

mod acquaintance;
mod task;

use acquaintance::Acquaintances;
use task::Events;

/// The bounds of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnLimits {
    /// How often the model is asked. Default 8.
    pub max_rounds: u32,
    /// How long one model call may take, retries included. Default 600 s.
    pub model_timeout: Duration,
    /// How long one tool call may take. Default 60 s.
    pub call_timeout: Duration,
    /// Instructions to the model before the dialogue.
    pub system: Option<Arc<str>>,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            max_rounds: 8,
            model_timeout: Duration::from_secs(600),
            call_timeout: Duration::from_secs(60),
            system: None,
        }
    }
}

impl TurnLimits {
    /// Longer than a turn can take within its bounds.
    pub(crate) fn patience(&self) -> Duration {
        let round = self.model_timeout.saturating_add(self.call_timeout).saturating_add(4 * task::PATIENCE);
        round.saturating_mul(self.max_rounds.max(1)).min(Duration::from_secs(7 * 24 * 3600))
    }
}

/// What happens during a turn, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnEvent {
    /// The model is asked.
    Asking {
        /// For the how-manieth time in this turn, from 1.
        round: u32,
    },
    /// More of the model's text.
    Text(String),
    /// The model is asked again after a pause. Text of this round that was shown so far will come again.
    Retrying {
        /// The pause.
        after: Duration,
        /// What went wrong.
        why: String,
    },
    /// A tool call starts.
    ToolStarted {
        /// The model's id of it.
        id: String,
        /// The tool, as the model wrote it.
        name: String,
        /// Its arguments, cut to 200 characters.
        arguments: String,
    },
    /// A tool call ended.
    ToolEnded {
        /// The model's id of it.
        id: String,
        /// The tool, as the model wrote it.
        name: String,
        /// The server that owns the tool, if one does.
        server: Option<ServerId>,
        /// The incarnation that was asked, if one was.
        incarnation: Option<Incarnation>,
        /// How long it took.
        elapsed: Duration,
        /// The metric outcome.
        outcome: &'static str,
        /// What the model reads.
        content: String,
        /// Whether the call or the tool failed.
        is_error: bool,
    },
}

pub(crate) struct ConversationActor;

pub(crate) enum ConversationMsg {
    Say { turn: TurnId, text: String, events: mpsc::Sender<TurnEvent>, reply: Reply },
    Model { turn: TurnId, round: u32, result: Result<ModelReply, ModelError> },
    Tool { turn: TurnId, call: CallKey, content: String, is_error: bool },
    Cancel { turn: TurnId },
    CancelAny,
    Panicked { turn: TurnId, what: String },
}

type Reply = oneshot::Sender<Result<Answer, TurnError>>;

pub(crate) struct ConversationArgs {
    pub(crate) id: ConversationId,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) limits: TurnLimits,
}

pub(crate) struct ConversationState {
    args: ConversationArgs,
    myself: ActorRef<ConversationMsg>,
    history: History,
    /// Shared with the tasks that call tools.
    known: Arc<Acquaintances>,
    running: Option<Running>,
}

/// The turn that runs. Dropping it aborts its tasks and, if it has not answered, tells the waiter that it is lost.
struct Running {
    id: TurnId,
    turn: Turn,
    events: Events,
    reply: Reply,
    tasks: JoinSet<()>,
    started: Instant,
    span: Span,
}

/// A task of a turn panicked: a defect, so the conversation ends.
#[derive(Debug)]
struct TaskPanicked(String);

impl fmt::Display for TaskPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a task of the turn panicked: {}", self.0)
    }
}

impl std::error::Error for TaskPanicked {}

impl Actor for ConversationActor {
    type Msg = ConversationMsg;
    type State = ConversationState;
    type Arguments = ConversationArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ConversationMsg>,
        args: ConversationArgs,
    ) -> Result<ConversationState, ActorProcessingErr> {
        Ok(ConversationState { args, myself, history: History::default(), known: Arc::default(), running: None })
    }

    async fn handle(
        &self,
        _: ActorRef<ConversationMsg>,
        message: ConversationMsg,
        state: &mut ConversationState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConversationMsg::Say { turn, text, events, reply } => state.say(turn, text, events, reply),
            ConversationMsg::Model { turn, round, result } => state.on(turn, Input::Model { round, result }),
            ConversationMsg::Tool { turn, call, content, is_error } => {
                state.on(turn, Input::Tool { call, content, is_error });
            }
            ConversationMsg::Cancel { turn } => state.on(turn, Input::Cancel),
            ConversationMsg::CancelAny => state.cancel_any(),
            ConversationMsg::Panicked { turn, what } => state.panicked(turn, what)?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ConversationMsg>,
        _: SupervisionEvent,
        _: &mut ConversationState,
    ) -> Result<(), ActorProcessingErr> {
        // A conversation has no children.
        Ok(())
    }
}

impl ConversationState {
    fn say(&mut self, id: TurnId, text: String, events: mpsc::Sender<TurnEvent>, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        if self.running.is_some() {
            // A waiter who has left does not mind.
            let _ = reply.send(Err(TurnError::Busy));
            return;
        }
        self.running = Some(Running {
            id,
            turn: Turn::new(self.args.limits.max_rounds),
            events: Events::new(events),
            reply,
            tasks: JoinSet::new(),
            started: clock::now(),
            span: span::turn(self.args.id, id),
        });
        self.on(id, Input::Say(text));
    }

    /// Hands `input` to the turn and runs what it decides. What belongs to another turn is stale and falls out.
    fn on(&mut self, turn: TurnId, input: Input) {
        let Some(running) = self.running.as_mut().filter(|running| running.id == turn) else { return };
        for effect in running.turn.on(input) {
            self.run(effect);
        }
    }

    fn cancel_any(&mut self) {
        if let Some(turn) = self.running.as_ref().map(|running| running.id) {
            self.on(turn, Input::Cancel);
        }
    }

    fn panicked(&mut self, turn: TurnId, what: String) -> Result<(), TaskPanicked> {
        match &self.running {
            Some(running) if running.id == turn => Err(TaskPanicked(what)),
            Some(_) | None => Ok(()),
        }
    }

    fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Append(message) => self.history.push(message),
            Effect::AskModel { round } => self.ask_model(round),
            Effect::CallTools(calls) => calls.into_iter().for_each(|(key, wish)| self.call_tool(key, wish)),
            Effect::Finish(result) => self.finish(result),
        }
    }

    fn ask_model(&mut self, round: u32) {
        if self.history.is_full() {
            let reply = ModelReply { blocks: Vec::new(), stop: StopReason::ContextFull, usage: Usage::default() };
            self.spawn(|turn, _| async move { ConversationMsg::Model { turn, round, result: Ok(reply) } });
            return;
        }
        let request = ModelRequest {
            system: self.args.limits.system.clone(),
            messages: self.history.messages().to_vec(),
            tools: self.args.dispatch.tools(),
            deadline: clock::now() + self.args.limits.model_timeout,
        };
        let model = Arc::clone(&self.args.model);
        self.spawn(|turn, events| async move {
            let result = task::ask(&*model, request, round, events).await;
            ConversationMsg::Model { turn, round, result }
        });
    }

    fn call_tool(&mut self, call: CallKey, wish: ToolUse) {
        let dispatch = Arc::clone(&self.args.dispatch);
        let conversation = self.args.id;
        let known = Arc::clone(&self.known);
        let limit = self.args.limits.call_timeout;
        self.spawn(move |turn, events| async move {
            let reading = task::call(&*dispatch, conversation, &known, wish, limit, events).await;
            ConversationMsg::Tool { turn, call, content: reading.content, is_error: reading.is_error }
        });
    }

    /// Starts a task of the running turn; its last word is a message to this actor, also if it panics.
    fn spawn<F>(&mut self, work: impl FnOnce(TurnId, Events) -> F)
    where
        F: Future<Output = ConversationMsg> + Send + 'static,
    {
        let Some(running) = &mut self.running else { return };
        let turn = running.id;
        let work = AssertUnwindSafe(work(turn, running.events.clone())).catch_unwind();
        let myself = self.myself.clone();
        let report = async move {
            let message =
                work.await.unwrap_or_else(|panic| ConversationMsg::Panicked { turn, what: task::text_of(&*panic) });
            // A conversation that has ended needs no report.
            let _ = myself.cast(message);
        };
        running.tasks.spawn(report.instrument(running.span.clone()));
    }

    fn finish(&mut self, result: Result<Answer, TurnError>) {
        let Some(running) = self.running.take() else { return };
        let rounds = running.turn.rounds();
        let stop = result.as_ref().map_or_else(TurnError::code, |answer| answer.stop);
        let elapsed_ms = u64::try_from(clock::now().duration_since(running.started).as_millis()).unwrap_or(u64::MAX);
        record::turn(stop, rounds);
        running.span.in_scope(|| tracing::info!(outcome = stop, rounds, elapsed_ms, "turn ended"));
        // A waiter who has left does not mind.
        let _ = running.reply.send(result);
    }
}

#[cfg(test)]
mod tests;
