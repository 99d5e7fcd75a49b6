//! The JSON files of MCP hosts, unchanged: Claude Desktop, Claude Code, Cursor, VS Code and their kin.
//!
//! It brings their keys into our own form; `check` decides the rest. Keys that we do not read are kept and never an error.
//! Keys of our own stand under `"ostler"` in a server, so that the same file still loads in its host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Extra;
use super::check::GivenServer;
use super::document::{Entry, Node, Table, Value};
use super::file::{Launch, Section, Tuning, unknown};
use super::leaf::{Leaf, Named, Period, take, wrong};
use super::report::{At, Report, Spot};

/// Keys under which hosts keep their servers.
const CONTAINERS: [&str; 2] = ["mcpServers", "servers"];

/// Keys for an address, the strongest first: where Gemini finds `httpUrl` it ignores `url`.
const ADDRESSES: [&str; 3] = ["httpUrl", "serverUrl", "url"];

/// The hosts' keys for durations. `timeout` is in milliseconds for Claude Code, Gemini and others.
const DURATIONS: [(&str, Unit, Target); 7] = [
    ("timeout", Unit::Milliseconds, Target::Call),
    ("requestTimeout", Unit::Milliseconds, Target::Call),
    ("request_timeout_ms", Unit::Milliseconds, Target::Call),
    ("tool_timeout_sec", Unit::Seconds, Target::Call),
    ("connectionTimeout", Unit::Milliseconds, Target::Start),
    ("startup_timeout_ms", Unit::Milliseconds, Target::Start),
    ("startup_timeout_sec", Unit::Seconds, Target::Start),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Seconds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Call,
    Start,
}

/// The folder at which a host's relative paths start: the file's, or the project's for `.cursor/` and `.vscode/`.
pub(super) fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    let inside = folder.file_name().is_some_and(|name| name == ".cursor" || name == ".vscode");
    match folder.parent() {
        Some(project) if inside => project.to_owned(),
        Some(_) | None => folder.to_owned(),
    }
}

/// The servers of a host's file, in its order.
pub(super) fn servers(root: Node, file: &Spot, report: &mut Report) -> Vec<GivenServer> {
    const WANTED: &str = r#"{"mcpServers": {"name": {"command": "...", "args": ["..."]}}}"#;
    let Value::Table(mut root) = root.value else {
        wrong::<()>(&root.value, &file.on_line(root.line), report, WANTED);
        return Vec::new();
    };
    let container = CONTAINERS.iter().find_map(|key| root.take(key));
    let (table, spot) = match container {
        Some(Entry { key, line, node: Node { value: Value::Table(table), .. } }) => (table, file.key(&key, line)),
        Some(Entry { key, line, node }) => {
            wrong::<()>(&node.value, &file.key(&key, line), report, "a table of servers by name");
            return Vec::new();
        }
        None if root.0.iter().all(|entry| looks_like_a_server(&entry.node)) => (root, file.clone()),
        None => {
            report.problem::<()>(&file.on_line(1), format!("there is no \"mcpServers\" in it; write {WANTED}"));
            return Vec::new();
        }
    };
    table.0.into_iter().filter_map(|entry| server(entry, &spot, report)).collect()
}

fn looks_like_a_server(node: &Node) -> bool {
    let Value::Table(table) = &node.value else { return false };
    ["command"].iter().chain(&ADDRESSES).any(|key| table.get(key).is_some())
}

fn server(entry: Entry, above: &Spot, report: &mut Report) -> Option<GivenServer> {
    let spot = above.key(&entry.key, entry.line);
    let Value::Table(mut table) = entry.node.value else {
        return wrong(&entry.node.value, &spot, report, r#"a server such as {"command": "...", "args": ["..."]}"#);
    };
    let ours: OurKeys = take(&mut table, "ostler", &spot, report).map(|at| at.value).unwrap_or_default();
    let mut tuning = ours.tuning;
    for (key, unit, target) in DURATIONS {
        let Some(period) = duration(&mut table, key, unit, &spot, report) else { continue };
        let field = match target {
            Target::Call => &mut tuning.call_timeout,
            Target::Start => &mut tuning.start_timeout,
        };
        field.get_or_insert(period);
    }
    let launch = Launch { group: ours.group, ..launch(&mut table, &spot, report) };
    if table.get("envFile").is_some() {
        report.notice(&spot, "\"envFile\" is not read; write its variables into \"env\"");
    }
    let extra = table.0.into_iter().map(|entry| (entry.key, entry.node.value.to_json())).collect();
    Some(GivenServer { name: entry.key, spot, launch, tuning, extra: Extra(extra) })
}

/// What a server says to us alone.
#[derive(Default)]
struct OurKeys {
    tuning: Tuning,
    group: Option<At<String>>,
}

impl Leaf for OurKeys {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(mut table) = node.value else {
            return wrong(&node.value, spot, report, "a table");
        };
        let group = take(&mut table, "group", spot, report);
        let tuning = Tuning::take(&mut table, spot, report);
        unknown(&table, &[&["group"], Tuning::KEYS].concat(), spot, report);
        Some(Self { tuning, group })
    }

    fn schema() -> serde_json::Value {
        Tuning::schema()
    }
}

