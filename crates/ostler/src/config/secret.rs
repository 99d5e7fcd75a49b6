//! Values from outside the file: `${VAR}` in texts, the content of files, the output of commands.
//!
//! What is read here ends in a `Secret` or in a launch line. A message names the variable, file or command, never what it
//! holds. Commands run without a shell, within 10 s, and print at most 64 KiB.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ostler_core::Secret;

use super::leaf::Given;
use super::report::{Report, Spot};

/// How long a command may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// How often, and with which pause, a command is looked at that has closed its output and not yet ended: 2 s in all.
const EXIT_LOOKS: u32 = 400;
const EXIT_PAUSE: Duration = Duration::from_millis(5);

/// The longest secret, in bytes.
const LONGEST_SECRET: u64 = 64 * 1024;

/// The variables and the folder in which we run. A snapshot: loading a configuration twice with it gives the same.
#[derive(Clone)]
pub struct Environment {
    variables: Arc<BTreeMap<String, String>>,
    folder: PathBuf,
}

/// Variables may be secret, so that none is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: Arc::new(std::env::vars_os().filter_map(text).collect()),
            folder: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// An environment with these variables alone, in `folder`.
    pub fn new(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { variables: Arc::new(variables.collect()), folder: folder.to_owned() }
    }

    /// The value of `name`, also if it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The value of `name`, unless it is empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The working folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Which words of others are understood in `${ }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Our own file: what is not a variable is an error.
    Own,
    /// A host's file: `${env:VAR}`, `${userHome}` and `${workspaceFolder}` too; what is no variable stays as it is.
    Host,
}

/// What texts of one file are resolved against.
pub(super) struct Resolver<'a> {
    /// The variables.
    pub environment: &'a Environment,
    /// The folder of relative paths.
    pub folder: &'a Path,
    /// Which words are understood.
    pub dialect: Dialect,
}

