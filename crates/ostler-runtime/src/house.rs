//! What all actors share: the published table, the status board, the event log, the leases and the dice.
//!
//! It outlives every actor, so that readers keep the last snapshot when one of them dies and is started again.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use ostler_core::memory::ServerMemory;
use ostler_core::port::Store;
use ostler_core::{CallId, ServerId};
use ractor::ActorRef;
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::event::EventLog;
use crate::message::FleetMsg;
use crate::route::{Published, RouteTable};
use crate::server::ServerSpec;

/// How the house is set up.
#[derive(Debug, Clone, Copy)]
pub struct HouseOptions {
    /// How many servers may start at one time.
    pub start_slots: NonZeroUsize,
    /// The seed of the jitter. Same seed, same delays.
    pub seed: u64,
}

/// What all actors share.
pub struct House {
    pub(crate) routes: Published<RouteTable>,
    pub(crate) board: Board,
    pub(crate) events: EventLog,
    pub(crate) options: HouseOptions,
    /// What the fleet should be: a new fleet actor starts from it.
    pub(crate) desired: ArcSwap<Vec<ServerSpec>>,
    /// The fleet actor that takes orders now.
    pub(crate) fleet: ArcSwapOption<ActorRef<FleetMsg>>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// What was remembered at boot and is not taken yet.
    memories: Mutex<HashMap<ServerId, ServerMemory>>,
    leases: Mutex<HashMap<ServerId, Arc<Semaphore>>>,
    dice: Mutex<fastrand::Rng>,
    calls: AtomicU64,
}

impl House {
    /// An empty house that remembers nothing.
    pub fn new(options: HouseOptions) -> Arc<Self> {
        Self::build(options, None, Vec::new())
    }

    /// A house that goes on where the last process left off. Blocks: the store is read.
    pub fn remembering(options: HouseOptions, store: Arc<dyn Store>) -> Arc<Self> {
        let memories = store.servers();
        Self::build(options, Some(store), memories)
    }

    fn build(options: HouseOptions, store: Option<Arc<dyn Store>>, memories: Vec<ServerMemory>) -> Arc<Self> {
        let memories = memories.into_iter().map(|memory| (memory.server.clone(), memory)).collect();
        Arc::new(Self {
            routes: Published::default(),
            board: Board::default(),
            events: EventLog::default(),
            desired: ArcSwap::default(),
            fleet: ArcSwapOption::empty(),
            store,
            memories: Mutex::new(memories),
            leases: Mutex::default(),
            dice: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            calls: AtomicU64::new(0),
            options,
        })
    }

    /// Says which servers the fleet begins with. A running fleet is told by [`crate::FleetHandle::reconcile`].
    pub fn want(&self, servers: Vec<ServerSpec>) {
        self.board.expect(&servers);
        self.desired.store(Arc::new(servers));
    }

    /// The one lease of a server: whoever holds its permit may exist as an incarnation.
    pub(crate) fn lease(&self, server: &ServerId) -> Arc<Semaphore> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(leases.entry(server.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// Takes what was remembered of a server at boot, if it is of the same launch line. The first who asks gets it.
    pub(crate) fn recall(&self, server: &ServerId, launch: &str) -> Option<ServerMemory> {
        let memory = self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
        memory.filter(|memory| memory.launch == launch)
    }

    /// Takes the lease from whoever holds it: the next incarnation does not wait for the end of that one.
    pub(crate) fn revoke(&self, server: &ServerId) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }

    /// The id of the next call.
    pub(crate) fn next_call(&self) -> CallId {
        CallId(self.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number from 0 to 1, for jitter.
    pub(crate) fn jitter(&self) -> f64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").field("board", &self.board).finish_non_exhaustive()
    }
}
