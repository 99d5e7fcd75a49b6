//! From the file to the domain: defaults, paths, secrets, and everything that needs more than one key.
//!
//! Every problem goes into the report; what is returned is used only if there is none. Relative paths start at the folder
//! of the file that has them. One server is in `server`, how it is kept in `tuning`, what is unwise about its launch line in
//! `advice`, the files beside the main one in `folder`, the model in `model`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::{Secret, ServerId};

use super::file::{DaemonSection, File, Launch, NotifySection, ServerSection, Tuning};
use super::leaf::Named;
use super::origin::vet;
use super::report::{At, Report, Spot};
use super::secret::{Dialect, Environment, Resolver};
use super::{Daemon, Extra, ModelChoice, Notify, NotifyCommand, Origin, Server, Turn, document, import};

mod advice;
mod folder;
mod model;
mod server;
mod tuning;

use tuning::Fallbacks;

/// What is checked, against what.
pub(super) struct Check<'a> {
    /// Where texts come from.
    pub resolver: Resolver<'a>,
    /// Who says it.
    pub origin: Origin,
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
        let state = match &given.state {
            Some(At { value, spot }) => self.resolver.path(value, spot, self.report)?,
            None => default_state(self.resolver.environment),
        };
        Some(Daemon {
            socket,
            ops: given.ops.map_or(Some(Daemon::DEFAULT_OPS), |at| at.value.0),
            stop_grace: given.stop_grace.map_or(Duration::from_secs(10), |at| at.value.0),
            state,
            start_slots: given.start_slots.map(|at| at.value),
        })
    }

    /// `[notify]`.
    fn notify(&mut self, given: Option<At<NotifySection>>) -> Option<Notify> {
        let given = given.map(|at| at.value).unwrap_or_default();
        let mut notify = Notify::default();
        if let Some(At { value: words, spot }) = given.command {
            let Some((program, args)) = words.split_first() else {
                let advice = r#"write the program and its arguments: ["program", "argument"]"#;
                return self.report.problem(&spot, format!("the command is empty; {advice}"));
            };
            let At { value, spot } = program;
            let program = if value.contains('/') || value.starts_with('~') {
                self.resolver.path(value, spot, self.report)?.into_os_string()
            } else {
                self.resolver.expand(value, spot, self.report)?.into()
            };
            let mut expanded = Vec::new();
            for At { value, spot } in args {
                expanded.push(Secret::new(self.resolver.expand(value, spot, self.report)?));
            }
            notify.command = Some(NotifyCommand { program, args: expanded });
        }
        if let Some(At { value, spot }) = given.webhook {
            let url = self.resolver.secret(&value, &spot, self.report)?;
            if !["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                return self.report.problem(&spot, "this is no web address; write webhook = \"https://...\"");
            }
            notify.webhook = Some(url);
        }
        Some(notify)
    }

    /// The servers of every imported file, in order.
    fn imports(&mut self, given: Option<At<Vec<At<String>>>>, fallbacks: &Fallbacks) -> Imports {
        let mut imports = Imports::default();
        for At { value, spot } in given.into_iter().flat_map(|at| at.value) {
            let Some(path) = self.resolver.path(&value, &spot, self.report) else { continue };
            imports.files.push(path.clone());
            match super::read_text(&path) {
                Ok(text) => {
                    let label = path.display().to_string();
                    vet(&path, &Spot::file(&label), &self.origin, self.report);
                    let origin = Origin::of_import(&path, self.resolver.environment);
                    let file = HostsFile { label, path, text, origin };
                    imports.servers.extend(hosts_file(&file, self.resolver.environment, fallbacks, self.report));
                }
                Err(why) => {
                    let path = path.display();
                    let advice = "write the path of a JSON file with \"mcpServers\", or remove it";
                    self.report.problem::<()>(&spot, format!("{path} cannot be read: {why}; {advice}"));
                }
            }
        }
        imports
    }

    /// The servers of a file of our own.
    fn servers(&mut self, given: Option<At<Named<ServerSection>>>, fallbacks: &Fallbacks) -> Vec<Placed> {
        let given = given.into_iter().flat_map(|at| at.value.0);
        let given = given.map(|(name, At { value: ServerSection { launch, tuning }, spot })| GivenServer {
            name,
            spot,
            launch,
            tuning,
            extra: Extra::default(),
        });
        given.filter_map(|given| self.server(given, fallbacks)).collect()
    }
}

