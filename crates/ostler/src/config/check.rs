//! From the file to the domain: defaults, paths, secrets, and everything that needs more than one key.
//!
//! Every problem goes into the report; what is returned is used only if there is none. Relative paths start at the folder
//! of the file that has them. One server is in `server`, the model in `model`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::ServerId;

use super::file::{DaemonSection, File, Launch, ServerSection, Tuning};
use super::report::{At, Report, Spot};
use super::secret::{Dialect, Environment, Resolver};
use super::{Daemon, Extra, ModelChoice, Server, Turn, document, import};

mod model;
mod server;

/// What is checked, against what.
pub(super) struct Check<'a> {
    /// Where texts come from.
    pub resolver: Resolver<'a>,
    /// What was found so far.
    pub report: &'a mut Report,
}

/// A server as a file gives it.
pub(super) struct GivenServer {
    /// Its name in the file.
    pub name: String,
    /// Where it stands.
    pub spot: Spot,
    /// How it is reached.
    pub launch: Launch,
    /// How it is kept.
    pub tuning: Tuning,
    /// Keys that we do not read.
    pub extra: Extra,
}

impl Check<'_> {
    /// `[daemon]`.
    pub(super) fn daemon(&mut self, given: Option<At<DaemonSection>>) -> Option<Daemon> {
        let given = given.map(|at| at.value).unwrap_or_default();
        let socket = match &given.socket {
            Some(At { value, spot }) => {
                let path = self.resolver.path(value, spot, self.report)?;
                if path.as_os_str().len() > 107 {
                    let message = "the path is too long for a socket; write one of at most 107 bytes";
                    return self.report.problem(spot, message);
                }
                path
            }
            None => default_socket(self.resolver.environment),
        };
        Some(Daemon {
            socket,
            ops: given.ops.map_or(Some(Daemon::DEFAULT_OPS), |at| at.value.0),
            stop_grace: given.stop_grace.map_or(Duration::from_secs(10), |at| at.value.0),
        })
    }

    /// The servers of every imported file, in order.
    fn imports(&mut self, given: Option<At<Vec<At<String>>>>, defaults: &Tuning) -> Vec<Placed> {
        let mut servers = Vec::new();
        for At { value, spot } in given.into_iter().flat_map(|at| at.value) {
            let Some(path) = self.resolver.path(&value, &spot, self.report) else { continue };
            match super::read_text(&path) {
                Ok(text) => {
                    let file = HostsFile { label: path.display().to_string(), folder: import::folder(&path), text };
                    servers.extend(hosts_file(&file, self.resolver.environment, defaults, self.report));
                }
                Err(why) => {
                    let path = path.display();
                    let advice = "write the path of a JSON file with \"mcpServers\", or remove it";
                    self.report.problem::<()>(&spot, format!("{path} cannot be read: {why}; {advice}"));
                }
            }
        }
        servers
    }
}

/// A server with a sound name, and where it stands.
pub(super) struct Placed {
    id: ServerId,
    name: String,
    spot: Spot,
    /// `None`: a problem was reported.
    server: Option<Server>,
}

/// What a checked configuration consists of.
pub(super) struct Parts {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// Our own servers, then the imported ones.
    pub servers: Vec<Server>,
    /// Who answers.
    pub model: ModelChoice,
    /// The bounds of a turn.
    pub turn: Turn,
}

/// Checks a file of our own. What comes back is sound if nothing was reported.
pub(super) fn own_file(file: File, folder: &Path, environment: &Environment, report: &mut Report) -> Option<Parts> {
    let mut check = Check { resolver: Resolver { environment, folder, dialect: Dialect::Own }, report };
    let daemon = check.daemon(file.daemon);
    let mut defaults = file.defaults.map(|at| at.value).unwrap_or_default();
    // Wrong defaults are reported here, once, and not again by every server that has them.
    if let Some(backoff) = defaults.backoff.take() {
        let sound = check.schedule(&backoff).is_some();
        defaults.backoff = sound.then_some(backoff);
    }
    let mut servers = Vec::new();
    for (name, At { value: ServerSection { launch, tuning }, spot }) in
        file.servers.into_iter().flat_map(|at| at.value.0)
    {
        let given = GivenServer { name, spot, launch, tuning, extra: Extra::default() };
        servers.extend(check.server(given, &defaults));
    }
    servers.extend(check.imports(file.import, &defaults));
    let model = check.model(file.model);
    let servers = unique(servers, check.report);
    let (model, turn) = model?;
    Some(Parts { daemon: daemon?, servers, model, turn })
}

/// The daemon's section alone. The rest of the file is not looked at.
pub(super) fn daemon_alone(
    file: File,
    folder: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Option<Daemon> {
    Check { resolver: Resolver { environment, folder, dialect: Dialect::Own }, report }.daemon(file.daemon)
}

/// A host's JSON file.
pub(super) struct HostsFile {
    /// What it is called in messages.
    pub label: String,
    /// Where its relative paths start.
    pub folder: PathBuf,
    /// Its text.
    pub text: String,
}

/// Checks a host's file that stands alone: everything but the servers is as if nothing were written.
pub(super) fn hosts_file_alone(file: &HostsFile, environment: &Environment, report: &mut Report) -> Option<Parts> {
    let servers = hosts_file(file, environment, &Tuning::default(), report);
    let servers = unique(servers, report);
    own_file(File::default(), Path::new(""), environment, report).map(|parts| Parts { servers, ..parts })
}

fn hosts_file(file: &HostsFile, environment: &Environment, defaults: &Tuning, report: &mut Report) -> Vec<Placed> {
    let spot = Spot::file(&file.label);
    let Some(node) = document::json(&file.text, &spot, report) else { return Vec::new() };
    let given = import::servers(node, &spot, report);
    let resolver = Resolver { environment, folder: &file.folder, dialect: Dialect::Host };
    let mut check = Check { resolver, report };
    given.into_iter().filter_map(|given| check.server(given, defaults)).collect()
}

/// Reports servers whose ids meet when case is ignored.
fn unique(servers: Vec<Placed>, report: &mut Report) -> Vec<Server> {
    for (index, Placed { id, name, spot, .. }) in servers.iter().enumerate() {
        let Some(earlier) = servers[..index].iter().find(|earlier| earlier.id.folded() == id.folded()) else {
            continue;
        };
        let Placed { id, name: other, spot: place, .. } = earlier;
        let message = if name == other {
            format!("the server {name:?} is given twice, also at {place}; rename or remove one")
        } else {
            format!("the servers {name:?} and {other:?} ({place}) would share the name \"{id}\"; rename one")
        };
        report.problem::<()>(spot, message);
    }
    servers.into_iter().filter_map(|placed| placed.server).collect()
}

/// The socket below the user's runtime folder; below the state folder or the home where there is none.
pub(super) fn default_socket(environment: &Environment) -> PathBuf {
    let folder = |name| environment.filled(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_RUNTIME_DIR")
        .or_else(|| folder("XDG_STATE_HOME"))
        .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("ostler").join("ostler.sock")
}