impl Resolver<'_> {
    /// Replaces `${VAR}` and `${VAR:-default}`; `$${` stands for a literal `${`.
    ///
    /// `None`: a problem was reported.
    pub(super) fn expand(&self, text: &str, spot: &Spot, report: &mut Report) -> Option<String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        let mut sound = true;
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                expanded.push_str("${");
                rest = after;
                continue;
            }
            let Some(inner) = rest.strip_prefix("${") else {
                expanded.push('$');
                rest = &rest[1..];
                continue;
            };
            let Some(end) = inner.find('}') else {
                if self.dialect == Dialect::Host {
                    break;
                }
                return report.problem(spot, "\"${\" is not closed; write ${VAR}, or $${ for these two characters");
            };
            match self.look_up(&inner[..end], spot, report) {
                Some(Found::Value(value)) => expanded.push_str(&value),
                Some(Found::NotOurs) => expanded.push_str(&rest[..end + 3]),
                None => sound = false,
            }
            rest = &inner[end + 1..];
        }
        expanded.push_str(rest);
        sound.then_some(expanded)
    }

    fn look_up(&self, inner: &str, spot: &Spot, report: &mut Report) -> Option<Found> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let name = match (self.dialect, name) {
            (Dialect::Host, "userHome") => "HOME",
            (Dialect::Host, "workspaceFolder") => {
                return Some(Found::Value(self.folder.to_string_lossy().into_owned()));
            }
            (Dialect::Host, name) => name.strip_prefix("env:").unwrap_or(name),
            (Dialect::Own, name) => name,
        };
        if let Some(id) = name.strip_prefix("input:") {
            let message = format!(
                "${{input:{id}}} asks a person, which only an editor can do; write ${{VAR}} and set it in the environment"
            );
            return report.problem(spot, message);
        }
        if !is_variable(name) {
            if self.dialect == Dialect::Host {
                return Some(Found::NotOurs);
            }
            return report
                .problem(spot, "\"${...}\" holds no variable; write ${VAR}, ${VAR:-default}, or $${ for \"${\"");
        }
        match (self.environment.get(name), default) {
            (Some(value), None) => Some(Found::Value(value.to_owned())),
            (Some(value), Some(_)) if !value.is_empty() => Some(Found::Value(value.to_owned())),
            (_, Some(default)) => Some(Found::Value(default.to_owned())),
            (None, None) => report.problem(
                spot,
                format!("the environment variable {name} is not set; set it, or write ${{{name}:-default}}"),
            ),
        }
    }

    /// Expands `text` and makes a path of it: `~/` is the home folder, relative paths start at the file's folder.
    pub(super) fn path(&self, text: &str, spot: &Spot, report: &mut Report) -> Option<PathBuf> {
        let text = self.expand(text, spot, report)?;
        let Some(below) = text.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with('/')) else {
            return Some(self.folder.join(text));
        };
        let Some(home) = self.environment.filled("HOME") else {
            return report.problem(spot, "\"~\" needs the environment variable HOME; set it, or write the whole path");
        };
        Some(Path::new(home).join(below.trim_start_matches('/')))
    }

    /// Reads a value that may be secret.
    pub(super) fn secret(&self, given: &Given, spot: &Spot, report: &mut Report) -> Option<Secret> {
        let text = match given {
            Given::Text(text) => self.expand(text.expose(), spot, report)?,
            Given::File(path) => {
                let path = self.path(path, spot, report)?;
                match read_secret(&path) {
                    Ok(text) => text,
                    Err(why) => {
                        let message = format!(
                            "the file {} cannot be used: {why}; write the path of a readable text file",
                            path.display()
                        );
                        return report.problem(spot, message);
                    }
                }
            }
            Given::Command(words) => {
                let expanded: Option<Vec<String>> =
                    words.iter().map(|word| self.expand(word, spot, report)).collect::<Vec<_>>().into_iter().collect();
                match run(&expanded?, self.folder) {
                    Ok(text) => text,
                    Err(why) => {
                        let message = format!(
                            "the command {:?} gave no value: {why}; write one that prints it and ends with code 0",
                            words[0]
                        );
                        return report.problem(spot, message);
                    }
                }
            }
        };
        if text.contains('\0') {
            return report.problem(spot, "the value has a zero byte, which cannot be passed on; remove it");
        }
        Some(Secret::new(text))
    }
}

/// Whether `name` can be a variable's.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

enum Found {
    Value(String),
    NotOurs,
}

fn read_secret(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    text_of(file)
}

fn text_of(source: impl Read) -> Result<String, String> {
    let mut text = String::new();
    source.take(LONGEST_SECRET + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LONGEST_SECRET) {
        return Err("it is longer than 64 KiB".to_owned());
    }
    Ok(text.trim().to_owned())
}

