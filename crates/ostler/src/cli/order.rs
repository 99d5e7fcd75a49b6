//! `ostler restart`, `stop` and `start`: orders to servers of a daemon, by name or by group.
//!
//! Several servers are restarted one after the other, each once the one before is ready or has failed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::signal::ctrl_c;
use tokio::time::{interval, timeout};

use super::Done;
use super::args::{Global, TargetArgs};
use super::client::socket_path;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use super::remote::Remote;
use crate::clock;
use crate::http::backend::Verb;
use crate::http::dto::{ServerDto, millis};
use crate::http::near::suggestion;
use crate::render::text::{one_line, span};

/// How often is looked whether a server has come up.
const LOOK: Duration = Duration::from_millis(200);

/// How long one server is waited for at most; the daemon gives up on it before.
const LONGEST: Duration = Duration::from_secs(1800);

pub(crate) async fn run(
    global: &Global,
    args: &TargetArgs,
    verb: Verb,
    house: &dyn House,
    console: &mut Console,
) -> Done {
    if global.standalone {
        return Err(Failure::usage(format!("'{}' needs a daemon; leave --standalone out", verb.as_str())));
    }
    let remote = Remote::new(socket_path(global, house));
    let targets = match &args.group {
        Some(group) => members(&remote, group, verb, console).await?,
        None => args.servers.clone(),
    };
    if verb == Verb::Restart && (args.group.is_some() || targets.len() > 1) {
        return tokio::select! {
            biased;
            _ = ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
            done = roll(&remote, &targets, console) => done,
        };
    }
    let word = match verb {
        Verb::Restart => "is being restarted",
        Verb::Stop => "is being stopped",
        Verb::Start => "is being started",
    };
    for target in &targets {
        let server = remote.order(target, verb).await?;
        console.line(&format!("{} {word}", server.server))?;
    }
    Ok(())
}

/// The servers of a group, without those that are switched off.
async fn members(remote: &Remote, group: &str, verb: Verb, console: &mut Console) -> Result<Vec<String>, Failure> {
    let servers = remote.servers().await?;
    let (mut members, mut off) = (Vec::new(), Vec::new());
    for server in servers.iter().filter(|server| server.group.as_deref() == Some(group)) {
        let place = if server.state == "disabled" && verb != Verb::Stop { &mut off } else { &mut members };
        place.push(server.server.clone());
    }
    if !off.is_empty() {
        console.note(&format!("switched off in the configuration: {}", off.join(", ")));
    }
    if members.is_empty() && off.is_empty() {
        let failure = Failure::usage(format!("no server is in the group '{group}'"));
        let groups: BTreeSet<&str> = servers.iter().filter_map(|server| server.group.as_deref()).collect();
        return Err(match suggestion(group, groups) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        });
    }
    Ok(members)
}

async fn roll(remote: &Remote, targets: &[String], console: &mut Console) -> Done {
    let mut failed = Vec::new();
    for target in targets {
        let ordered = clock::now();
        let server = remote.order(target, Verb::Restart).await?.server;
        let waited = timeout(LONGEST, ended(remote, &server, ordered)).await;
        let took = span(millis(clock::now().saturating_duration_since(ordered)));
        match waited {
            Ok(Ok(Some(now))) if is_well(&now) => {
                console.line(&format!("{server} is {} again after {took}", now.state))?;
            }
            Ok(Ok(Some(now))) => {
                let why = now.last_fault.as_ref().map_or(String::new(), |fault| format!(": {}", fault.message));
                console.line(&format!("{server} is {} after {took}{}", now.state, one_line(&why, 300)))?;
                failed.push(server);
            }
            Ok(Ok(None)) => console.line(&format!("{server} was removed from the configuration"))?,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {
                console.line(&format!("{server} is still not up after {took}"))?;
                failed.push(server);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    console.note(&format!("not up: {}; 'ostler why {}' says why", failed.join(", "), failed[0]));
    Err(Failure::silent(Exit::Answer))
}

/// Waits until a server that was ordered about at `ordered` is ready, or has failed. `None`: it is gone.
async fn ended(remote: &Remote, server: &str, ordered: Instant) -> Result<Option<ServerDto>, Failure> {
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let Some(now) = remote.servers().await?.into_iter().find(|now| now.server == server) else { return Ok(None) };
        // What it was before the order, and still is, is not what comes of it.
        let is_news = now.since_ms <= millis(clock::now().saturating_duration_since(ordered));
        let is_on_its_way = matches!(now.state.as_str(), "queued" | "starting" | "stopping");
        if is_news && !is_on_its_way {
            return Ok(Some(now));
        }
    }
}

fn is_well(server: &ServerDto) -> bool {
    matches!(server.state.as_str(), "ready" | "degraded" | "idle")
}
