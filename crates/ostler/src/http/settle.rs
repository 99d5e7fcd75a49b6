//! When a fleet has settled: every server that should run is up, or has failed at least once.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::backend::Backend;
use super::dto::ServerDto;

/// How often the statuses are looked at again even if no event came: a status may be published after its event.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether the server is up, failed at least once, or is not meant to run.
pub fn is_settled(server: &ServerDto) -> bool {
    if server.failures > 0 {
        return true;
    }
    match server.state.as_str() {
        "queued" | "starting" | "stopping" => false,
        // A server that was never started is `stopped` until the fleet says the first word to it.
        "stopped" => server.incarnation.is_some() || server.last_fault.is_some(),
        _ => true,
    }
}

/// Waits until all servers have settled, or the one called `only`, at most until `deadline`.
///
/// Returns who has not. Cancel-safe.
pub async fn settled(backend: &dyn Backend, only: Option<&str>, deadline: Instant) -> Vec<String> {
    // Subscribed before the first look, so that no change falls between the two.
    let mut events = backend.events(0);
    let mut more = true;
    loop {
        let missing = unsettled(backend, only);
        if missing.is_empty() || crate::clock::now() >= deadline {
            return missing;
        }
        let look = (crate::clock::now() + LOOK_AGAIN).min(deadline).into();
        if more {
            // An elapsed timeout is the time to look again.
            if let Ok(event) = timeout_at(look, events.next()).await {
                more = event.is_some();
            }
        } else {
            tokio::time::sleep_until(look).await;
        }
    }
}

/// Who has not settled. A server that is up counts only once a tool of it can be found, if it lists any.
fn unsettled(backend: &dyn Backend, only: Option<&str>) -> Vec<String> {
    let servers: Vec<_> =
        backend.servers().into_iter().filter(|server| only.is_none_or(|only| only == server.server)).collect();
    let waiting: Vec<_> =
        servers.iter().filter(|server| !is_settled(server)).map(|server| server.server.clone()).collect();
    if !waiting.is_empty() {
        return waiting;
    }
    let tools = backend.tools();
    servers
        .into_iter()
        .filter(|server| server.state == "ready" && server.tools > 0)
        .map(|server| server.server)
        .filter(|server| !tools.iter().any(|tool| tool.server == *server))
        .collect()
}
