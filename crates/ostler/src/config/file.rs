//! The file as it is written: every section with its keys, nothing decided yet.
//!
//! A section reads itself from a table and reports unknown keys with the nearest known one. Defaults and everything
//! that needs more than one key are `check`'s. The JSON Schema of the file comes from the same declarations.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde_json::{Map, json};

use super::document::{Node, Table, Value};
use super::leaf::{Given, Leaf, Listen, Memory, Named, Period, Size, Switch, choice, take, wrong};
use super::report::{At, Report, Spot};

/// A table with a closed set of keys.
pub(super) trait Section: Sized {
    /// The keys.
    const KEYS: &'static [&'static str];

    /// Takes the section's keys out of `table` and leaves the others.
    fn take(table: &mut Table, spot: &Spot, report: &mut Report) -> Self;

    /// The same section, with what it does not say taken from `fallback`.
    fn or(self, fallback: &Self) -> Self;

    /// The JSON Schema of each key.
    fn properties() -> Map<String, serde_json::Value>;
}

impl<T: Section> Leaf for T {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(mut table) = node.value else {
            return wrong(&node.value, spot, report, "a table");
        };
        let section = T::take(&mut table, spot, report);
        unknown(&table, T::KEYS, spot, report);
        Some(section)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "object", "properties": T::properties(), "additionalProperties": false})
    }
}

/// Reports what is left of a table as unknown keys, with the nearest of `known`.
pub(super) fn unknown(rest: &Table, known: &[&str], spot: &Spot, report: &mut Report) {
    for entry in &rest.0 {
        let advice = match nearest(&entry.key, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        report.problem::<()>(&spot.key(&entry.key, entry.line), format!("unknown key; {advice}"));
    }
}

/// The word nearest to `word`, if it is near: at most a third of the letters differ.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let (distance, near) = known.iter().map(|known| (distance(&word, known), *known)).min()?;
    (distance <= word.chars().count().max(near.len()).div_ceil(3)).then_some(near)
}

/// How many letters must be added, removed or replaced (Levenshtein). Long words count as far from all.
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $key_doc:literal])* $key:ident: $type:ty,)+ }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name { $($(#[doc = $key_doc])* pub $key: Option<At<$type>>,)+ }

        impl Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            fn take(table: &mut Table, spot: &Spot, report: &mut Report) -> Self {
                Self { $($key: take(table, stringify!($key), spot, report)),+ }
            }

            fn or(self, fallback: &Self) -> Self {
                Self { $($key: self.$key.or_else(|| fallback.$key.clone())),+ }
            }

            fn properties() -> Map<String, serde_json::Value> {
                let mut properties = Map::new();
                $(
                    let mut schema = <$type as Leaf>::schema();
                    schema["description"] = concat!($($key_doc),*).trim().into();
                    properties.insert(stringify!($key).to_owned(), schema);
                )+
                properties
            }
        }
    };
}

section! {
    /// The whole file.
    File {
        /// JSON files with `mcpServers`, as Claude Desktop, Claude Code, Cursor and VS Code keep them. They are read, never written.
        import: Vec<At<String>>,
        /// The daemon and its listeners.
        daemon: DaemonSection,
        /// Who is told what a person should know, besides the log.
        notify: NotifySection,
        /// What holds for every server that does not say otherwise.
        defaults: Tuning,
        /// What holds for the servers of a group that do not say otherwise. It goes before `defaults`.
        groups: Named<Tuning>,
        /// The servers, by name. More of them may stand in `servers.d/*.toml` beside this file.
        servers: Named<ServerSection>,
        /// The model that holds conversations.
        model: ModelSection,
    }
}

section! {
    /// A file of `servers.d`.
    FolderFile {
        /// What holds for the servers of a group that do not say otherwise.
        groups: Named<Tuning>,
        /// The servers, by name.
        servers: Named<ServerSection>,
    }
}

section! {
    /// `[daemon]`.
    DaemonSection {
        /// The Unix socket by which the command line joins a running daemon.
        socket: String,
        /// Where metrics and health are served: an address and a port, or `off`.
        ops: Listen,
        /// How long a shutdown of everything may take.
        stop_grace: Period,
        /// The folder of what is remembered across restarts: streaks of failures, approvals, what was listed and spawned.
        state: String,
        /// How many servers may be starting at a time. Without it: one more than there are cores.
        start_slots: NonZeroU32,
    }
}

