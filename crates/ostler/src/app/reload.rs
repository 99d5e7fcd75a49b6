//! The configuration in use, and how the next one takes its place while everything runs.
//!
//! A configuration that is wrong changes nothing and is remembered as refused. When to look is [`super::watch`]'s.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arc_swap::{ArcSwap, ArcSwapOption};
use ostler_runtime::FleetError;
use ostler_telemetry::record;

use super::{App, specs};
use crate::clock;
use crate::config::{self, Config};
use crate::http::dto::ReloadDto;

/// How many problems of a refused configuration are logged.
const LOGGED: usize = 10;

/// The parts that only a new start of the daemon takes up, as changes are told: listeners, folders and the model.
const FIXED: [&str; 2] = ["daemon.", "model."];

/// The configuration in use.
pub(super) struct Live {
    /// What the daemon was started with.
    started: Arc<Config>,
    current: ArcSwap<Config>,
    /// What is wrong with a newer one.
    refused: ArcSwapOption<String>,
}

impl Live {
    pub(super) fn new(config: Config) -> Arc<Self> {
        taken();
        let started = Arc::new(config);
        Arc::new(Self { current: ArcSwap::new(Arc::clone(&started)), started, refused: ArcSwapOption::empty() })
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// What became of the newest configuration.
    pub(super) fn report(&self) -> ReloadDto {
        let current = self.config();
        let is_first = Arc::ptr_eq(&self.started, &current);
        let changes = if is_first { Vec::new() } else { config::diff(&self.started, &current) };
        ReloadDto {
            refused: self.refused.load().as_deref().cloned(),
            waiting: changes.into_iter().filter(|change| is_fixed(change)).collect(),
        }
    }
}

/// Says that a configuration was taken just now.
fn taken() {
    record::config_taken(clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
}

fn is_fixed(change: &str) -> bool {
    FIXED.iter().any(|part| change.starts_with(part))
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reloaded {
    /// It is in use; these are the changes.
    Taken(Vec<String>),
    /// It is wrong, and nothing has changed.
    Refused(String),
}

/// Tells the fleet which servers are wanted.
type Apply = Box<dyn Fn(&Config) -> Result<(), FleetError> + Send + Sync>;

/// Reads the configuration again and makes it so.
pub(super) struct Reloader {
    live: Arc<Live>,
    apply: Apply,
}

impl Reloader {
    pub(super) fn of(app: &App) -> Self {
        let (fleet, reaper, consents) = (app.fleet.clone(), app.reaper.clone(), app.consents.clone());
        let apply = move |config: &Config| fleet.reconcile(specs::specs(&config.servers, &reaper, &consents));
        Self::new(Arc::clone(&app.live), Box::new(apply))
    }

    fn new(live: Arc<Live>, apply: Apply) -> Self {
        Self { live, apply }
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Reads the source again, away from the runtime's threads, and takes it up if it is sound.
    pub(super) async fn reload(&self) -> Reloaded {
        let old = self.live.config();
        let reading = Arc::clone(&old);
        let read = match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(read) => read.map_err(|errors| errors.to_string()),
            Err(error) => Err(format!("reading the configuration failed: {error}; this is a bug in ostler")),
        };
        match read {
            Ok(new) => self.take(&old, new),
            Err(why) => self.refuse(why),
        }
    }

    fn take(&self, old: &Config, new: Config) -> Reloaded {
        let changes = config::diff(old, &new);
        let waited = self.live.report().waiting;
        for notice in new.notices.iter().filter(|notice| !old.notices.contains(notice)) {
            tracing::warn!(notice, "the configuration has something to note");
        }
        // Also without a change that is told: a variable or a file of a secret may have another value now.
        if let Err(error) = (self.apply)(&new) {
            tracing::warn!(%error, "the fleet did not hear of the new configuration");
        }
        self.live.current.store(Arc::new(new));
        self.live.refused.store(None);
        record::config_reload("ok");
        taken();
        for change in changes.iter().filter(|change| !is_fixed(change)) {
            tracing::info!(change, "the configuration changed");
        }
        for change in self.live.report().waiting.iter().filter(|change| !waited.contains(change)) {
            tracing::warn!(change, "this change waits until the daemon is started again");
        }
        tracing::info!(changes = changes.len(), "the configuration was read again");
        Reloaded::Taken(changes)
    }

    fn refuse(&self, why: String) -> Reloaded {
        record::config_reload("error");
        let problems = why.lines().count();
        for error in why.lines().take(LOGGED) {
            tracing::error!(error, problems, "the new configuration is wrong; the old one stays in use");
        }
        self.live.refused.store(Some(Arc::new(why.clone())));
        Reloaded::Refused(why)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use super::*;

    struct Scene {
        home: tempfile::TempDir,
        /// The servers that the fleet was told of, once for each time.
        told: Arc<Mutex<Vec<Vec<String>>>>,
        reloader: Reloader,
    }

    fn scene(text: &str) -> Scene {
        let home = tempfile::tempdir().expect("a folder");
        let path = write(home.path(), text);
        let live = Live::new(Config::load(Some(&path)).expect("it is sound"));
        let told: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let hears = Arc::clone(&told);
        let apply = move |config: &Config| {
            let servers = config.servers.iter().map(|server| server.id.to_string()).collect();
            hears.lock().expect("unpoisoned").push(servers);
            Ok(())
        };
        Scene { home, told, reloader: Reloader::new(live, Box::new(apply)) }
    }

    fn write(home: &Path, text: &str) -> PathBuf {
        let path = home.join("ostler.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    const ONE: &str = "[servers.a]\ncommand = \"cat\"\n";
    const TWO: &str = "[servers.a]\ncommand = \"cat\"\n[servers.b]\ncommand = \"cat\"\n";

    #[tokio::test]
    async fn a_sound_file_is_taken_and_the_fleet_is_told() {
        let scene = scene(ONE);
        write(scene.home.path(), TWO);
        let reloaded = scene.reloader.reload().await;
        assert_eq!(reloaded, Reloaded::Taken(vec!["server b: added".to_owned()]));
        assert_eq!(*scene.told.lock().expect("unpoisoned"), [["a", "b"]]);
        assert_eq!(scene.reloader.live().config().servers.len(), 2);
        assert_eq!(scene.reloader.live().report(), ReloadDto::default());
    }

    #[tokio::test]
    async fn a_broken_file_changes_nothing_until_it_is_repaired() {
        let scene = scene(ONE);
        write(scene.home.path(), "[servers.a]\ncomand = \"cat\"\n");
        let Reloaded::Refused(why) = scene.reloader.reload().await else { panic!("it is broken") };
        assert!(why.contains("comand"), "{why}");
        assert!(scene.told.lock().expect("unpoisoned").is_empty());
        assert_eq!(scene.reloader.live().config().servers.len(), 1);
        assert_eq!(scene.reloader.live().report().refused, Some(why));
        write(scene.home.path(), TWO);
        assert_eq!(scene.reloader.reload().await, Reloaded::Taken(vec!["server b: added".to_owned()]));
        assert_eq!(scene.reloader.live().report(), ReloadDto::default());
    }

    #[tokio::test]
    async fn what_only_a_new_start_takes_up_waits_and_is_told_until_it_is_taken_back() {
        let scene = scene(&format!("{ONE}[daemon]\nops = \"off\"\n"));
        write(scene.home.path(), &format!("{ONE}[daemon]\nops = \"127.0.0.1:9999\"\n"));
        scene.reloader.reload().await;
        let waiting = vec!["daemon.ops off -> 127.0.0.1:9999".to_owned()];
        assert_eq!(scene.reloader.live().report(), ReloadDto { refused: None, waiting });
        write(scene.home.path(), &format!("{ONE}[daemon]\nops = \"off\"\n"));
        scene.reloader.reload().await;
        assert_eq!(scene.reloader.live().report(), ReloadDto::default());
    }
}
