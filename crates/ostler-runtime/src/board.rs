//! The status board: the last status of every server, readable by anyone without asking an actor.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use ostler_core::{ServerId, ServerState, ServerStatus};
use tokio::sync::watch;

use crate::clock;
use crate::server::ServerSpec;

/// The board. One writer a server: its actor.
#[derive(Debug)]
pub struct Board {
    inner: RwLock<Inner>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    statuses: HashMap<ServerId, ServerStatus>,
    order: Vec<ServerId>,
}

impl Default for Board {
    fn default() -> Self {
        Self { inner: RwLock::default(), version: watch::channel(0).0 }
    }
}

impl Board {
    /// All statuses, in the order of the configuration.
    pub fn all(&self) -> Vec<ServerStatus> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.order.iter().filter_map(|server| inner.statuses.get(server)).cloned().collect()
    }

    /// One status.
    pub fn get(&self, server: &ServerId) -> Option<ServerStatus> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).statuses.get(server).cloned()
    }

    /// Hears of every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whether every server that should run is ready, or has failed at least once.
    pub fn is_settled(&self) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.order.iter().all(|server| inner.statuses.get(server).is_some_and(ServerStatus::has_settled))
    }

    /// Replaces the status of a listed server. One that has left the list is not brought back by its last words.
    pub(crate) fn put(&self, status: ServerStatus) {
        self.write(|inner| {
            if let Some(place) = inner.statuses.get_mut(&status.server) {
                *place = status;
            }
        });
    }

    /// Lists these servers and no others. One that is new is queued, or disabled, until its actor says more.
    pub(crate) fn expect(&self, servers: &[ServerSpec]) {
        let now = clock::now();
        self.write(|inner| {
            inner.order = servers.iter().map(|spec| spec.id.clone()).collect();
            inner.statuses.retain(|server, _| servers.iter().any(|spec| spec.id == *server));
            for spec in servers {
                inner.statuses.entry(spec.id.clone()).or_insert_with(|| not_yet_begun(spec, now));
            }
        });
    }

    fn write(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner));
        self.version.send_modify(|version| *version += 1);
    }
}

fn not_yet_begun(spec: &ServerSpec, now: Instant) -> ServerStatus {
    ServerStatus {
        server: spec.id.clone(),
        state: if spec.policy.enabled { ServerState::Queued } else { ServerState::Disabled },
        since: now,
        incarnation: None,
        facts: None,
        tools: 0,
        refused_tools: 0,
        failures: 0,
        restarts: 0,
        last_fault: None,
        next_try: None,
        start_deadline: None,
    }
}