section! {
    /// `[notify]`.
    NotifySection {
        /// A program and its arguments, run once for each notice, which it gets as JSON on its standard input.
        command: Vec<At<String>>,
        /// An address that each notice is posted to, as JSON.
        webhook: Given,
    }
}

section! {
    /// How a server is kept alive and how calls to it are bounded: `[defaults]`, `[groups.NAME]`, and in every server.
    Tuning {
        /// When a server that ended is started again: always, only after a failure, or never.
        restart: RestartWord,
        /// When it is started: with the daemon, or by the first call.
        start: StartWord,
        /// After how long without a call the server is stopped until the next call.
        idle_stop: Switch<Period>,
        /// Exit codes that count as a clean end.
        expected_exits: Vec<At<u8>>,
        /// How long to wait before a failed server is started again.
        backoff: BackoffSection,
        /// More restarts than this within the time, and the server is put aside and tried slowly.
        intensity: Switch<IntensitySection>,
        /// A run of at least this long counts as healthy: the next restart is at once and failures are forgotten.
        stable_after: Period,
        /// How long a start may take, from the spawn to the first list of tools.
        start_timeout: Period,
        /// How often a server that says nothing is asked whether it still answers.
        probe: Switch<Period>,
        /// Whether the fleet counts as unready while this server is down. Such servers are started first.
        required: bool,
        /// Whether those who used a server before it was restarted are told: its memory is gone.
        on_restart: OnRestartWord,
        /// How long a call may take, waiting included.
        call_timeout: Period,
        /// After how many failures in a row a person is told. 0: never.
        notify_after: u32,
        /// After how many failures in a row the server is put aside and tried slowly. 0: never.
        quarantine_after: u32,
        /// How long the server has to end by itself before it is killed.
        stop_grace: Period,
        /// What happens to calls while the server restarts: they wait, or they fail at once.
        while_restarting: WhileRestarting,
        /// How many calls the server works on at a time.
        max_in_flight: NonZeroU32,
        /// How many more calls may wait.
        max_waiting: u32,
        /// The largest message that the server may send.
        max_frame: Size,
        /// How much memory the server may have, with all processes below it.
        memory: Switch<Memory>,
        /// How many processes and threads the server may have.
        processes: Switch<NonZeroU32>,
        /// What of this machine the server may change. `restricted`: the folders in `writable` and its temporary files.
        sandbox: SandboxWord,
        /// The folders and files that a restricted server may write.
        writable: Paths,
    }
}

/// Paths as they are written, then as they are meant: a path starts at the file that has it.
#[derive(Debug, Clone)]
pub(super) enum Paths {
    /// Written.
    Given(Vec<At<String>>),
    /// Found.
    Found(Vec<PathBuf>),
}

impl Leaf for Paths {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        Leaf::read(node, spot, report).map(Self::Given)
    }

    fn schema() -> serde_json::Value {
        Vec::<At<String>>::schema()
    }
}

section! {
    /// `intensity = { restarts = 15, within = "10m" }`.
    IntensitySection {
        /// How many restarts are borne.
        restarts: NonZeroU32,
        /// Within which time.
        within: Period,
    }
}

section! {
    /// `backoff = { base = "1s", factor = 2, cap = "30s" }`.
    BackoffSection {
        /// The first delay.
        base: Period,
        /// By how much each delay is longer than the one before, from 1 on.
        factor: f64,
        /// The longest delay.
        cap: Period,
    }
}

section! {
    /// How a server is reached: by a command, or at a URL.
    Launch {
        /// The program of a local server. `ostler` means this program itself.
        command: String,
        /// Its arguments.
        args: Vec<At<String>>,
        /// What is added to its environment.
        env: Named<Given>,
        /// The folder in which it runs. Relative to the file's folder, which is also the default.
        cwd: String,
        /// The address of a remote server. Not supported by this version: the server is listed and not started.
        url: String,
        /// HTTP headers for a remote server.
        headers: Named<Given>,
        /// Whether the server is used at all.
        enabled: bool,
        /// Its group: one of `[groups.NAME]`.
        group: String,
        /// Which family of MCP revisions to speak: found out, the ones with `initialize`, or the ones without.
        protocol: Era,
    }
}