/// Runs a command without a shell. Blocks for at most [`COMMAND_LIMIT`].
fn run(words: &[String], folder: &Path) -> Result<String, String> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if !folder.as_os_str().is_empty() {
        command.current_dir(folder);
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let output = child.stdout.take().expect("stdout was asked for as a pipe");
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // Nobody listens any more after the limit; then there is nothing to tell.
        drop(sender.send(text_of(output)));
    });
    let text = receiver.recv_timeout(COMMAND_LIMIT);
    // A command that has closed its output is about to end; one that has not is over its limit.
    let patience = if text.is_ok() { EXIT_LOOKS } else { 0 };
    let status = (0..=patience).find_map(|look| {
        if look > 0 {
            std::thread::park_timeout(EXIT_PAUSE);
        }
        child.try_wait().transpose()
    });
    let Some(Ok(status)) = status else {
        drop(child.kill());
        drop(child.wait());
        return Err("it did not print its value and end within 10 s".to_owned());
    };
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    text.unwrap_or_else(|_| Err("it ended, but something else holds its output open".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve<T>(
        dialect: Dialect,
        read: impl FnOnce(&Resolver<'_>, &Spot, &mut Report) -> Option<T>,
    ) -> Result<T, String> {
        let environment = Environment::new(Path::new("/w"), &[("HOME", "/home/u"), ("NAME", "v$1"), ("EMPTY", "")]);
        let resolver = Resolver { environment: &environment, folder: Path::new("/w"), dialect };
        let mut report = Report::default();
        let value = read(&resolver, &Spot::file("t").key("k", 3), &mut report);
        report.finish().map_err(|errors| errors.to_string())?;
        Ok(value.expect("a value that is not there was reported"))
    }

    fn expand(dialect: Dialect, text: &str) -> Result<String, String> {
        resolve(dialect, |resolver, spot, report| resolver.expand(text, spot, report))
    }

    #[test]
    fn variables_are_replaced_once() {
        for (given, expanded) in [
            ("plain $ $NAME {NAME}", "plain $ $NAME {NAME}"),
            ("<${NAME}>", "<v$1>"),
            ("${NAME:-other}", "v$1"),
            ("${NONE:-other}${NONE:-}", "other"),
            ("${EMPTY}|${EMPTY:-filled}", "|filled"),
            ("$${NAME} $$", "${NAME} $$"),
            ("\u{e4}${NAME}\u{e4}", "\u{e4}v$1\u{e4}"),
        ] {
            assert_eq!(expand(Dialect::Own, given), Ok(expanded.to_owned()), "{given}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let message = "t:3: k: the environment variable NONE is not set; set it, or write ${NONE:-default}";
        assert_eq!(expand(Dialect::Own, "${NONE}"), Err(message.to_owned()));
        assert_eq!(expand(Dialect::Host, "${env:NONE}"), Err(message.to_owned()));
        assert!(expand(Dialect::Own, "${NONE").unwrap_err().contains("not closed"));
        assert!(expand(Dialect::Own, "${a b}").unwrap_err().contains("holds no variable"));
    }

    #[test]
    fn a_hosts_words_are_understood_and_others_stay() {
        for (given, expanded) in [
            ("${env:NAME}", "v$1"),
            ("${userHome}/x", "/home/u/x"),
            ("${workspaceFolder}/x", "/w/x"),
            ("${ not ours } ${", "${ not ours } ${"),
        ] {
            assert_eq!(expand(Dialect::Host, given), Ok(expanded.to_owned()), "{given}");
        }
        assert!(expand(Dialect::Host, "${input:key}").unwrap_err().contains("asks a person"));
    }

    #[test]
    fn paths_start_at_home_or_at_the_folder() {
        for (given, path) in [("~/a", "/home/u/a"), ("~", "/home/u"), ("a/b", "/w/a/b"), ("/a", "/a"), ("~a", "/w/~a")]
        {
            let read = resolve(Dialect::Own, |resolver, spot, report| resolver.path(given, spot, report));
            assert_eq!(read, Ok(PathBuf::from(path)), "{given}");
        }
    }

    fn secret(given: &Given) -> Result<String, String> {
        let environment = Environment::new(Path::new(""), &[]);
        let resolver = Resolver { environment: &environment, folder: Path::new(""), dialect: Dialect::Own };
        let mut report = Report::default();
        let value = resolver.secret(given, &Spot::file("t").key("k", 3), &mut report);
        report.finish().map_err(|errors| errors.to_string())?;
        Ok(value.expect("a value that is not there was reported").expose().to_owned())
    }

    #[test]
    fn a_secret_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = file.path().to_string_lossy().into_owned();
        assert_eq!(secret(&Given::File(path)), Ok("hunter2".to_owned()));
        let message = secret(&Given::File("/nowhere/at/all".to_owned())).unwrap_err();
        assert!(message.starts_with("t:3: k: the file /nowhere/at/all cannot be used: No such file"), "{message}");
    }

    #[test]
    fn a_secret_comes_from_a_command() {
        let command = |words: &[&str]| secret(&Given::Command(words.iter().map(|word| (*word).to_owned()).collect()));
        assert_eq!(command(&["printf", " %s \\n", "hunter2"]), Ok("hunter2".to_owned()));
        assert!(command(&["false"]).unwrap_err().contains("ended with exit status: 1"));
        assert!(command(&["no-such-program-here"]).unwrap_err().contains("No such file"));
    }
}
