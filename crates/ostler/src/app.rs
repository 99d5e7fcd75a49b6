//! The running house: wires configuration, processes, the wire, the actors and the model together, and ends it all again.
//!
//! The one place where the rooms meet. It installs nothing global: no recorder, no subscriber, no signal handler.

#[cfg(feature = "http")]
mod backend;
mod consent;
#[cfg(feature = "http")]
mod logs;
#[cfg(feature = "http")]
mod notify;
#[cfg(feature = "http")]
mod reload;
mod specs;
#[cfg(feature = "http")]
mod up;
#[cfg(feature = "http")]
mod watch;
#[cfg(feature = "http")]
mod why;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ostler_chat::provider::anthropic::{Anthropic, AnthropicConfig, AuthStyle};
use ostler_chat::provider::rehearsal::{Reason, Rehearsal, Script};
use ostler_chat::{LobbyHandle, TurnLimits};
use ostler_core::port::{Journal, Ledger, Model, ModelInfo, Store};
use ostler_process::{Reaper, ReaperOptions};
use ostler_runtime::{FleetHandle, House, HouseOptions};
use ractor::{Actor, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::clock;
use crate::config::{self, Config, ModelChoice};
use crate::root::{RootActor, RootArgs, RootMsg};

#[cfg(feature = "cli")]
pub(crate) use backend::launch_of;
#[cfg(feature = "http")]
pub use backend::{AppBackend, BackendFacts};
#[cfg(feature = "cli")]
pub(crate) use consent::{Consents, noted, store};
#[cfg(feature = "http")]
pub use up::{Listening, UpError, up};

/// How long the tree may take to stand. It starts no server within that time, only actors.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What the reaper may take to end the last processes and itself.
const REAPER_LIMIT: Duration = Duration::from_secs(2);

/// How the house is started, beside its configuration.
#[derive(Clone, Default)]
pub struct AppOptions {
    /// The program to start as the reaper. `None`: this one, if [`crate::reaper::intercept`] ran first in its `main`.
    pub reaper: Option<PathBuf>,
    /// What survives this process. `None`: nothing is remembered, and nothing that needs an approval is run.
    pub store: Option<Arc<dyn Journal>>,
    /// Where a daemon listens, if not where its configuration says.
    pub socket: Option<PathBuf>,
}

impl std::fmt::Debug for AppOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppOptions").field("reaper", &self.reaper).finish_non_exhaustive()
    }
}

/// Why the house does not stand.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The rehearsal script cannot be used.
    #[error("the rehearsal script {origin} cannot be used: {why}")]
    Script {
        /// Its file.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// The model cannot be used.
    #[error("the model cannot be used: {0}")]
    Model(String),
    /// Our own tree did not come up.
    #[error("the actors did not start: {0}; this is a bug in ostler")]
    Tree(String),
}

/// A running house. End it with [`App::shutdown`]; dropping it kills the servers.
pub struct App {
    fleet: FleetHandle,
    lobby: Arc<ArcSwapOption<LobbyHandle>>,
    model: ModelInfo,
    tree: Tree,
    reaper: Reaper,
    #[cfg(feature = "http")]
    consents: consent::Consents,
    #[cfg(feature = "http")]
    live: Arc<reload::Live>,
    stop_grace: Duration,
}

impl App {
    /// Starts everything that `config` asks for. Servers come up in the background. Needs a tokio runtime.
    pub async fn start(config: &Config, options: AppOptions) -> Result<Self, StartError> {
        let model = model(&config.model)?;
        let info = model.info();
        let ledger = options.store.clone().map(|journal| journal as Arc<dyn Ledger>);
        let store = options.store.map(|journal| journal as Arc<dyn Store>);
        let reaper = Reaper::start(ReaperOptions { program: options.reaper, ledger });
        sweep(&reaper).await;
        let slots = config.daemon.start_slots.and_then(|slots| NonZeroUsize::try_from(slots).ok());
        let house_options = HouseOptions { start_slots: slots.unwrap_or_else(start_slots), seed: fastrand::u64(..) };
        let house = house(house_options, store.clone()).await;
        let consents = consent::Consents::new(store);
        house.want(specs::specs(&config.servers, &reaper, &consents));
        let fleet = FleetHandle::new(Arc::clone(&house));
        let lobby = Arc::new(ArcSwapOption::empty());
        let (ready, stands) = oneshot::channel();
        let args = RootArgs {
            house,
            dispatch: fleet.dispatch(),
            model,
            limits: turn_limits(config),
            lobby: Arc::clone(&lobby),
            ready,
        };
        let (root, handle) =
            RootActor::spawn(None, RootActor, args).await.map_err(|error| StartError::Tree(error.to_string()))?;
        let tree = Tree { root, handle: Some(handle) };
        match timeout(START_LIMIT, stands).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(StartError::Tree("the root ended".to_owned())),
            Err(_) => return Err(StartError::Tree("no answer in ten seconds".to_owned())),
        }
        Ok(Self {
            fleet,
            lobby,
            model: info,
            tree,
            reaper,
            #[cfg(feature = "http")]
            consents,
            #[cfg(feature = "http")]
            live: reload::Live::new(config.clone()),
            stop_grace: config.daemon.stop_grace,
        })
    }

    /// The servers and their tools.
    pub fn fleet(&self) -> &FleetHandle {
        &self.fleet
    }

    /// The way to conversations. `None` for the moment in which the lobby is being started again, and in a shutdown.
    pub fn lobby(&self) -> Option<Arc<LobbyHandle>> {
        self.lobby.load_full()
    }

    /// The model in use.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// Resolves when the house falls by itself: too many failures of our own.
    pub async fn fell(&mut self) {
        self.tree.ended().await;
    }

    /// Ends conversations, then all servers in parallel, then the reaper. Nothing is left after it.
    ///
    /// Returns whether all servers ended within their grace, or were killed after it as they should.
    pub async fn shutdown(mut self) -> bool {
        // What servers and tree need is a part of the whole; the rest of it is the reaper's.
        let deadline = clock::now() + self.stop_grace;
        // A tree that has fallen hears nothing; its servers died with it, and the reaper sees to what is left.
        let _ = self.tree.root.cast(RootMsg::Close);
        let all_ended = self.fleet.shutdown(server_grace(self.stop_grace)).await;
        self.tree.root.stop(None);
        let tree_deadline = clock::now() + REAPER_LIMIT;
        let _ = timeout_at(tree_deadline.min(deadline).into(), self.tree.ended()).await;
        self.reaper.shutdown(deadline).await;
        all_ended
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("model", &self.model).finish_non_exhaustive()
    }
}

