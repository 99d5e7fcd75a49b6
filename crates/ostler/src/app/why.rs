//! Why a server or a tool is as it is: one answer for somebody who has never seen this program. Pure.
//!
//! It says what is the case and what to do, in that order. How it looks is the command line's; where the facts come from
//! is the backend's.

mod advice;

use std::time::Instant;

use ostler_core::name::SEPARATOR;
use ostler_core::status::{DeathReason, ServerStatus};
use ostler_core::tool::OfferedTool;
use ostler_core::{OfferedName, RawName, ServerState};

use crate::http::dto::{ServerDto, Subject, WhyDto};
use crate::http::near::{near, suggestion};
use crate::http::words::{count, span_of};

/// What is known of a fleet at one moment.
pub(super) struct Scene<'a> {
    pub(super) now: Instant,
    /// All servers, in the order of the configuration.
    pub(super) servers: Vec<Known>,
    /// The namespace.
    pub(super) tools: &'a [OfferedTool],
    /// Where the configuration is.
    pub(super) config: String,
}

/// What is known of one server.
pub(super) struct Known {
    pub(super) status: ServerStatus,
    /// What the configuration calls it.
    pub(super) configured_name: String,
    pub(super) group: Option<String>,
    /// The file of another host that it comes from. `None`: our own.
    pub(super) imported_from: Option<String>,
    /// What was last said about tools of it that were left out.
    pub(super) complaint: Option<String>,
}

/// Answers for a server's name, a tool's name, or a name that is neither.
pub(super) fn why(name: &str, scene: &Scene<'_>) -> WhyDto {
    let is_named = |known: &&Known| {
        known.status.server.as_str().eq_ignore_ascii_case(name) || known.configured_name.eq_ignore_ascii_case(name)
    };
    if let Some(known) = scene.servers.iter().find(is_named) {
        return of_server(known, scene);
    }
    if let Some(tool) = scene.tools.iter().find(|tool| tool.name.as_str() == name) {
        return of_listed_tool(tool, scene);
    }
    let owner = scene.servers.iter().filter(|known| raw_name(name, known).is_some());
    match owner.max_by_key(|known| known.status.server.as_str().len()) {
        Some(known) => of_missing_tool(name, known, scene),
        None => of_nothing(name, scene),
    }
}

/// What stands after the server's prefix, if the name has it.
fn raw_name<'a>(name: &'a str, known: &Known) -> Option<&'a str> {
    let id = known.status.server.as_str();
    let head = name.get(..id.len()).filter(|head| head.eq_ignore_ascii_case(id))?;
    name[head.len()..].strip_prefix(SEPARATOR).filter(|raw| !raw.is_empty())
}

fn of_server(known: &Known, scene: &Scene<'_>) -> WhyDto {
    WhyDto {
        name: known.status.server.to_string(),
        subject: Subject::Server,
        well: is_well(known.status.state),
        verdict: format!("server '{}' {}", known.status.server, verdict(known, scene)),
        server: Some(dto(known, scene)),
        advice: advice::of_server(known, scene),
    }
}

fn of_listed_tool(tool: &OfferedTool, scene: &Scene<'_>) -> WhyDto {
    let known = scene.servers.iter().find(|known| known.status.server == tool.server);
    let mut answer = WhyDto {
        name: tool.name.to_string(),
        subject: Subject::Tool,
        well: true,
        verdict: format!("tool '{}' of server '{}' can be called", tool.name, tool.server),
        server: known.map(|known| dto(known, scene)),
        advice: vec![format!("Call it: ostler call {} '{{…}}'", tool.name)],
    };
    let Some(known) = known else { return answer };
    match known.status.state {
        ServerState::Ready | ServerState::Degraded => {}
        ServerState::Idle => answer.advice.insert(0, "Its server sleeps; the first call wakes it.".to_owned()),
        ServerState::Disabled
        | ServerState::Queued
        | ServerState::Starting
        | ServerState::Stopping
        | ServerState::Backoff
        | ServerState::Quarantined
        | ServerState::NeedsAction
        | ServerState::Stopped => {
            answer.well = false;
            let verdict = verdict(known, scene);
            answer.verdict = format!("tool '{}' is known, but its server '{}' {verdict}", tool.name, tool.server);
            answer.advice = advice::of_server(known, scene);
        }
    }
    answer
}

