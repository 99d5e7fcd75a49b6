//! A configuration again: what it was read from, the same source read anew, and what has changed, in words.
//!
//! It decides nothing: what to do about a change is for whoever runs the servers. No value that may be secret is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::Secret;

use super::{Config, ConfigErrors, ModelChoice, Program, Sandbox, Server, Source, Transport, find, users_own};

impl Config {
    /// What makes up this configuration, as whole paths: the main file, `servers.d` and its files, imported files, the script
    /// of a rehearsal. Files of secrets are not among them.
    ///
    /// A path that does not exist may begin to. Editors replace files, so it is their folders that must be watched.
    pub fn watched(&self) -> Vec<PathBuf> {
        let mut paths = self.files.clone();
        if self.source == Source::BuiltIn {
            paths.extend(users_own(&self.environment));
        }
        if let ModelChoice::Rehearsal(script) = &self.model {
            paths.extend(script.origin.clone());
        }
        paths.into_iter().map(|path| self.environment.folder().join(path)).collect()
    }

    /// Reads the same source again. A file stays the source even if it is gone, which is an error; the built-in default
    /// gives way to a file of the user's own that was written since.
    ///
    /// Blocks as [`Config::load`] does. Errors: all problems at once; this configuration holds on.
    pub fn reload(&self) -> Result<Self, ConfigErrors> {
        let source = match &self.source {
            Source::File(path) => Source::File(path.clone()),
            Source::BuiltIn => find(&self.environment),
        };
        Self::load_from(source, self.named, &self.environment)
    }
}

/// What a person is told of a change: one line each, the servers first, in the order of the new configuration.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for server in &new.servers {
        match old.servers.iter().find(|before| before.id == server.id) {
            None => lines.push(format!("server {}: added", server.id)),
            Some(before) => {
                let changes = differences(&server_facts(before), &server_facts(server));
                lines.extend(changes.into_iter().map(|change| format!("server {}: {change}", server.id)));
            }
        }
    }
    let gone = old.servers.iter().filter(|server| new.servers.iter().all(|after| after.id != server.id));
    lines.extend(gone.map(|server| format!("server {}: removed", server.id)));
    lines.extend(differences(&house_facts(old), &house_facts(new)));
    lines
}

/// One thing that a configuration says.
struct Fact {
    name: String,
    said: Said,
}

#[derive(PartialEq, Eq)]
enum Said {
    /// Can be shown.
    Shown(String),
    /// Can only be compared.
    Hidden(Vec<Secret>),
}

fn shown(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.to_owned(), said: Said::Shown(value.into()) }
}

fn hidden(name: impl Into<String>, values: &[Secret]) -> Fact {
    Fact { name: name.into(), said: Said::Hidden(values.to_vec()) }
}

fn differences(old: &[Fact], new: &[Fact]) -> Vec<String> {
    let mut lines = Vec::new();
    for Fact { name, said } in new {
        match (old.iter().find(|fact| fact.name == *name).map(|fact| &fact.said), said) {
            (Some(before), after) if before == after => {}
            (Some(Said::Shown(before)), Said::Shown(after)) => lines.push(format!("{name} {before} -> {after}")),
            (Some(_), _) => lines.push(format!("{name} changed")),
            (None, Said::Shown(after)) => lines.push(format!("{name} {after} added")),
            (None, Said::Hidden(_)) => lines.push(format!("{name} added")),
        }
    }
    let gone = old.iter().filter(|fact| new.iter().all(|after| after.name != fact.name));
    lines.extend(gone.map(|fact| format!("{} removed", fact.name)));
    lines
}