/// The actors. Dropping it ends them, and with them the servers.
struct Tree {
    root: ActorRef<RootMsg>,
    /// Taken once it has ended.
    handle: Option<JoinHandle<()>>,
}

impl Tree {
    /// Resolves when the root has ended, also when it had before. Cancel-safe.
    async fn ended(&mut self) {
        if let Some(handle) = &mut self.handle {
            // A tree that panicked has ended too.
            let _ = handle.await;
            self.handle = None;
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}

/// Ends what an earlier process of ours left, if both it and its reaper were killed.
async fn sweep(reaper: &Reaper) {
    let report = reaper.sweep().await;
    if report.killed > 0 {
        tracing::warn!(killed = report.killed, survivors = report.survivors, "leftovers of the last run were ended");
    }
}

/// The house, with what the last process remembered.
async fn house(options: HouseOptions, store: Option<Arc<dyn Store>>) -> Arc<House> {
    let Some(store) = store else { return House::new(options) };
    // It reads a disk. A read that panics has nothing to say.
    let read = tokio::task::spawn_blocking(move || House::remembering(options, store)).await;
    read.unwrap_or_else(|_| House::new(options))
}

/// What a single server may take of the grace for all: the rest is for the kill, and for us.
fn server_grace(all: Duration) -> Duration {
    all.mul_f64(0.6)
}

/// One start more than there are cores: one waits for its disk while the others work.
fn start_slots() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).saturating_add(1)
}

fn turn_limits(config: &Config) -> TurnLimits {
    // The lane of a server has its own limit; the turn's is the longest of them, so that it never cuts one short.
    let longest = config.servers.iter().map(|server| server.lane.call_timeout).max();
    TurnLimits {
        max_rounds: config.turn.max_rounds,
        model_timeout: config.turn.model_timeout,
        call_timeout: longest.unwrap_or_else(|| TurnLimits::default().call_timeout),
        system: config.turn.system.clone(),
    }
}

fn model(choice: &ModelChoice) -> Result<Arc<dyn Model>, StartError> {
    match choice {
        ModelChoice::Anthropic(anthropic) => {
            let config = AnthropicConfig {
                base_url: anthropic.base_url.clone(),
                auth: match anthropic.auth {
                    config::AuthStyle::Bearer => AuthStyle::Bearer,
                    config::AuthStyle::XApiKey => AuthStyle::ApiKey,
                },
                version: anthropic.version.clone(),
                model: anthropic.model.clone(),
                max_tokens: anthropic.max_tokens,
                ..AnthropicConfig::new(anthropic.api_key.clone())
            };
            let model = Anthropic::new(config).map_err(|error| StartError::Model(error.to_string()))?;
            Ok(Arc::new(model))
        }
        ModelChoice::Rehearsal(script) => {
            let origin = script.origin.as_ref().map(|path| path.display().to_string());
            let origin = origin.unwrap_or_else(|| "config/rehearsal.toml (built in)".to_owned());
            let failed = |why: String| StartError::Script { origin: origin.clone(), why };
            let parsed: Script = toml::from_str(&script.text).map_err(|error| failed(error.to_string()))?;
            let reason = match script.reason {
                config::Reason::NoKey => Reason::NoKey,
                config::Reason::Configured => Reason::Configured,
            };
            let model = Rehearsal::new(parsed, &origin, reason).map_err(|error| failed(error.to_string()))?;
            Ok(Arc::new(model))
        }
    }
}