/// A tool that is not in the namespace, of a server that is known.
fn of_missing_tool(name: &str, known: &Known, scene: &Scene<'_>) -> WhyDto {
    let id = &known.status.server;
    let raw = raw_name(name, known).unwrap_or_default();
    let mut answer = WhyDto {
        name: name.to_owned(),
        subject: Subject::Tool,
        well: false,
        verdict: String::new(),
        server: Some(dto(known, scene)),
        advice: Vec::new(),
    };
    let own: Vec<&str> = scene.tools.iter().filter(|tool| tool.server == *id).map(|tool| tool.name.as_str()).collect();
    // Somebody may have written the server's own name for it, which had to be rewritten, or another case.
    let offered = RawName::new(raw).ok().map(|raw| OfferedName::new(id, &raw));
    let same = |listed: &&&str| {
        listed.eq_ignore_ascii_case(name) || offered.as_ref().is_some_and(|offered| offered.as_str() == **listed)
    };
    if let Some(listed) = own.iter().find(same) {
        answer.verdict = format!("no tool is called '{name}', but server '{id}' has one that is offered as '{listed}'");
        answer.advice.push(format!("Use that name: ostler why {listed}"));
        return answer;
    }
    if let Some(reason) = known.complaint.as_deref().and_then(|complaint| refusal(complaint, raw)) {
        answer.verdict = format!("server '{id}' lists a tool '{raw}', but it was refused: {reason}");
        answer
            .advice
            .push(format!("The tool's definition must change: tell the makers of '{id}', or use another version."));
        answer.advice.push("The other tools of the server are not touched by this.".to_owned());
        return answer;
    }
    if own.is_empty() && !is_well(known.status.state) {
        answer.verdict =
            format!("whether there is a tool '{name}' cannot be known: its server '{id}' {}", verdict(known, scene));
        answer.advice = advice::of_server(known, scene);
        return answer;
    }
    answer.verdict = if own.is_empty() {
        format!("server '{id}' offers no tools now")
    } else {
        format!("server '{id}' offers {}, but none is called '{raw}'", count(own.len(), "tool"))
    };
    answer.advice.extend(suggestion(name, own.iter().copied()).map(|text| sentence(&text)));
    if let Some(complaint) = &known.complaint {
        answer.advice.push(format!("Some of its tools were left out: {complaint}"));
    }
    answer.advice.push(format!("See what it offers: ostler tools {id}{SEPARATOR}"));
    answer
}

/// A name that we know nothing of.
fn of_nothing(name: &str, scene: &Scene<'_>) -> WhyDto {
    let servers = scene.servers.iter().map(|known| known.status.server.as_str());
    let tools = scene.tools.iter().map(|tool| tool.name.as_str());
    let mut advice = Vec::new();
    let found = near(name, servers.chain(tools));
    if let Some(text) = suggestion(name, found) {
        advice.push(sentence(&text));
    }
    if let Some((prefix, _)) = name.split_once(SEPARATOR) {
        advice.push(format!("A tool is called SERVER{SEPARATOR}TOOL, and no server is called '{prefix}'."));
    }
    advice.push("See what there is: ostler servers, ostler tools".to_owned());
    advice.push(format!("Servers are named in {}.", scene.config));
    WhyDto {
        name: name.to_owned(),
        subject: Subject::Nothing,
        well: false,
        verdict: format!("no server and no tool is called '{name}'"),
        server: None,
        advice,
    }
}

fn is_well(state: ServerState) -> bool {
    matches!(state, ServerState::Ready | ServerState::Degraded | ServerState::Idle)
}

/// What is the case, to be said after the server's name.
fn verdict(known: &Known, scene: &Scene<'_>) -> String {
    let status = &known.status;
    let since = span_of(scene.now.saturating_duration_since(status.since));
    let fault = status.last_fault.as_deref();
    let why = fault.map_or(String::new(), |fault| format!(": {fault}"));
    match status.state {
        ServerState::Disabled => "is switched off in the configuration".to_owned(),
        ServerState::Idle => "sleeps until one of its tools is called; nothing is wrong".to_owned(),
        ServerState::Queued => "waits for its turn to start".to_owned(),
        ServerState::Starting => format!("is starting and has not answered for {since}"),
        ServerState::Ready => format!("is well: ready for {since}, {}", count(status.tools, "tool")),
        ServerState::Degraded => "works, but did not answer when it was last asked whether it lives".to_owned(),
        ServerState::Stopping => "is being stopped".to_owned(),
        ServerState::Backoff => format!("is down and will be started again{why}"),
        ServerState::Quarantined => format!("failed {} times in a row and was put aside{why}", status.failures),
        ServerState::NeedsAction => format!("cannot run until somebody acts{why}"),
        ServerState::Stopped => match fault {
            Some(fault) if fault.reason != DeathReason::Operator => {
                format!("ended and is not started again, as its configuration says: {fault}")
            }
            Some(_) | None => "was stopped by a person".to_owned(),
        },
    }
}

/// What a complaint says of the tool that the server calls `raw`, if it says something.
fn refusal(complaint: &str, raw: &str) -> Option<String> {
    let quoted = [format!("'{raw}'"), format!("{raw:?}")];
    let part = complaint.split("; ").find(|part| quoted.iter().any(|name| part.contains(name.as_str())))?;
    let reason =
        part.split_once("tool ").and_then(|(_, rest)| rest.split_once(": ")).map_or(part, |(_, reason)| reason);
    Some(reason.to_owned())
}

fn dto(known: &Known, scene: &Scene<'_>) -> ServerDto {
    ServerDto { group: known.group.clone(), ..ServerDto::new(&known.status, scene.now) }
}

/// A suggestion as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
