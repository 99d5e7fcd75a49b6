//! What would be run for a server: told apart for a reload, shown to a person, and fixed by a digest for their approval.
//!
//! A reload compares values. An approval is of what is written: it outlives a new value of a variable that the person who
//! approves has set, and ends with any change of the file, of the folder or of the program that is found. No text from here
//! holds a secret; `mask` sees to those that are written out.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ostler_core::Secret;
use sha2::{Digest, Sha256};

use super::file::Launch;
use super::leaf::Given;
use super::secret::Environment;
use super::{Program, Server, Transport};

mod mask;

use mask::{code_loading, masked, masked_args, reference_only};

/// A launch line as the file has it, before variables are put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    args: Vec<Secret>,
    /// Variables or headers, by name.
    named: Vec<(String, Given)>,
    url: Option<Secret>,
    /// Where programs are looked up if the server does not say.
    path: Option<String>,
}

impl Written {
    /// What `launch` says, to be run in `environment`.
    pub(super) fn new(launch: &Launch, environment: &Environment) -> Self {
        let mut named: Vec<(String, Given)> = [&launch.env, &launch.headers]
            .into_iter()
            .flatten()
            .flat_map(|at| &at.value.0)
            .map(|(name, at)| (name.clone(), at.value.clone()))
            .collect();
        named.sort_by(|left, right| left.0.cmp(&right.0));
        Self {
            args: launch.args.iter().flat_map(|at| &at.value).map(|at| Secret::new(at.value.as_str())).collect(),
            named,
            url: launch.url.as_ref().map(|at| Secret::new(at.value.as_str())),
            path: environment.get("PATH").map(str::to_owned),
        }
    }
}

impl Server {
    /// Whether a person must approve [`Server::launch_digest`] before it is run.
    pub fn needs_consent(&self) -> bool {
        self.origin.needs_consent()
    }

