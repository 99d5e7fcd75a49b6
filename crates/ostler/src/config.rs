//! The configuration: found, read and checked into a domain type that is always valid.
//!
//! `document` knows the syntaxes, `file` the keys of our own file, `import` those of other hosts, `secret` what comes from
//! outside, `check` the rules, `launch` what would be run, `origin` who said so, `reload` what changed. This file has the
//! domain and the order in which a configuration is looked for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostler_core::{Secret, ServerId};
use ostler_policy::Policy;

mod check;
mod document;
mod file;
mod import;
mod launch;
mod leaf;
mod origin;
mod reload;
mod report;
mod secret;
#[cfg(test)]
mod tests;

use check::{HostsFile, OwnFile};
use file::File;
use launch::Written;
use leaf::Leaf;
use report::Report;

pub use file::{AuthStyle, Era, WhileRestarting, schema};
pub use origin::Origin;
pub use reload::diff;
pub use report::{ConfigErrors, Problem, Spot};
pub use secret::Environment;

/// The default configuration, as shipped in `config/ostler.toml`.
pub const BUILT_IN: &str = include_str!("../../../config/ostler.toml");

/// The default rehearsal, as shipped in `config/rehearsal.toml`.
pub const BUILT_IN_SCRIPT: &str = include_str!("../../../config/rehearsal.toml");

/// Why a server with a `url` does not run.
pub const REMOTE_UNSUPPORTED: &str =
    "remote servers are not supported by this version of ostler; the server is listed and not started";

/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it comes from.
    pub source: Source,
    /// The daemon and its listeners.
    pub daemon: Daemon,
    /// The servers in the order of the file, imported ones last. No two ids are equal when case is ignored.
    pub servers: Vec<Server>,
    /// Who answers.
    pub model: ModelChoice,
    /// The bounds of a turn.
    pub turn: Turn,
    /// Who is told, besides the log.
    pub notify: Notify,
    /// What a person should know and that is no error.
    pub notices: Vec<String>,
    /// Whether a person named the source, by `--config` or `OSTLER_CONFIG`.
    named: bool,
    /// The files that it was read from, and the folder of `servers.d`.
    files: Vec<PathBuf>,
    /// What it was read with.
    environment: Environment,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This file.
    File(PathBuf),
    /// The default in the program.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::BuiltIn => f.write_str("the built-in configuration"),
        }
    }
}

/// The daemon and its listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// The Unix socket, by which the command line joins.
    pub socket: PathBuf,
    /// Where metrics and health are served, if anywhere.
    pub ops: Option<SocketAddr>,
    /// How long a shutdown of everything may take.
    pub stop_grace: Duration,
    /// The folder of what is remembered across restarts.
    pub state: PathBuf,
    /// How many servers may be starting at a time. `None`: one more than there are cores.
    pub start_slots: Option<NonZeroU32>,
}

/// Who is told what a person should know, besides the log and the stream of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    /// Run once for each notice.
    pub command: Option<NotifyCommand>,
    /// Posted to once for each notice. An `http` or `https` address; secret, because whoever knows it can write there.
    pub webhook: Option<Secret>,
}

/// What is run for a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyCommand {
    /// The program: a name to be looked up in `PATH`, or a path.
    pub program: OsString,
    /// Its arguments. Secret, because a variable may have been put in.
    pub args: Vec<Secret>,
}

impl Daemon {
    /// Where metrics and health are served if nothing else is said.
    pub const DEFAULT_OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
}

/// One wanted server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Who it is in the fleet.
    pub id: ServerId,
    /// What the file calls it.
    pub configured_name: String,
    /// Who said that it is to be run.
    pub origin: Origin,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// Whether it is used at all. The secrets of a server that is not are not read.
    pub enabled: bool,
    /// How it is reached.
    pub transport: Transport,
    /// How it is kept alive.
    pub policy: Policy,
    /// How calls to it are bounded.
    pub lane: Lane,
    /// The largest message that it may send, in bytes.
    pub max_frame: usize,
    /// Which revisions to speak.
    pub era: Era,
    /// What it may use up.
    pub limits: Limits,
    /// What it may change.
    pub sandbox: Sandbox,
    /// Keys of an imported file that we do not read.
    pub extra: Extra,
    /// How its launch line is written.
    written: Written,
}