fn launch(table: &mut Table, spot: &Spot, report: &mut Report) -> Launch {
    let (command, mut args) = command(table, spot, report);
    if let Some(more) = take::<Vec<_>>(table, "args", spot, report) {
        match &mut args {
            Some(args) => args.value.extend(more.value),
            None => args = Some(more),
        }
    }
    let addresses = ADDRESSES.map(|key| take::<String>(table, key, spot, report));
    let url = addresses.into_iter().flatten().next();
    let mut launch = Launch {
        command,
        args,
        env: environment(table, spot, report),
        cwd: take(table, "cwd", spot, report),
        url,
        headers: take(table, "headers", spot, report),
        enabled: enabled(table, spot, report),
        protocol: None,
        group: None,
    };
    // A host that is given both goes by the type; without one it starts the command.
    let kind = ["type", "transport"].iter().find_map(|key| table.take(key));
    let remote = matches!(&kind, Some(Entry { node: Node { value: Value::Text(kind), .. }, .. }) if kind != "stdio");
    if launch.command.is_some() && launch.url.is_some() {
        if remote {
            launch.command = None;
        } else {
            launch.url = None;
        }
    }
    // Headers of a local server, or variables of a remote one, have no use; hosts ignore them, and so do we.
    if launch.command.is_some() {
        launch.headers = None;
    } else if launch.url.is_some() {
        launch = Launch { args: None, env: None, cwd: None, ..launch };
    }
    launch
}

type Words = At<Vec<At<String>>>;

/// A program, or a list of the program and its first arguments.
fn command(table: &mut Table, spot: &Spot, report: &mut Report) -> (Option<At<String>>, Option<Words>) {
    let list = table.get("command").is_some_and(|entry| matches!(entry.node.value, Value::List(_)));
    if !list {
        return (take(table, "command", spot, report), None);
    }
    let Some(At { value: mut words, spot }) = take::<Vec<At<String>>>(table, "command", spot, report) else {
        return (None, None);
    };
    if words.is_empty() {
        return (None, None);
    }
    let program = words.remove(0);
    (Some(program), Some(At { value: words, spot }))
}

/// `env`, without the variables that are null: VS Code leaves those out.
fn environment(table: &mut Table, spot: &Spot, report: &mut Report) -> Option<At<Named<super::leaf::Given>>> {
    let mut entry = table.take("env")?;
    let spot = spot.key("env", entry.line);
    match &mut entry.node.value {
        Value::Null => return None,
        Value::Table(variables) => variables.0.retain(|variable| !matches!(variable.node.value, Value::Null)),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Date | Value::List(_) => {}
    }
    let value = Named::read(entry.node, &spot, report)?;
    Some(At { value, spot })
}

/// `disabled` of the Claude family, `enabled` of others. Whoever says off wins.
fn enabled(table: &mut Table, spot: &Spot, report: &mut Report) -> Option<At<bool>> {
    let disabled = take::<bool>(table, "disabled", spot, report);
    let enabled = take::<bool>(table, "enabled", spot, report);
    match (disabled, enabled) {
        (Some(At { value: true, spot }), _) => Some(At { value: false, spot }),
        (_, enabled) => enabled,
    }
}

fn duration(table: &mut Table, key: &str, unit: Unit, spot: &Spot, report: &mut Report) -> Option<At<Period>> {
    let At { value: number, spot } = take::<f64>(table, key, spot, report)?;
    let seconds = match unit {
        Unit::Milliseconds => number / 1000.0,
        Unit::Seconds => number,
    };
    if key == "timeout" && (0.0..1.0).contains(&seconds) {
        let notice = format!(
            "{number} is in milliseconds, and hosts ignore a timeout below 1000, as is done here; if seconds are meant, write {}",
            number * 1000.0
        );
        report.notice(&spot, &notice);
        return None;
    }
    let period = Duration::try_from_secs_f64(seconds).ok().filter(|period| Period::in_bounds(*period));
    match period {
        Some(period) => Some(At { value: Period(period), spot }),
        None => report.problem(&spot, "this is no time to wait; write a number above 0, up to 30 days"),
    }
}
