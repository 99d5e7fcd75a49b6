//! The published snapshot: the merged namespace and the dispatch table, immutable, read without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ostler_core::tool::OfferedTool;
use ostler_core::{Incarnation, NameTrie, RawName, ServerId};
use ostler_telemetry::record::ToolCounters;

use crate::lane::Lane;

/// One version of the namespace.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Exact name -> route. Knows prefixes: who owns one, what is under it, how many tools a server has.
    pub(crate) routes: NameTrie<Arc<Route>>,
    /// `server__` -> the server's lane, whether its tools are known or not.
    pub(crate) lanes: NameTrie<Arc<Lane>>,
    /// All tools in their stable order: configuration order, then name.
    pub(crate) tools: Arc<[OfferedTool]>,
    /// Counts the versions in which `tools` changed.
    pub(crate) generation: u64,
}

/// Where a name leads.
pub(crate) struct Route {
    pub(crate) lane: Arc<Lane>,
    /// The incarnation that the definition was listed by; the lane knows which one lives.
    pub(crate) incarnation: Incarnation,
    pub(crate) raw: RawName,
    pub(crate) counters: Arc<ToolCounters>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("incarnation", &self.incarnation).field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl RouteTable {
    /// All tools, in their stable order.
    pub fn tools(&self) -> Arc<[OfferedTool]> {
        Arc::clone(&self.tools)
    }

    /// Counts the versions in which the tools changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many tools are offered under `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.routes.count(prefix)
    }

    /// The server that owns `name`'s prefix, if one does.
    pub fn owner(&self, name: &str) -> Option<&ServerId> {
        self.lanes.longest_match(name).map(|(_, lane)| lane.server())
    }
}

/// A value that one writer replaces and everybody reads without waiting.
#[derive(Debug, Default)]
pub(crate) struct Published<T>(ArcSwap<T>);

impl<T> Published<T> {
    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}