/// What a server may use up, with everything below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<NonZeroU32>,
}

/// What of this machine a server may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Whatever its user may.
    #[default]
    Off,
    /// These folders and files, whole paths, and what every program needs.
    Restricted {
        /// Where it may write.
        writable: Vec<PathBuf>,
    },
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A process of ours, over its standard streams.
    Stdio {
        /// What is run.
        program: Program,
        /// Its arguments. Secret, because a variable may have been put in.
        args: Vec<Secret>,
        /// What is added to its environment, in the order of the file.
        env: Vec<(String, Secret)>,
        /// Where it runs. `None`: where we run.
        cwd: Option<PathBuf>,
    },
    /// A server elsewhere. This version cannot reach it: [`REMOTE_UNSUPPORTED`].
    Remote {
        /// Its address. Secret, because a variable may have been put in.
        url: Secret,
        /// Headers to send.
        headers: Vec<(String, Secret)>,
    },
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// This program itself: written as `ostler`.
    Ourselves,
    /// A program by its name, to be looked up in `PATH`, or by its path.
    Named(OsString),
}

impl Program {
    /// The program to execute. Errors: our own executable cannot be found.
    pub fn resolve(&self) -> std::io::Result<OsString> {
        match self {
            Self::Ourselves => std::env::current_exe().map(PathBuf::into_os_string),
            Self::Named(program) => Ok(program.clone()),
        }
    }
}

/// How calls to a server are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// How many it works on at a time. At least 1.
    pub in_flight: usize,
    /// How many more may wait.
    pub waiting: usize,
    /// How long a call may take, waiting included.
    pub call_timeout: Duration,
    /// What happens to calls while it restarts.
    pub while_restarting: WhileRestarting,
}

/// Unread keys of an imported server. `Debug` shows the keys alone, because a value may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extra(pub BTreeMap<String, serde_json::Value>);

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// Anthropic's Messages API.
    Anthropic(Anthropic),
    /// A script, without any model.
    Rehearsal(Script),
}

/// How Anthropic's Messages API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anthropic {
    /// The key. Not empty.
    pub api_key: Secret,
    /// The API's address, without `/v1`.
    pub base_url: String,
    /// The model's id.
    pub model: String,
    /// The longest answer, in tokens. At least 1.
    pub max_tokens: u32,
    /// What is sent as `anthropic-version`.
    pub version: String,
    /// How the key is sent.
    pub auth: AuthStyle,
}

impl Anthropic {
    /// The public API.
    pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
    /// The model that is asked if nothing else is said.
    pub const DEFAULT_MODEL: &str = "claude-sonnet-5-5";
    /// The version that is spoken if nothing else is said.
    pub const DEFAULT_VERSION: &str = "2026-10-21";
}

/// A rehearsal's script, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its file. `None`: the built-in one.
    pub origin: Option<PathBuf>,
    /// Its text: TOML.
    pub text: Arc<str>,
    /// Why it answers and no model does.
    pub reason: Reason,
}

/// Why a script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no key for a model.
    NoKey,
    /// The configuration asks for it.
    Configured,
}

/// The bounds of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// How often the model may call tools. At least 1.
    pub max_rounds: u32,
    /// How long one answer of the model may take.
    pub model_timeout: Duration,
    /// Instructions that precede every conversation.
    pub system: Option<Arc<str>>,
}

