//! What the fleet says during a run, with the time at which it was heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ostler::app::App;
use ostler_core::ServerState;
use ostler_core::status::What;
use tokio::task::JoinHandle;

/// One change of a server's state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) at: Instant,
    /// The index of the server.
    pub(super) server: usize,
    pub(super) to: ServerState,
}

/// Everything heard so far.
pub(super) struct Watch {
    heard: Arc<Mutex<Heard>>,
    listener: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    changes: Vec<Change>,
    missed: u64,
}

impl Watch {
    /// Listens from now on. `ids` are the servers in the order of their indices.
    pub(super) fn begin(app: &App, ids: impl Iterator<Item = String>) -> Self {
        let mut events = app.fleet().events().subscribe();
        let index: BTreeMap<String, usize> = ids.zip(0..).collect();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let kept = Arc::clone(&heard);
        let listener = tokio::spawn(async move {
            loop {
                let entry = events.next().await;
                let at = Instant::now();
                let mut heard = kept.lock().expect("no holder panics");
                match entry {
                    ostler_runtime::Entry::Gap { missed } => heard.missed += missed,
                    ostler_runtime::Entry::Event(event) => {
                        if let (What::State { to, .. }, Some(server)) = (&event.what, index.get(event.server.as_str()))
                        {
                            heard.changes.push(Change { at, server: *server, to: *to });
                        }
                    }
                }
            }
        });
        Self { heard, listener }
    }

    /// All changes, and how many events were missed.
    pub(super) fn end(self) -> (Vec<Change>, u64) {
        self.listener.abort();
        let mut heard = self.heard.lock().expect("no holder panics");
        (std::mem::take(&mut heard.changes), heard.missed)
    }
}
