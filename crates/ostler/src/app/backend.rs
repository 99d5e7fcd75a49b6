//! The running house as the listeners and the command line see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use ostler_chat::{ConversationHandle, LobbyHandle, TurnEvent};
use ostler_core::port::{BoxFuture, Caller, Dispatch, ModelInfo, ToolCall};
use ostler_core::status::{Notice, What};
use ostler_core::{ServerEvent, ServerId, ServerState, ServerStatus};
use ostler_process::Reaper;
use ostler_runtime::{Entry, FleetError, FleetHandle, Subscription};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::App;
use super::consent::{ApproveError, Consents, Standing};
use super::logs::ServerLogs;
use super::reload::Live;
use super::why::{self, Known, Scene};
use crate::clock;
use crate::config::{Origin, Server};
use crate::exporter::Exporter;
use crate::http::backend::{Backend, Events, Follow, Logs, Talk, Verb};
use crate::http::dto::{
    AnswerDto, Approval, CallDto, LaunchDto, ModelDto, ServerDto, StatusDto, ToolDto, WhyDto, millis,
};
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
    reaper: Reaper,
    consents: Consents,
    live: Arc<Live>,
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
            reaper: app.reaper.clone(),
            consents: app.consents.clone(),
            live: Arc::clone(&app.live),
            facts,
            started: clock::now(),
        })
    }

    /// The server as it is configured now.
    fn configured(&self, server: &ServerId) -> Result<Server, ErrorDto> {
        let config = self.live.config();
        config.servers.iter().find(|known| known.id == *server).cloned().ok_or_else(|| {
            ErrorDto::new("unknown_server", format!("server '{server}' is not in the configuration any more"))
        })
    }

    /// What was last said about tools of each server that were left out.
    fn complaint(&self, events: &[Arc<ServerEvent>], server: &ServerId) -> Option<String> {
        // Nothing is left out now, whatever was before.
        self.fleet.status(server).filter(|status| status.refused_tools > 0)?;
        events.iter().rev().filter(|event| event.server == *server).find_map(|event| match &event.what {
            What::Notice(Notice::Catalogue(text)) => Some(text.clone()),
            What::Notice(_) | What::State { .. } | What::Published { .. } | What::Log { .. } => None,
        })
    }
}

/// How many events are looked through for what is worth an answer.
const PAST: usize = 4096;

/// Does what may read folders or wait for a disk, away from the runtime's threads.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorDto> {
    let failed = |error| ErrorDto::new("internal", format!("looking at the launch line failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// The launch line of a server and whether it may be run. Blocks: it looks for the program.
pub(crate) fn launch_of(server: &Server, consents: &Consents) -> LaunchDto {
    LaunchDto {
        server: server.id.to_string(),
        line: server.launch_line(),
        digest: server.launch_digest(),
        origin: match &server.origin {
            Origin::Own => "your own configuration".to_owned(),
            Origin::Explicit => "the configuration that you named".to_owned(),
            Origin::Imported(path) | Origin::Project(path) => path.display().to_string(),
        },
        approval: match consents.standing(server) {
            Standing::NotNeeded => Approval::NotNeeded,
            Standing::Missing => Approval::Missing,
            Standing::Changed => Approval::Changed,
            Standing::Given => Approval::Given,
        },
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
            reload: self.live.report(),
        }
    }

    fn servers(&self) -> Vec<ServerDto> {
        let now = clock::now();
        let config = self.live.config();
        let group = |id: &ServerId| config.servers.iter().find(|known| known.id == *id)?.group.clone();
        let statuses = self.fleet.statuses();
        let dto = |status: &ServerStatus| ServerDto { group: group(&status.server), ..ServerDto::new(status, now) };
        statuses.iter().map(dto).collect()
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
            return Err(
                ErrorDto::new("denied", message).with_hint("enable it there; the daemon takes that up by itself")
            );
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

    fn why(&self, name: &str) -> WhyDto {
        let config = self.live.config();
        let events = self.fleet.events().recent(PAST);
        let known = |status: ServerStatus| {
            let server = config.servers.iter().find(|server| server.id == status.server);
            Known {
                configured_name: server.map_or(status.server.to_string(), |server| server.configured_name.clone()),
                group: server.and_then(|server| server.group.clone()),
                imported_from: server.and_then(|server| match &server.origin {
                    Origin::Own | Origin::Explicit => None,
                    Origin::Imported(path) | Origin::Project(path) => Some(path.display().to_string()),
                }),
                complaint: self.complaint(&events, &status.server),
                status,
            }
        };
        let tools = self.dispatch.tools();
        let scene = Scene {
            now: clock::now(),
            servers: self.fleet.statuses().into_iter().map(known).collect(),
            tools: &tools,
            config: config.source.to_string(),
        };
        why::why(name, &scene)
    }

    fn logs(&self, server: &ServerId, follow: Follow) -> Box<dyn Logs> {
        Box::new(ServerLogs::new(server, follow, &self.reaper))
    }

    fn launch(&self, server: &ServerId) -> BoxFuture<'_, Result<LaunchDto, ErrorDto>> {
        let server = self.configured(server);
        Box::pin(async move {
            let (server, consents) = (server?, self.consents.clone());
            aside(move || launch_of(&server, &consents)).await
        })
    }

    fn approve(&self, server: &ServerId, digest: String) -> BoxFuture<'_, Result<(), ErrorDto>> {
        let configured = self.configured(server);
        let server = server.clone();
        Box::pin(async move {
            let (configured, consents) = (configured?, self.consents.clone());
            aside(move || consents.approve(&configured, &digest)).await??;
            let Some(status) = self.fleet.status(&server) else { return Ok(()) };
            // One that somebody has stopped stays so; one that waits for this is tried at once.
            let waits =
                matches!(status.state, ServerState::NeedsAction | ServerState::Backoff | ServerState::Quarantined);
            if waits { self.control(&server, Verb::Start) } else { Ok(()) }
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

impl From<ApproveError> for ErrorDto {
    fn from(error: ApproveError) -> Self {
        match error {
            ApproveError::Changed(_) => {
                Self::new("launch_changed", error.to_string()).with_hint("look at it again, then approve it")
            }
            ApproveError::NoStore | ApproveError::Store(_) => Self::new("store", error.to_string())
                .with_hint("look after the folder that daemon.state names, and start the daemon again"),
        }
    }
}
