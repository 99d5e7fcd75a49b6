//! When a fleet has settled: every server that should run is up, or has failed at least once.

use std::time::Instant;

use tokio::time::timeout_at;

use super::backend::Backend;

/// Waits until all servers have settled, or the one called `only`, at most until `deadline`.
///
/// Returns who has not. Cancel-safe. A status is readable before its event is told, so every event is worth a look.
pub async fn settled(backend: &dyn Backend, only: Option<&str>, deadline: Instant) -> Vec<String> {
    // Subscribed before the first look, so that no change falls between the two.
    let mut events = backend.events(0);
    loop {
        let missing = unsettled(backend, only);
        if missing.is_empty() {
            return missing;
        }
        match timeout_at(deadline.into(), events.next()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return missing,
        }
    }
}

fn unsettled(backend: &dyn Backend, only: Option<&str>) -> Vec<String> {
    let servers = backend.servers().into_iter();
    let wanted = servers.filter(|server| only.is_none_or(|only| only == server.server));
    wanted.filter(|server| !server.settled).map(|server| server.server).collect()
}
