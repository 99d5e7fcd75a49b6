//! `ostler up` as a process of its own, with everything of its home in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::interval;

/// How long a fleet may take to come up.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A folder for one daemon.
pub struct Home {
    folder: TempDir,
}

/// A running daemon over servers that are all ready. Killed when dropped.
pub struct Daemon {
    home: Home,
    child: Child,
}

impl Home {
    /// An empty one.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ostler-").tempdir().context("there is no temporary folder")?;
        Ok(Self { folder })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a configuration for it begins: no listeners but its own socket, no model, and then the defaults.
    pub fn head(&self) -> String {
        format!(
            "[daemon]\nops = \"off\"\nsocket = {}\nstate = {}\n\n[model]\nprovider = \"rehearsal\"\n\n[defaults]\n",
            quoted(self.path("ostler.sock")),
            quoted(self.path("state"))
        )
    }

    /// Starts a daemon with this configuration and waits until every server is ready.
    pub async fn up(self, config: &str) -> anyhow::Result<Daemon> {
        fs::write(self.path("ostler.toml"), config).context("the configuration cannot be written")?;
        let log = fs::File::create(self.path("log")).context("there is no log")?;
        let mut command = self.ostler("up")?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn().context("the daemon cannot be started")?;
        let daemon = Daemon { home: self, child };
        daemon.until_ready().await?;
        Ok(daemon)
    }

    fn ostler(&self, verb: &str) -> anyhow::Result<Command> {
        let folder = self.folder.path();
        let mut command = Command::new(sibling("ostler-under-test")?);
        command.args([verb, "--config"]).arg(self.path("ostler.toml")).stdin(Stdio::null()).kill_on_drop(true);
        command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder);
        command.env_remove("OSTLER_CONFIG").env_remove("XDG_CONFIG_HOME").current_dir(folder);
        Ok(command)
    }
}

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the daemon has ended by itself")
    }

    /// A path in its home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        self.child.wait().await.map(drop).context("the daemon cannot be waited for")
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let mut looks = interval(Duration::from_millis(250));
        loop {
            looks.tick().await;
            let servers = self.servers().await?;
            if !servers.is_empty() && servers.iter().all(|server| server["state"] == "ready") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                bail!("the servers did not come up: {servers:#?}\n{log}");
            }
        }
    }

    /// What it says of its servers. Nothing, as long as it does not listen: the command would start a fleet itself.
    async fn servers(&self) -> anyhow::Result<Vec<Value>> {
        if !self.path("ostler.sock").exists() {
            return Ok(Vec::new());
        }
        let told = self.home.ostler("servers")?.arg("--json").output().await?;
        Ok(serde_json::from_slice(&told.stdout).unwrap_or_default())
    }
}

/// A program of this package, beside the one that runs. Errors: it was not built.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("our own path is not known")?.with_file_name(name);
    ensure!(path.exists(), "{} is not built; cargo build -p ostler-tests --bins does that", path.display());
    Ok(path)
}

/// A TOML string; the JSON form is one.
pub fn quoted(path: impl AsRef<Path>) -> String {
    Value::from(path.as_ref().to_str().expect("our paths are UTF-8")).to_string()
}
