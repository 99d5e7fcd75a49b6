//! One way to a fleet, wherever it runs: a daemon behind its socket, or a fleet that lives as long as the command.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::{House, Started};
use super::remote::Remote;
use crate::http::asking;
use crate::http::dto::{AskRequest, CallDto, CallRequest, ServerDto, ToolDto, WhyDto, millis};
use crate::http::event::AskEvent;
use crate::http::settle::settled;
use crate::render::text::span;
use crate::socket::JoinError;

use super::args::Global;

/// How many events wait for a slow terminal.
const BUFFER: usize = 64;

/// How long a command waits for servers without saying so.
const SILENT_WAIT: Duration = Duration::from_secs(2);

/// The way to a fleet.
pub(crate) enum Client {
    /// A daemon's.
    Daemon(Remote),
    /// Our own.
    Local(Started),
}

/// The socket that the arguments, the configuration or the custom name, in this order.
pub(crate) fn socket_path(global: &Global, house: &dyn House) -> PathBuf {
    global
        .socket
        .clone()
        .or_else(|| house.socket(global.config.as_deref()))
        .unwrap_or_else(crate::config::default_socket)
}

impl Client {
    /// Joins the daemon, or starts a fleet and says so.
    pub(crate) async fn open(global: &Global, house: &dyn House, console: &mut Console) -> Result<Self, Failure> {
        if !global.standalone {
            let remote = Remote::new(socket_path(global, house));
            let Err(why) = Self::joinable(&remote, global).await? else { return Ok(Self::Daemon(remote)) };
            let started = house.start(global.config.clone()).await?;
            console.note(&format!("{why}; started a fleet for this command"));
            return Ok(Self::Local(started));
        }
        Ok(Self::Local(house.start(global.config.clone()).await?))
    }

    /// Whether the daemon is there and is the one that is meant; if not, why.
    pub(crate) async fn joinable(remote: &Remote, global: &Global) -> Result<Result<(), String>, Failure> {
        match remote.knock().await {
            Ok(()) => {}
            Err(missing @ JoinError::NoDaemon(_)) => return Ok(Err(missing.to_string())),
            Err(other) => return Err(other.into()),
        }
        let Some(config) = &global.config else { return Ok(Ok(())) };
        // Somebody who names a configuration means that one, whatever the daemon runs.
        let real = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path);
        let running = remote.status().await?.config.map(PathBuf::from).map(real);
        let named = real(config.clone());
        if running.as_ref() == Some(&named) {
            return Ok(Ok(()));
        }
        let running = running.map_or("the built-in configuration".to_owned(), |path| path.display().to_string());
        Ok(Err(format!("the daemon on {} runs {running}, not {}", remote.path().display(), named.display())))
    }

    /// Waits until the fleet of this command has settled, or one server of it. A daemon is taken as it is.
    ///
    /// Says whom it waits for if that takes long.
    pub(crate) async fn settle(&self, only: Option<&str>, console: &mut Console) {
        let Self::Local(started) = self else { return };
        let now = crate::clock::now();
        let deadline = now + started.patience;
        let missing = settled(&*started.backend, only, deadline.min(now + SILENT_WAIT)).await;
        if missing.is_empty() || crate::clock::now() >= deadline {
            return;
        }
        let left = span(millis(started.patience.saturating_sub(SILENT_WAIT)));
        console.note(&format!("waiting for {}, at most {left}", missing.join(", ")));
        settled(&*started.backend, only, deadline).await;
    }

    /// Why a server or a tool is as it is.
    pub(crate) async fn why(&self, name: &str) -> Result<WhyDto, Failure> {
        match self {
            Self::Daemon(remote) => remote.why(name).await,
            Self::Local(started) => Ok(started.backend.why(name)),
        }
    }

    pub(crate) async fn servers(&self) -> Result<Vec<ServerDto>, Failure> {
        match self {
            Self::Daemon(remote) => remote.servers().await,
            Self::Local(started) => Ok(started.backend.servers()),
        }
    }

    pub(crate) async fn tools(&self) -> Result<Vec<ToolDto>, Failure> {
        match self {
            Self::Daemon(remote) => remote.tools().await,
            Self::Local(started) => Ok(started.backend.tools()),
        }
    }

    pub(crate) async fn call(&self, request: CallRequest) -> Result<CallDto, Failure> {
        match self {
            Self::Daemon(remote) => remote.call(&request).await,
            Self::Local(started) => {
                let deadline = request.timeout_ms.map(|ms| crate::clock::now() + Duration::from_millis(ms));
                Ok(started.backend.call(request.name, request.arguments, deadline).await?)
            }
        }
    }

    /// Asks. Dropping what is returned cancels.
    pub(crate) async fn ask(&self, mut request: AskRequest) -> Result<Asking, Failure> {
        let (sink, events) = mpsc::channel(BUFFER);
        let mut task = JoinSet::new();
        match self {
            Self::Daemon(remote) => {
                let mut lines = remote.ask(&request).await?;
                task.spawn(async move {
                    while let Some(event) = lines.next().await? {
                        if sink.send(event).await.is_err() {
                            break;
                        }
                    }
                    Ok(())
                });
            }
            Self::Local(started) => {
                // Its servers come up because of the question, so they are part of the story.
                request.replay = true;
                let backend = Arc::clone(&started.backend);
                task.spawn(async move {
                    asking::ask(backend, request, sink).await;
                    Ok(())
                });
            }
        }
        Ok(Asking { events, task })
    }

    /// Ends the fleet of this command, and says so to somebody who does not want to wait; leaves a daemon alone.
    pub(crate) async fn close<T>(self, done: &Result<T, Failure>, console: &mut Console) {
        let Self::Local(started) = self else { return };
        if done.as_ref().is_err_and(|failure| failure.exit == Exit::Interrupted) {
            console.note("ending the servers …");
        }
        (started.stop)().await;
    }
}

/// A question that is being answered.
pub(crate) struct Asking {
    pub(crate) events: mpsc::Receiver<AskEvent>,
    task: JoinSet<Result<(), Failure>>,
}

impl Asking {
    /// Why the events broke off before the last one.
    pub(crate) async fn broken(mut self) -> Failure {
        match self.task.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) | None => Failure::daemon("the daemon ended before the answer"),
            Some(Err(error)) => Failure::daemon(format!("the question broke off: {error}")),
        }
    }
}
