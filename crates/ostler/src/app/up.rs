//! The daemon: the house with its listeners, until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::port::Journal;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::reload::Reloader;
use super::{App, AppBackend, AppOptions, BackendFacts, StartError, consent, notify, watch as watching};
use crate::config::{Config, Source};
use crate::exporter::Exporter;
use crate::http::guard::Guard;
use crate::http::router::{Surface, router};
use crate::http::serve::serve;
use crate::socket::{BindError, Bound};

/// What requests in flight may take once the daemon stops.
const LISTENER_GRACE: Duration = Duration::from_millis(500);

/// Where a daemon listens.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The Unix socket, by which the command line joins.
    pub socket: PathBuf,
    /// Metrics and health.
    pub ops: Option<SocketAddr>,
}

/// Why a daemon did not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The ops listener cannot be had.
    #[error("the ops listener {address} cannot be opened: {source}; set daemon.ops to another address, or to \"off\"")]
    Ops {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The house did not stand.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The metrics recorder cannot be installed.
    #[error("the metrics cannot be recorded: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Signals cannot be heard.
    #[error("signals cannot be heard: {0}")]
    Signal(std::io::Error),
    /// Too many failures of our own.
    #[error("the daemon gave up after too many failures of its own; the log has them, please report it")]
    Fell,
    /// Somebody did not want to wait.
    #[error("interrupted again while the servers were ending; they were killed")]
    Interrupted,
    /// Servers were left.
    #[error("not every server ended within its grace; the reaper has killed what was left")]
    LeftBehind,
}

/// Runs the daemon until SIGINT or SIGTERM; a second SIGINT ends it without grace. `listening` hears where it listens.
///
/// Reads its configuration again at SIGHUP and when its files change. Opens the store that the configuration names, unless
/// the options bring one; without it the daemon runs all the same.
///
/// Installs the global metrics recorder: one daemon a process.
pub async fn up(config: Config, mut options: AppOptions, listening: impl FnOnce(&Listening)) -> Result<(), UpError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(UpError::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(UpError::Signal)?;
    let hangup = signal(SignalKind::hangup()).map_err(UpError::Signal)?;
    // The socket first: its lock keeps a second daemon from touching anything.
    let socket = Bound::bind(options.socket.as_ref().unwrap_or(&config.daemon.socket))?;
    // Until the last server has ended, whatever becomes of the socket.
    let _claim = socket.claim();
    let ops = match config.daemon.ops {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|source| UpError::Ops { address, source })?),
        None => None,
    };
    let ops_address = ops.as_ref().and_then(|listener| listener.local_addr().ok());
    let exporter = Exporter::install()?;
    if options.store.is_none() {
        options.store = store(&config).await;
    }
    let mut app = App::start(&config, options).await?;
    let facts = BackendFacts {
        config: match &config.source {
            Source::File(path) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Source::BuiltIn => None,
        },
        ops: ops_address.map(|address| address.to_string()),
        exporter: Some(exporter),
    };
    let backend = AppBackend::new(&app, facts);
    // Ended with this function, whatever its end is.
    let mut attendants = tokio::task::JoinSet::new();
    attendants.spawn(notify::run(Arc::clone(&app.live), app.fleet.events()));
    attendants.spawn(watching::run(Reloader::of(&app), hangup));
    let (stop, stopping) = watch::channel(false);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    listening(&Listening { socket: socket.path().to_owned(), ops: ops_address });
    let mut listeners = tokio::task::JoinSet::new();
    let socket_router = router(Surface::Socket, backend.clone(), Guard::socket());
    listeners.spawn(serve(socket, socket_router, Surface::Socket.longest(), stopped(stopping.clone()), LISTENER_GRACE));
    if let (Some(listener), Some(address)) = (ops, ops_address) {
        let ops_router = router(Surface::Ops, backend, Guard::tcp(address));
        listeners.spawn(serve(listener, ops_router, Surface::Ops.longest(), stopped(stopping), LISTENER_GRACE));
    }
    let fell = tokio::select! {
        biased;
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = app.fell() => true,
    };
    tracing::info!(fell, "the daemon stops");
    stop.send_replace(true);
    attendants.abort_all();
    if fell {
        return Err(UpError::Fell);
    }
    let ended = tokio::select! {
        biased;
        ended = app.shutdown() => if ended { Ok(()) } else { Err(UpError::LeftBehind) },
        // Dropping the house kills every server at once. A repeated SIGTERM is a supervisor's habit and no impatience.
        _ = interrupt.recv() => Err(UpError::Interrupted),
    };
    while listeners.join_next().await.is_some() {}
    ended
}

/// What survives us. `None`: it cannot be had, which is no reason not to keep servers alive.
async fn store(config: &Config) -> Option<Arc<dyn Journal>> {
    let folder = config.daemon.state.clone();
    let opened = tokio::task::spawn_blocking(move || consent::store(&folder)).await;
    match opened.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(store) => Some(store),
        Err(error) => {
            tracing::warn!(error, "nothing is remembered: launch lines cannot be approved in this run");
            None
        }
    }
}
