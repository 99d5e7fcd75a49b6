//! What to do about a server: by its state, and by the class of its last fault.

use std::time::Instant;

use ostler_core::ServerState;
use ostler_core::status::{DeathReason, Fault, FaultClass};

use super::{Known, Scene, sentence};
use crate::http::words::span_of;

/// What to do, the most promising first. Every state has something.
pub(super) fn of_server(known: &Known, scene: &Scene<'_>) -> Vec<String> {
    let status = &known.status;
    let id = &status.server;
    let place = Place::new(known, scene);
    let until = |at: Option<Instant>| at.map(|at| span_of(at.saturating_duration_since(scene.now)));
    let fault = status.last_fault.as_deref();
    let mut advice = Vec::new();
    match status.state {
        ServerState::Disabled => {
            advice.push(format!("Set enabled = true at {place}; a running daemon takes that up by itself."));
        }
        ServerState::Idle => advice.push(format!("Call one of its tools, or wake it now: ostler start {id}")),
        ServerState::Queued => {
            advice.push("Wait: only so many servers start at a time. Watch it: ostler status --watch".to_owned());
            advice.extend(before(fault));
        }
        ServerState::Starting => {
            let left = until(status.start_deadline).map_or(String::new(), |left| format!(": it is given up in {left}"));
            advice.push(format!("Wait{left}. See what it says meanwhile: ostler logs {id} -f"));
            advice.push(format!("If it rightly takes long, raise start_timeout at {place}."));
            advice.extend(before(fault));
        }
        ServerState::Ready => match &known.complaint {
            Some(complaint) => advice.push(format!("Some of its tools were left out: {complaint}")),
            None => advice.push(format!("Nothing is to be done. Its tools: ostler tools {id}__")),
        },
        ServerState::Degraded => {
            advice.push(format!("See what it says: ostler logs {id} -f"));
            advice.push(format!("It is restarted by itself if it stays silent; to do that now: ostler restart {id}"));
        }
        ServerState::Stopping => advice.push(format!("Wait a moment, then ask again: ostler why {id}")),
        ServerState::Backoff => {
            advice.extend(fault.map(|fault| of_fault(fault, &place)).unwrap_or_default());
            let next = until(status.next_try).map_or("soon".to_owned(), |next| format!("in {next}"));
            advice.push(format!("It is tried again by itself {next}; to try at once: ostler restart {id}"));
        }
        ServerState::Quarantined => {
            advice.extend(fault.map(|fault| of_fault(fault, &place)).unwrap_or_default());
            let next = until(status.next_try).map_or(String::new(), |next| format!(", next in {next}"));
            advice.push(format!("It is now tried only now and then{next}. Once it is repaired: ostler restart {id}"));
        }
        ServerState::NeedsAction => {
            advice.extend(fault.map(|fault| of_fault(fault, &place)).unwrap_or_default());
            if fault.is_none_or(|fault| fault.class != FaultClass::Consent) {
                advice.push(format!("Then start it: ostler restart {id}"));
            }
        }
        ServerState::Stopped => {
            if let Some(fault) = fault.filter(|fault| fault.reason != DeathReason::Operator) {
                advice.push(format!("If it should come back by itself, set restart = \"always\" at {place}."));
                advice.extend(fault.hint.as_deref().map(full));
            }
            advice.push(format!("Start it: ostler start {id}"));
        }
    }
    advice
}

/// What happened last, for a server that is on its way again.
fn before(fault: Option<&Fault>) -> Option<String> {
    let fault = fault?;
    let hint = fault.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
    Some(format!("The time before it ended so: {fault}{hint}"))
}

/// Where a server is configured.
struct Place<'a> {
    key: String,
    file: &'a str,
    id: &'a str,
}

impl<'a> Place<'a> {
    fn new(known: &'a Known, scene: &'a Scene<'_>) -> Self {
        let name = &known.configured_name;
        let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let name = if is_bare { name.clone() } else { format!("{name:?}") };
        let id = known.status.server.as_str();
        match &known.imported_from {
            Some(file) => Self { key: format!("mcpServers.{name}"), file, id },
            None => Self { key: format!("[servers.{name}]"), file: &scene.config, id },
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.key, self.file)
    }
}

fn of_fault(fault: &Fault, place: &Place<'_>) -> Vec<String> {
    // What a hint about an approval says is said better below.
    let hint = fault.hint.as_deref().filter(|_| fault.class != FaultClass::Consent);
    let mut advice: Vec<String> = hint.map(full).into_iter().collect();
    let id = place.id;
    let logs = || format!("Read what it said: ostler logs {id}");
    match fault.class {
        FaultClass::NotFound if hint.is_some() => advice.push(format!("Its command stands at {place}.")),
        FaultClass::NotFound => {
            advice.push(format!("Install the program, or write its whole path as command of {place}."));
        }
        FaultClass::BadConfig => advice.push(format!("Correct {place}; a running daemon takes that up by itself.")),
        FaultClass::Auth => {
            advice.push(format!("Renew the credentials that it gets by env or headers of {place}."));
            advice.push(logs());
        }
        FaultClass::Consent => {
            advice.push(format!("Look at its whole launch line and approve it: ostler approve {id}"));
            advice.push(format!("If you do not want it, set enabled = false at {place}."));
        }
        FaultClass::Incompatible => {
            advice.push("Use a version of the server that speaks a revision of MCP that we speak too.".to_owned());
        }
        FaultClass::CrashOnStart => {
            advice.push(logs());
            advice.push(format!("Run its command by hand in a terminal; compare args, env and cwd of {place}."));
        }
        FaultClass::CrashRunning | FaultClass::CleanExit => advice.push(logs()),
        FaultClass::Hang => advice.push(format!("{}; it stopped answering and was ended.", logs())),
        FaultClass::SlowStart => {
            advice.push(logs());
            advice.push(format!("If it rightly takes long, raise start_timeout at {place}."));
            advice.push("If it never answers, it may be no MCP server, or wait for input: run it by hand.".to_owned());
        }
        FaultClass::Protocol => {
            advice.push("It must write nothing but MCP messages to its standard output.".to_owned());
            advice.push(logs());
        }
        FaultClass::Oom => advice.push(format!("Raise memory at {place}, or find out what it needs it for.")),
        FaultClass::Network => advice.push("Check the network and the address of the server.".to_owned()),
        FaultClass::Throttled => advice.push("Wait: the server asked us to come back later.".to_owned()),
        FaultClass::HostResource => {
            advice
                .push("Free memory, processes or descriptors of this machine; the server is not at fault.".to_owned());
        }
        FaultClass::KilledByUs => advice.push(format!("Start it again: ostler start {id}")),
    }
    advice
}

/// A hint as a full sentence.
fn full(hint: &str) -> String {
    let end = if hint.ends_with(['.', '!', '?']) { "" } else { "." };
    sentence(hint) + end
}