    /// The program's file, as it is found now. `None`: it is not found, or the server is remote. Reads folders.
    pub fn binary(&self) -> Option<PathBuf> {
        let Transport::Stdio { program, env, cwd, .. } = &self.transport else { return None };
        let program = program.resolve().ok()?;
        if program.as_bytes().contains(&b'/') {
            return Some(PathBuf::from(program)).filter(|path| is_executable(path));
        }
        let own = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.expose());
        let path = OsString::from(own.or(self.written.path.as_deref())?);
        let folder = cwd.as_deref().unwrap_or(Path::new(""));
        std::env::split_paths(&path).map(|entry| folder.join(entry).join(&program)).find(|path| is_executable(path))
    }

    /// The whole launch line for a person, on one line and without secrets: the command with its arguments, the program that
    /// is found for it, the folder, the variables and the group. Values from outside stand as `${NAME}`, secrets as `***`.
    /// Reads folders.
    pub fn launch_line(&self) -> String {
        let mut line = String::new();
        let named = self.written.named.iter().map(|(name, given)| format!("{}={}", word(name), value(name, given)));
        let named = named.collect::<Vec<_>>().join(" ");
        match &self.transport {
            Transport::Stdio { program, cwd, .. } => {
                let program = match program {
                    Program::Ourselves => "ostler".into(),
                    Program::Named(program) => program.to_string_lossy(),
                };
                line.push_str(&word(&program));
                for arg in masked_args(&program, self.written.args.iter().map(Secret::expose)) {
                    push(&mut line, " ", &arg);
                }
                match self.binary() {
                    Some(path) => push(&mut line, " (program ", &path.to_string_lossy()),
                    None => line.push_str(" (program not found"),
                }
                if let Some(cwd) = cwd {
                    push(&mut line, ", in ", &cwd.to_string_lossy());
                }
                if !named.is_empty() {
                    let _ = write!(line, ", with {named}");
                }
                if let Some(group) = &self.group {
                    push(&mut line, ", of the group ", group);
                }
                line.push(')');
            }
            Transport::Remote { .. } => {
                line.push_str(&word(&masked(self.written.url.as_ref().map_or("", Secret::expose), true)));
                if !named.is_empty() {
                    let _ = write!(line, " (with {named})");
                }
            }
        }
        line
    }

    /// A SHA-256 of the whole launch line as it is written, with the program that is found for it: what a person approves.
    ///
    /// The same in every build of this program. The order of variables and headers does not count. Reads folders.
    pub fn launch_digest(&self) -> String {
        let mut digest = Fields::new("ostler launch line 1");
        match &self.transport {
            Transport::Stdio { program, cwd, .. } => {
                digest.text("stdio");
                match program {
                    Program::Ourselves => digest.text("ourselves"),
                    Program::Named(program) => digest.text("named").bytes(program.as_bytes()),
                };
                let optional = [self.binary(), cwd.clone()];
                for path in optional {
                    digest.optional(path.as_deref().map(Path::as_os_str));
                }
                digest.count(self.written.args.len());
                for arg in &self.written.args {
                    digest.text(arg.expose());
                }
            }
            Transport::Remote { .. } => {
                digest.text("remote").text(self.written.url.as_ref().map_or("", Secret::expose));
            }
        }
        // A group can say what the server may change and use up.
        digest.optional(self.group.as_deref().map(OsStr::new));
        for (name, given) in &self.written.named {
            digest.text(name);
            match given {
                Given::Text(text) => digest.text("text").text(text.expose()),
                Given::File(path) => digest.text("file").text(path),
                Given::Command(words) => {
                    digest.text("command").count(words.len());
                    words.iter().fold(&mut digest, |digest, word| digest.text(word))
                }
            };
        }
        digest.hex()
    }

    /// A text that changes exactly when the server must be started anew: what a reload compares, and what a memory of it
    /// is valid for.
    ///
    /// The order of variables and headers does not count. Values are there as hashes, so no secret can be read in it. The
    /// same in every build of this program.
    pub fn fingerprint(&self) -> String {
        let named = |values: &[(String, Secret)]| {
            let mut values: Vec<String> =
                values.iter().map(|(name, value)| format!("{name}#{}", self.hash(name, &[value]))).collect();
            values.sort();
            values.join(",")
        };
        let launch = match &self.transport {
            Transport::Stdio { program, args, env, cwd } => {
                let args = self.hash("args", &args.iter().collect::<Vec<_>>());
                format!("stdio {program:?} args#{args} env[{}] {cwd:?}", named(env))
            }
            Transport::Remote { url, headers } => {
                let url = self.hash("url", &[url]);
                format!("remote url#{url} headers[{}]", named(headers))
            }
        };
        let (era, max_frame, limits, sandbox) = (self.era, self.max_frame, self.limits, &self.sandbox);
        format!("{launch} era={era:?} max_frame={max_frame} {limits:?} sandbox={sandbox:?}")
    }

    /// Salted with the server and the purpose, so that equal secrets in two places do not look equal.
    pub(super) fn hash(&self, purpose: &str, values: &[&Secret]) -> String {
        let mut digest = Fields::new("ostler value 1");
        digest.text(self.id.as_str()).text(purpose);
        for value in values {
            digest.text(value.expose());
        }
        let mut hex = digest.hex();
        hex.truncate(16);
        hex
    }
}

/// How a variable or a header is shown.
fn value(name: &str, given: &Given) -> String {
    match given {
        Given::Text(text) if code_loading(name) => word(text.expose()),
        Given::Text(text) => word(&reference_only(text.expose())),
        Given::File(path) => format!("(the content of {})", word(path)),
        Given::Command(words) => format!("(what {} prints)", word(words.first().map_or("", String::as_str))),
    }
}

fn push(line: &mut String, before: &str, text: &str) {
    line.push_str(before);
    line.push_str(&word(text));
}

/// Quoted wherever it could be read as something else, or not be seen.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,/:=@%+~${}*&?#^".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// A digest of fields, in which no two lists of fields look alike.
struct Fields(Sha256);

impl Fields {
    fn new(purpose: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.text(purpose);
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.update(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.0.update(u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
        self
    }

    fn optional(&mut self, text: Option<&OsStr>) -> &mut Self {
        match text {
            None => self.count(0),
            Some(text) => self.count(1).bytes(text.as_bytes()),
        }
    }

    fn hex(self) -> String {
        self.0.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}