section! {
    /// `[model]`.
    ModelSection {
        /// Who answers. `auto`: Anthropic if there is a key, else the rehearsal.
        provider: ProviderWord,
        /// The model's id.
        model: String,
        /// The longest answer, in tokens.
        max_tokens: NonZeroU32,
        /// The API key.
        api_key: Given,
        /// The API's address, without `/v1`.
        base_url: String,
        /// The API's version, as sent in `anthropic-version`.
        version: String,
        /// How the key is sent. Without it: as the version wants.
        auth: AuthStyle,
        /// The script of the rehearsal. Without it: the built-in one.
        script: String,
        /// How often the model may call tools before the turn is given up.
        max_rounds: NonZeroU32,
        /// How long one answer of the model may take.
        timeout: Period,
        /// Instructions that precede every conversation.
        system: String,
    }
}

choice! {
    /// When a server that ended is started again.
    pub(super) RestartWord {
        /// However it ended.
        Always = "always",
        /// Unless it ended as if all were well.
        OnFailure = "on-failure",
        /// Not at all.
        Never = "never",
    }
}

choice! {
    /// When a server is started.
    pub(super) StartWord {
        /// With the daemon.
        Eager = "eager",
        /// By the first call.
        Lazy = "lazy",
    }
}

choice! {
    /// Whether a restart is told to those who used the server before it.
    pub(super) OnRestartWord {
        /// It is not.
        Silent = "silent",
        /// It is.
        Surface = "surface",
    }
}

choice! {
    /// What of this machine a server may change.
    pub(super) SandboxWord {
        /// Whatever its user may.
        Off = "off",
        /// What it is given.
        Restricted = "restricted",
    }
}

choice! {
    /// What happens to calls while their server restarts.
    pub WhileRestarting {
        /// They wait, within their deadline.
        Wait = "wait",
        /// They fail at once and say when to come back.
        Fail = "fail",
    }
}

choice! {
    /// Which family of MCP revisions a server speaks.
    pub Era {
        /// It is found out.
        Auto = "auto",
        /// Those that begin with `initialize`.
        Legacy = "legacy",
        /// Those that begin with `server/discover`.
        Modern = "modern",
    }
}

choice! {
    /// How an API key is sent.
    pub AuthStyle {
        /// `authorization: Bearer KEY`.
        Bearer = "bearer",
        /// `x-api-key: KEY`.
        XApiKey = "x-api-key",
    }
}

choice! {
    /// Who answers.
    pub(super) ProviderWord {
        /// Anthropic if there is a key, else the rehearsal.
        Auto = "auto",
        /// Anthropic's Messages API.
        Anthropic = "anthropic",
        /// The script.
        Rehearsal = "rehearsal",
    }
}

/// `[servers.NAME]`: how the server is reached, and how it is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerSection {
    /// How it is reached.
    pub launch: Launch,
    /// How it is kept.
    pub tuning: Tuning,
}

impl Leaf for ServerSection {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(mut table) = node.value else {
            return wrong(&node.value, spot, report, "a table with a command");
        };
        let launch = Launch::take(&mut table, spot, report);
        let tuning = Tuning::take(&mut table, spot, report);
        unknown(&table, &[Launch::KEYS, Tuning::KEYS].concat(), spot, report);
        Some(Self { launch, tuning })
    }

    fn schema() -> serde_json::Value {
        let mut properties = Launch::properties();
        properties.extend(Tuning::properties());
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    }
}

/// The JSON Schema of the TOML file, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = File::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "ostler.toml".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        let known = &[Launch::KEYS, Tuning::KEYS].concat();
        for (given, near) in [
            ("comand", Some("command")),
            ("environment", None),
            ("Command", Some("command")),
            ("start-timeout", Some("start_timeout")),
            ("retsart", Some("restart")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), near, "{given}");
        }
    }

    #[test]
    fn the_shipped_schema_is_the_one_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/ostler.schema.json");
        if std::env::var_os("OSTLER_BLESS").is_some() {
            std::fs::write(path, format!("{:#}\n", schema())).unwrap();
        }
        let shipped: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(shipped == schema(), "config/ostler.schema.json is stale; run this test with OSTLER_BLESS=1");
    }
}