impl Config {
    /// Loads `path`, or what is found first: `$OSTLER_CONFIG`, `ostler/ostler.toml` in the user's
    /// configuration folder, the built-in default. A `.json` file is read as a host's `mcpServers` file.
    ///
    /// Blocks: it reads files and runs the commands that print secrets. Errors: all problems at once.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        Self::load_with(path, &Environment::of_process())
    }

    /// The daemon's part of what [`Config::load`] loads, and nothing else of it: no secret is read, no command is run.
    ///
    /// `None`: the file cannot be read, or that part of it is wrong; [`Config::load`] says what.
    pub fn daemon(path: Option<&Path>) -> Option<Daemon> {
        let environment = Environment::of_process();
        let path = match path.map_or_else(|| find(&environment), |path| Source::File(path.to_owned())) {
            Source::File(path) => environment.folder().join(path),
            Source::BuiltIn => PathBuf::new(),
        };
        let built_in = path.as_os_str().is_empty();
        let text = if built_in { BUILT_IN.to_owned() } else { read_text(&path).ok()? };
        let (mut report, file) = (Report::default(), Spot::file(""));
        let read = if is_json(&path, &text) {
            File::default()
        } else {
            File::read(document::toml(&text, &file, &mut report)?, &file, &mut report)?
        };
        check::daemon_alone(read, path.parent().unwrap_or(Path::new("")), &environment, &mut report)
    }

    /// Like [`Config::load`], with variables and a folder that need not be those of the process.
    pub fn load_with(path: Option<&Path>, environment: &Environment) -> Result<Self, ConfigErrors> {
        let named = path.is_some() || environment.filled("OSTLER_CONFIG").is_some();
        let source = match path {
            Some(path) => Source::File(path.to_owned()),
            None => find(environment),
        };
        Self::load_from(source, named, environment)
    }

    fn load_from(source: Source, named: bool, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut report = Report::default();
        let parts = read_source(&source, &mut report, environment)
            .and_then(|text| check_text(&Given { source: &source, named, text }, environment, &mut report));
        let notices = report.finish()?;
        let check::Parts { daemon, servers, model, turn, notify, files } =
            parts.expect("a configuration without parts has reported a problem");
        let environment = environment.clone();
        Ok(Self { source, daemon, servers, model, turn, notify, notices, named, files, environment })
    }
}

fn read_source(source: &Source, report: &mut Report, environment: &Environment) -> Option<String> {
    let Source::File(path) = source else { return Some(BUILT_IN.to_owned()) };
    match read_text(&environment.folder().join(path)) {
        Ok(text) => Some(text),
        Err(why) => {
            let file = Spot::file(&path.display().to_string());
            let advice = "write the path of an existing file, or leave --config and OSTLER_CONFIG out";
            report.problem(&file, format!("the file cannot be read: {why}; {advice}"))
        }
    }
}

/// Where the socket is if no configuration names it: in the user's runtime folder, else in the state folder.
pub fn default_socket() -> PathBuf {
    check::default_socket(&Environment::of_process())
}

/// The first place that has a configuration. Never the current folder: a checkout must not say what is run.
fn find(environment: &Environment) -> Source {
    if let Some(path) = environment.filled("OSTLER_CONFIG") {
        return Source::File(path.into());
    }
    match users_own(environment) {
        Some(path) if path.is_file() => Source::File(path),
        Some(_) | None => Source::BuiltIn,
    }
}

/// Where the user's own file is, or would be.
fn users_own(environment: &Environment) -> Option<PathBuf> {
    let folder = environment.filled("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| environment.filled("HOME").map(|home| Path::new(home).join(".config")));
    folder.map(|folder| folder.join("ostler/ostler.toml"))
}

/// A text and where it is from.
struct Given<'a> {
    source: &'a Source,
    /// Whether a person named it.
    named: bool,
    text: String,
}

/// Checks a text in whichever syntax it has.
fn check_text(given: &Given<'_>, environment: &Environment, report: &mut Report) -> Option<check::Parts> {
    let (label, path) = match given.source {
        Source::BuiltIn => ("config/ostler.toml (built in)".to_owned(), PathBuf::new()),
        Source::File(path) => (path.display().to_string(), environment.folder().join(path)),
    };
    let origin = if given.named { Origin::Explicit } else { Origin::Own };
    if matches!(given.source, Source::File(_)) {
        origin::vet(&path, &Spot::file(&label), &origin, report);
    }
    if is_json(&path, &given.text) {
        let file = HostsFile { label, path, text: given.text.clone(), origin };
        return check::hosts_file_alone(&file, environment, report);
    }
    let file = Spot::file(&label);
    let node = document::toml(&given.text, &file, report)?;
    let file = File::read(node, &file, report)?;
    check::own_file(OwnFile { file, path, origin }, environment, report)
}

fn is_json(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "jsonc") => true,
        Some("toml") => false,
        Some(_) | None => text.trim_start().starts_with('{'),
    }
}

/// Reads a text file of at most 16 MiB. Errors: why not, in words.
fn read_text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST_FILE) {
        return Err("it is larger than 16 MiB".to_owned());
    }
    Ok(text)
}
