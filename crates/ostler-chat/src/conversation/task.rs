//! The work that a conversation's tasks do: ask the model once, make one tool call, tell the watcher.
//!
//! It decides nothing about the turn. Everything here may be dropped at any moment.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_core::dialogue::ToolUse;
use ostler_core::port::{
    Caller, Dispatch, Model, ModelError, ModelReply, ModelRequest, ModelStream, ToolAnswer, ToolCall,
};
use ostler_core::{CallError, ConversationId};
use ostler_telemetry::record;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{timeout, timeout_at};

use super::TurnEvent;
use super::acquaintance::Acquaintances;
use crate::clock;
use crate::reading::{self, Reading};

/// How long an event waits for a watcher who does not read.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How much text is held back for a watcher who is behind. What is above it is not shown; the answer has it all.
const MAX_HELD: usize = 1 << 20;

/// How many events are held back, joined text being one.
const MAX_HELD_EVENTS: usize = 64;

/// How many characters of the arguments a watcher gets.
const SHOWN_ARGUMENTS: usize = 200;

/// What a dispatcher may take beyond a call's deadline until it counts as stuck.
const SLACK: Duration = Duration::from_secs(1);

/// Asks the model once. It ends by the request's deadline.
pub(super) async fn ask(
    model: &dyn Model,
    request: ModelRequest,
    round: u32,
    events: Events,
) -> Result<ModelReply, ModelError> {
    events.send(TurnEvent::Asking { round }).await;
    let info = model.info();
    let started = clock::now();
    let relay = Relay { events, held: Mutex::default() };
    let answer = timeout_at(request.deadline.into(), model.complete(request, &relay)).await;
    let result = answer.unwrap_or(Err(ModelError::TimedOut));
    relay.flush().await;
    let failure = result.as_ref().err().map(ModelError::code);
    record::llm_operation(info.provider, &info.model, failure, clock::now().duration_since(started));
    match &result {
        Ok(reply) => record::llm_tokens(info.provider, &info.model, &reply.usage),
        Err(error) => tracing::warn!(error = error.code(), "model call failed"),
    }
    result
}

/// Makes one tool call. It ends within `limit`, give or take the watcher's pace.
pub(super) async fn call(
    dispatch: &dyn Dispatch,
    conversation: ConversationId,
    known: &Acquaintances,
    wish: ToolUse,
    limit: Duration,
    events: Events,
) -> Reading {
    let ToolUse { id, name, input } = wish;
    let arguments = shown(input.get());
    events.send(TurnEvent::ToolStarted { id: id.clone(), name: name.clone(), arguments }).await;
    let started = clock::now();
    let deadline = started + limit;
    let call = ToolCall {
        name: name.clone(),
        arguments: input,
        deadline: Some(deadline),
        caller: Caller::Conversation(conversation),
        observer: None,
    };
    let answer = match timeout_at((deadline + SLACK).into(), dispatch.call(call)).await {
        Ok(answer) => answer,
        Err(_) => ToolAnswer {
            server: None,
            incarnation: None,
            stateful: false,
            elapsed: clock::now().duration_since(started),
            result: Err(CallError::TimedOut { after: limit }),
        },
    };
    let mut reading = reading::read(&answer.result);
    if let Some(told) = known.meet(&answer) {
        reading.content = format!("{told}\n{}", reading.content);
    }
    let ToolAnswer { server, incarnation, elapsed, .. } = answer;
    let Reading { content, is_error, outcome } = reading.clone();
    events.send(TurnEvent::ToolEnded { id, name, server, incarnation, elapsed, outcome, content, is_error }).await;
    reading
}

fn shown(arguments: &str) -> String {
    match arguments.char_indices().nth(SHOWN_ARGUMENTS) {
        Some((end, _)) => arguments[..end].to_owned(),
        None => arguments.to_owned(),
    }
}

/// What a panic said.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

/// The watcher of one turn. Events wait for room; one who does not read in [`PATIENCE`] is not waited for again.
#[derive(Clone)]
pub(super) struct Events {
    watcher: mpsc::Sender<TurnEvent>,
    gone: Arc<AtomicBool>,
}

impl Events {
    pub(super) fn new(watcher: mpsc::Sender<TurnEvent>) -> Self {
        Self { watcher, gone: Arc::default() }
    }

    async fn send(&self, event: TurnEvent) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        match timeout(PATIENCE, self.watcher.send(event)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.gone.store(true, Ordering::Relaxed),
            Err(_) => {
                self.gone.store(true, Ordering::Relaxed);
                tracing::warn!("watcher of a turn does not read, its events are dropped");
            }
        }
    }
}

/// Passes on what the model says while it speaks. What finds no room is held back, in order, and joined.
struct Relay {
    events: Events,
    held: Mutex<VecDeque<TurnEvent>>,
}

impl Relay {
    fn pass(&self, event: TurnEvent) {
        if self.events.gone.load(Ordering::Relaxed) {
            return;
        }
        let mut held = self.held();
        hold(&mut held, event);
        while let Some(first) = held.pop_front() {
            match self.events.watcher.try_send(first) {
                Ok(()) => {}
                Err(TrySendError::Full(first)) => {
                    held.push_front(first);
                    return;
                }
                Err(TrySendError::Closed(_)) => self.events.gone.store(true, Ordering::Relaxed),
            }
        }
    }

    async fn flush(&self) {
        let held = std::mem::take(&mut *self.held());
        for event in held {
            self.events.send(event).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<TurnEvent>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hold(held: &mut VecDeque<TurnEvent>, event: TurnEvent) {
    let room = held.len() < MAX_HELD_EVENTS;
    match (held.back_mut(), event) {
        (Some(TurnEvent::Text(text)), TurnEvent::Text(more)) => {
            if text.len() + more.len() <= MAX_HELD {
                text.push_str(&more);
            }
        }
        (_, event) if room => held.push_back(event),
        (_, _) => {}
    }
}

impl ModelStream for Relay {
    fn text(&self, delta: &str) {
        self.pass(TurnEvent::Text(delta.to_owned()));
    }

    fn retrying(&self, after: Duration, why: &str) {
        self.pass(TurnEvent::Retrying { after, why: why.to_owned() });
    }
}
