//! What was approved, copied out of the store: for a fleet of one command, which neither keeps the store from a daemon nor
//! leaves anything in it.

use std::collections::HashMap;
use std::sync::Arc;

use ostler_core::ServerId;
use ostler_core::memory::{Consent, ServerMemory, Spawned};
use ostler_core::port::{Journal, Ledger, Store};

use crate::config::Server;

struct Noted(HashMap<ServerId, Consent>);

/// What the store has of these servers' approvals, and nothing else of it.
pub(crate) fn noted(store: &dyn Store, servers: &[Server]) -> Arc<dyn Journal> {
    let found = servers.iter().filter_map(|server| store.consent(&server.id));
    Arc::new(Noted(found.map(|consent| (consent.server.clone(), consent)).collect()))
}

impl Store for Noted {
    fn servers(&self) -> Vec<ServerMemory> {
        Vec::new()
    }

    fn remember(&self, _: ServerMemory) {}

    fn forget(&self, _: &ServerId) {}

    fn consent(&self, server: &ServerId) -> Option<Consent> {
        self.0.get(server).cloned()
    }

    fn approve(&self, _: Consent) -> Result<(), String> {
        Err("a fleet of one command remembers nothing".to_owned())
    }
}

impl Ledger for Noted {
    fn spawned(&self, _: Spawned) {}

    fn gone(&self, _: &str) {}

    fn leftovers(&self) -> Vec<Spawned> {
        Vec::new()
    }
}