fn server_facts(server: &Server) -> Vec<Fact> {
    let Server { enabled, group, transport, policy, lane, max_frame, era, limits, sandbox, .. } = server;
    let mut facts =
        vec![shown("enabled", enabled.to_string()), shown("group", group.clone().unwrap_or_else(|| "none".to_owned()))];
    match transport {
        Transport::Stdio { program, args, env, cwd } => {
            let program = match program {
                Program::Ourselves => "ostler".to_owned(),
                Program::Named(program) => format!("{:?}", program.to_string_lossy()),
            };
            facts.push(shown("command", program));
            facts.push(hidden("args", args));
            facts.push(shown("cwd", cwd.as_deref().map_or("none".to_owned(), |cwd| format!("{}", cwd.display()))));
            facts.extend(env.iter().map(|(name, value)| hidden(format!("env {name}"), std::slice::from_ref(value))));
        }
        Transport::Remote { url, headers } => {
            facts.push(hidden("url", std::slice::from_ref(url)));
            let header =
                |(name, value): &(String, Secret)| hidden(format!("header {name}"), std::slice::from_ref(value));
            facts.extend(headers.iter().map(header));
        }
    }
    let writable = match sandbox {
        Sandbox::Off => "off".to_owned(),
        Sandbox::Restricted { writable } => {
            let paths: Vec<String> = writable.iter().map(|path| path.display().to_string()).collect();
            format!("restricted [{}]", paths.join(", "))
        }
    };
    let optional = |value: Option<String>| value.unwrap_or_else(|| "off".to_owned());
    facts.extend([
        shown("protocol", word(era)),
        shown("required", policy.required.to_string()),
        shown("idle_stop", optional(policy.idle_stop.map(period))),
        shown("probe", optional(policy.probe.map(period))),
        shown("expected_exits", format!("{:?}", policy.expected_exits)),
        shown(
            "intensity",
            optional(policy.intensity.map(|it| format!("{} within {}", it.restarts, period(it.within)))),
        ),
        shown("on_restart", word(&policy.on_restart)),
        shown("start", if policy.lazy { "lazy" } else { "eager" }),
        shown("restart", word(&policy.restart)),
        hidden("backoff", &[Secret::new(format!("{:?}", policy.schedule))]),
        shown("stable_after", period(policy.stable_after)),
        shown("start_timeout", period(policy.start_timeout)),
        shown("notify_after", policy.notify_after.map_or(0, std::num::NonZeroU32::get).to_string()),
        shown("quarantine_after", policy.quarantine_after.map_or(0, std::num::NonZeroU32::get).to_string()),
        shown("stop_grace", period(policy.stop_grace)),
        shown("call_timeout", period(lane.call_timeout)),
        shown("while_restarting", word(&lane.while_restarting)),
        shown("max_in_flight", lane.in_flight.to_string()),
        shown("max_waiting", lane.waiting.to_string()),
        shown("max_frame", size(u64::try_from(*max_frame).unwrap_or(u64::MAX))),
        shown("memory", optional(limits.memory.map(size))),
        shown("processes", optional(limits.processes.map(|count| count.to_string()))),
        shown("sandbox", writable),
    ]);
    facts
}

fn house_facts(config: &Config) -> Vec<Fact> {
    let Config { daemon, model, turn, notify, .. } = config;
    let path = |path: &Path| path.display().to_string();
    let slots = daemon.start_slots.map_or_else(|| "by cores".to_owned(), |slots| slots.to_string());
    let mut command = Vec::new();
    if let Some(notify) = &notify.command {
        command.push(Secret::new(notify.program.to_string_lossy()));
        command.extend(notify.args.iter().cloned());
    }
    let mut facts = vec![
        shown("daemon.socket", path(&daemon.socket)),
        shown("daemon.ops", daemon.ops.map_or_else(|| "off".to_owned(), |address| address.to_string())),
        shown("daemon.stop_grace", period(daemon.stop_grace)),
        shown("daemon.state", path(&daemon.state)),
        shown("daemon.start_slots", slots),
        hidden("notify.command", &command),
        hidden("notify.webhook", notify.webhook.as_slice()),
        shown("model.max_rounds", turn.max_rounds.to_string()),
        shown("model.timeout", period(turn.model_timeout)),
        hidden("model.system", &turn.system.iter().map(|text| Secret::new(text.as_ref())).collect::<Vec<_>>()),
    ];
    match model {
        ModelChoice::Anthropic(anthropic) => facts.extend([
            shown("model.provider", "anthropic"),
            shown("model.model", anthropic.model.clone()),
            shown("model.max_tokens", anthropic.max_tokens.to_string()),
            hidden("model.api_key", std::slice::from_ref(&anthropic.api_key)),
            hidden("model.base_url", &[Secret::new(anthropic.base_url.as_str())]),
            shown("model.version", anthropic.version.clone()),
            shown("model.auth", word(&anthropic.auth)),
        ]),
        ModelChoice::Rehearsal(script) => facts.extend([
            shown("model.provider", "rehearsal"),
            hidden("model.script", &[Secret::new(script.text.as_ref())]),
        ]),
    }
    facts
}

/// The word of a choice: the name of its member as the file has it.
fn word(choice: &impl std::fmt::Debug) -> String {
    let mut word = String::new();
    for c in format!("{choice:?}").chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn period(period: Duration) -> String {
    format!("{period:?}")
}

fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}
