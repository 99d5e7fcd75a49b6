//! The running house as the listeners and the command line see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use ostler_chat::{ConversationHandle, LobbyHandle, TurnEvent};
use ostler_core::port::{BoxFuture, Caller, Dispatch, ModelInfo, ToolCall};
use ostler_core::{ServerEvent, ServerId, ServerState};
use ostler_runtime::{Entry, FleetError, FleetHandle, Subscription};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::App;
use crate::clock;
use crate::exporter::Exporter;
use crate::http::backend::{Backend, Events, Talk, Verb};
use crate::http::dto::{AnswerDto, CallDto, ModelDto, ServerDto, StatusDto, ToolDto, millis};
use crate::http::error::ErrorDto;
use crate::http::event::{AskEvent, EventDto};

/// How many events of a turn may wait for their reader.
const TURN_EVENTS: usize = 64;

/// The house, behind the port of the listeners. It does not keep the house alive.
pub struct AppBackend {
    fleet: FleetHandle,
    dispatch: Arc<dyn Dispatch>,
    lobby: Arc<ArcSwapOption<LobbyHandle>>,
    model: ModelInfo,
    facts: BackendFacts,
    started: Instant,
}

/// What a backend says of its process.
#[derive(Debug, Clone, Default)]
pub struct BackendFacts {
    /// The configuration file; `None`: the built-in one.
    pub config: Option<PathBuf>,
    /// Where the ops listener is.
    pub ops: Option<String>,
    /// Renders the metrics, if the program recorded them.
    pub exporter: Option<Exporter>,
}

impl AppBackend {
    /// The backend of `app`.
    pub fn new(app: &App, facts: BackendFacts) -> Arc<Self> {
        Arc::new(Self {
            fleet: app.fleet.clone(),
            dispatch: app.fleet.dispatch(),
            lobby: Arc::clone(&app.lobby),
            model: app.model.clone(),
            facts,
            started: clock::now(),
        })
    }
}

impl Backend for AppBackend {
    fn status(&self) -> StatusDto {
        StatusDto {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.facts.config.as_ref().map(|path| path.display().to_string()),
            ops: self.facts.ops.clone(),
            uptime_ms: millis(clock::now().saturating_duration_since(self.started)),
            model: self.model(),
        }
    }

    fn servers(&self) -> Vec<ServerDto> {
        let now = clock::now();
        self.fleet.statuses().iter().map(|status| ServerDto::new(status, now)).collect()
    }

    fn tools(&self) -> Vec<ToolDto> {
        self.dispatch.tools().iter().map(ToolDto::from).collect()
    }

    fn model(&self) -> ModelDto {
        ModelDto::from(self.model.clone())
    }

    fn call(
        &self,
        name: String,
        arguments: Box<RawValue>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'_, Result<CallDto, ErrorDto>> {
        let call = ToolCall { name, arguments, deadline, caller: Caller::Operator, observer: None };
        Box::pin(async move { CallDto::from_answer(self.dispatch.call(call).await) })
    }

    fn converse(&self) -> BoxFuture<'_, Result<Box<dyn Talk>, ErrorDto>> {
        Box::pin(async move {
            let lobby = self.lobby.load_full().ok_or_else(|| {
                ErrorDto::new("unavailable", "conversations are closed: the daemon is stopping or recovering")
            })?;
            match lobby.open().await {
                Ok(conversation) => Ok(Box::new(Conversation(conversation)) as Box<dyn Talk>),
                Err(error) => Err(ErrorDto::new(error.code(), error.to_string())),
            }
        })
    }

    fn events(&self, recent: usize) -> Box<dyn Events> {
        // Subscribed first: what happens in between is then told twice rather than not at all, and told apart by number.
        let subscription = self.fleet.events().subscribe();
        let past = self.fleet.events().recent(recent);
        Box::new(Story { past: past.into_iter(), last: None, subscription })
    }

    fn control(&self, server: &ServerId, verb: Verb) -> Result<(), ErrorDto> {
        let state = self.fleet.status(server).map(|status| status.state);
        if verb != Verb::Stop && state == Some(ServerState::Disabled) {
            let message = format!("server '{server}' is disabled in the configuration");
            return Err(ErrorDto::new("denied", message).with_hint("enable it there and start the daemon again"));
        }
        let result = match verb {
            Verb::Restart => self.fleet.restart(server),
            Verb::Stop => self.fleet.stop(server),
            Verb::Start => self.fleet.start(server),
        };
        result.map_err(|error| match error {
            FleetError::UnknownServer(_) => ErrorDto::new("unknown_server", error.to_string()),
            FleetError::Closed => ErrorDto::new("unavailable", error.to_string()),
        })
    }

    fn metrics(&self) -> String {
        self.facts.exporter.as_ref().map(Exporter::render).unwrap_or_default()
    }
}

/// Past events, then those to come, each once.
struct Story {
    past: std::vec::IntoIter<Arc<ServerEvent>>,
    last: Option<u64>,
    subscription: Subscription,
}

impl Events for Story {
    fn next(&mut self) -> BoxFuture<'_, Option<EventDto>> {
        Box::pin(async move {
            if let Some(event) = self.past.next() {
                self.last = Some(event.sequence);
                return Some(EventDto::from(&*event));
            }
            loop {
                match self.subscription.next().await {
                    Entry::Event(event) if self.last.is_some_and(|last| event.sequence <= last) => {}
                    Entry::Event(event) => return Some(EventDto::from(&*event)),
                    Entry::Gap { missed } => return Some(EventDto::gap(missed)),
                }
            }
        })
    }
}

struct Conversation(ConversationHandle);

impl Talk for Conversation {
    fn say(&mut self, text: String, sink: mpsc::Sender<AskEvent>) -> BoxFuture<'_, Result<AnswerDto, ErrorDto>> {
        Box::pin(async move {
            let (events, mut heard) = mpsc::channel(TURN_EVENTS);
            let tell = async {
                while let Some(event) = heard.recv().await {
                    if sink.send(ask_event(event)).await.is_err() {
                        break;
                    }
                }
            };
            // Both to the end: the answer comes after everything that led to it.
            let (answer, ()) = tokio::join!(self.0.say(text, events), tell);
            match answer {
                Ok(answer) => Ok(AnswerDto {
                    text: answer.text,
                    stop: answer.stop.to_owned(),
                    rounds: answer.rounds,
                    usage: answer.usage.into(),
                }),
                Err(error) => Err(ErrorDto::new(error.code(), error.to_string())),
            }
        })
    }
}

fn ask_event(event: TurnEvent) -> AskEvent {
    match event {
        TurnEvent::Asking { round } => AskEvent::Asking { round },
        TurnEvent::Text(text) => AskEvent::Text { text },
        TurnEvent::Retrying { after, why } => AskEvent::Retrying { after_ms: millis(after), why },
        TurnEvent::ToolStarted { id, name, arguments } => AskEvent::ToolStarted { id, name, arguments },
        TurnEvent::ToolEnded { id, name, server, incarnation, elapsed, outcome, content, is_error } => {
            AskEvent::ToolEnded {
                id,
                name,
                server: server.map(String::from),
                incarnation: incarnation.map(ostler_core::Incarnation::get),
                elapsed_ms: millis(elapsed),
                outcome: outcome.to_owned(),
                content,
                is_error,
            }
        }
    }
}