/// What imported files come to.
#[derive(Default)]
struct Imports {
    servers: Vec<Placed>,
    files: Vec<PathBuf>,
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
    /// Who is told, besides the log.
    pub notify: Notify,
    /// What it was read from.
    pub files: Vec<PathBuf>,
}

/// A file of our own, as it is written.
#[derive(Default)]
pub(super) struct OwnFile {
    /// What it says.
    pub file: File,
    /// Where it lies. Empty: nowhere.
    pub path: PathBuf,
    /// Who says it.
    pub origin: Origin,
}

/// Checks a file of our own, with the folder beside it. What comes back is sound if nothing was reported.
pub(super) fn own_file(own: OwnFile, environment: &Environment, report: &mut Report) -> Option<Parts> {
    let OwnFile { mut file, path, origin } = own;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut check = Check { resolver: Resolver { environment, folder, dialect: Dialect::Own }, origin, report };
    let daemon = check.daemon(file.daemon);
    let notify = check.notify(file.notify);
    let mut files = Vec::new();
    let mut beside = Vec::new();
    if !path.as_os_str().is_empty() {
        files.push(path.clone());
        beside = check.folder(&folder.join(folder::NAME), &mut files);
    }
    let groups = std::iter::once(file.groups.take()).chain(beside.iter_mut().map(|file| file.groups.take()));
    let groups = groups.flatten().flat_map(|at| at.value.0).collect();
    let fallbacks = check.fallbacks(file.defaults, groups);
    let mut servers = check.servers(file.servers, &fallbacks);
    for file in beside {
        servers.extend(check.servers(file.servers, &fallbacks));
    }
    let imports = check.imports(file.import, &fallbacks);
    servers.extend(imports.servers);
    files.extend(imports.files);
    let model = check.model(file.model);
    let servers = unique(servers, check.report);
    let (model, turn) = model?;
    Some(Parts { daemon: daemon?, servers, model, turn, notify: notify?, files })
}

/// The daemon's section alone. The rest of the file is not looked at.
pub(super) fn daemon_alone(
    file: File,
    folder: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Option<Daemon> {
    let resolver = Resolver { environment, folder, dialect: Dialect::Own };
    Check { resolver, origin: Origin::Own, report }.daemon(file.daemon)
}

/// A host's JSON file.
pub(super) struct HostsFile {
    /// What it is called in messages.
    pub label: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Whose it is.
    pub origin: Origin,
}

/// Checks a host's file that stands alone: everything but the servers is as if nothing were written.
pub(super) fn hosts_file_alone(file: &HostsFile, environment: &Environment, report: &mut Report) -> Option<Parts> {
    let servers = hosts_file(file, environment, &Fallbacks::default(), report);
    let servers = unique(servers, report);
    let parts = own_file(OwnFile::default(), environment, report)?;
    Some(Parts { servers, files: vec![file.path.clone()], ..parts })
}

fn hosts_file(file: &HostsFile, environment: &Environment, fallbacks: &Fallbacks, report: &mut Report) -> Vec<Placed> {
    let spot = Spot::file(&file.label);
    let Some(node) = document::json(&file.text, &spot, report) else { return Vec::new() };
    let given = import::servers(node, &spot, report);
    let folder = import::folder(&file.path);
    let resolver = Resolver { environment, folder: &folder, dialect: Dialect::Host };
    let mut check = Check { resolver, origin: file.origin.clone(), report };
    given.into_iter().filter_map(|given| check.server(given, fallbacks)).collect()
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

/// The folder of what is remembered. A service without a home has its place below `/var/lib`: a folder that others can
/// make first, such as one for temporary files, must not say what was approved.
fn default_state(environment: &Environment) -> PathBuf {
    let folder = |name| environment.filled(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_STATE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"));
    base.join("ostler")
}
