//! What waits to be written: of each server and of each process only the newest.
//!
//! A bounded buffer without a thread: pushing never waits for the disk, and what cannot be taken is said.

use std::collections::BTreeMap;

use ostler_core::id::ServerId;
use ostler_core::memory::{ServerMemory, Spawned};
use serde_json::value::RawValue;

/// The most bytes of one server's list that are stored.
pub(crate) const MAX_LISTING: usize = 4 << 20;
/// The most bytes of lists that wait.
const MAX_WAITING: usize = 64 << 20;
/// The most servers that wait, and the most processes.
const MAX_KEYS: usize = 1024;

/// What becomes of a row.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// It is this now.
    Put(T),
    /// It is no more.
    Gone,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) servers: BTreeMap<ServerId, Change<ServerMemory>>,
    pub(crate) processes: BTreeMap<String, Change<Spawned>>,
    /// The bytes of all lists in `servers`.
    bytes: usize,
}

/// How much of a push was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All of it.
    Whole,
    /// All but the list of tools, which is too big.
    WithoutTools,
    /// Nothing: too much waits.
    Nothing,
}

impl Queue {
    /// Takes what is known of a server, in place of what waits of it.
    pub(crate) fn remember(&mut self, mut memory: ServerMemory) -> Taken {
        let size = listing_size(&memory.tools);
        let rest = self.bytes - self.servers.get(&memory.server).map_or(0, Change::size);
        let is_fine = size <= MAX_LISTING && rest + size <= MAX_WAITING;
        if !is_fine {
            memory.tools = Vec::new();
        }
        let taken = self.server(memory.server.clone(), Change::Put(memory));
        if taken == Taken::Whole && !is_fine { Taken::WithoutTools } else { taken }
    }

    /// Takes that a server is to be forgotten.
    pub(crate) fn forget(&mut self, server: ServerId) -> Taken {
        self.server(server, Change::Gone)
    }

    /// Takes what became of a process.
    pub(crate) fn process(&mut self, cookie: String, change: Change<Spawned>) -> Taken {
        if self.processes.len() >= MAX_KEYS && !self.processes.contains_key(&cookie) {
            return Taken::Nothing;
        }
        self.processes.insert(cookie, change);
        Taken::Whole
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows wait.
    pub(crate) fn len(&self) -> usize {
        self.servers.len() + self.processes.len()
    }

    /// Takes a batch back that was not written. What has come since is newer and stays.
    pub(crate) fn put_back(&mut self, batch: Self) {
        for (server, change) in batch.servers {
            if !self.servers.contains_key(&server) {
                self.bytes += change.size();
                self.servers.insert(server, change);
            }
        }
        for (cookie, change) in batch.processes {
            self.processes.entry(cookie).or_insert(change);
        }
    }

    fn server(&mut self, server: ServerId, change: Change<ServerMemory>) -> Taken {
        if self.servers.len() >= MAX_KEYS && !self.servers.contains_key(&server) {
            return Taken::Nothing;
        }
        self.bytes += change.size();
        if let Some(older) = self.servers.insert(server, change) {
            self.bytes -= older.size();
        }
        Taken::Whole
    }
}

impl Change<ServerMemory> {
    fn size(&self) -> usize {
        match self {
            Self::Put(memory) => listing_size(&memory.tools),
            Self::Gone => 0,
        }
    }
}

fn listing_size(tools: &[Box<RawValue>]) -> usize {
    tools.iter().map(|tool| tool.get().len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn memory(server: &str, failures: u32, tools: &[usize]) -> ServerMemory {
        let tool = |length: &usize| RawValue::from_string(format!("\"{}\"", "x".repeat(length - 3))).expect("a string");
        ServerMemory {
            server: ServerId::new(server).expect("a name"),
            launch: String::new(),
            at: SystemTime::UNIX_EPOCH,
            failures,
            told: false,
            parked: None,
            tools: tools.iter().map(tool).collect(),
        }
    }

    fn failures(queue: &Queue, server: &str) -> Option<u32> {
        match queue.servers.get(server)? {
            Change::Put(memory) => Some(memory.failures),
            Change::Gone => None,
        }
    }

    #[test]
    fn of_a_server_only_the_newest_waits() {
        let mut queue = Queue::default();
        for count in 1..=9 {
            assert_eq!(queue.remember(memory("a", count, &[100])), Taken::Whole);
        }
        assert_eq!((queue.len(), queue.bytes, failures(&queue, "a")), (1, 100, Some(9)));
        assert_eq!(queue.forget(ServerId::new("a").expect("a name")), Taken::Whole);
        assert_eq!((queue.len(), queue.bytes, failures(&queue, "a")), (1, 0, None));
    }

    #[test]
    fn a_batch_that_comes_back_does_not_replace_what_is_newer() {
        let mut queue = Queue::default();
        queue.remember(memory("a", 1, &[100]));
        queue.remember(memory("b", 1, &[100]));
        let batch = std::mem::take(&mut queue);
        queue.remember(memory("a", 2, &[50]));
        queue.put_back(batch);
        assert_eq!((failures(&queue, "a"), failures(&queue, "b"), queue.bytes), (Some(2), Some(1), 150));
    }

    #[test]
    fn a_list_that_is_too_big_is_left_out_and_the_rest_is_taken() {
        let mut queue = Queue::default();
        assert_eq!(queue.remember(memory("a", 1, &[MAX_LISTING])), Taken::Whole);
        assert_eq!(queue.remember(memory("a", 2, &[MAX_LISTING - 10, 11])), Taken::WithoutTools);
        assert_eq!((failures(&queue, "a"), queue.bytes), (Some(2), 0));
    }

    #[test]
    fn all_that_waits_has_a_bound_in_bytes() {
        let mut queue = Queue::default();
        let full = MAX_WAITING / MAX_LISTING;
        for number in 0..full {
            assert_eq!(queue.remember(memory(&format!("s{number}"), 1, &[MAX_LISTING])), Taken::Whole);
        }
        assert_eq!(queue.remember(memory("more", 7, &[10])), Taken::WithoutTools);
        assert_eq!(failures(&queue, "more"), Some(7));
        assert_eq!(queue.remember(memory("s0", 2, &[MAX_LISTING])), Taken::Whole, "it takes its own place");
    }

    #[test]
    fn when_it_is_full_known_keys_are_still_taken() {
        let mut queue = Queue::default();
        for number in 0..MAX_KEYS {
            assert_eq!(queue.remember(memory(&format!("s{number}"), 1, &[])), Taken::Whole);
            assert_eq!(queue.process(format!("c{number}"), Change::Gone), Taken::Whole);
        }
        assert_eq!(queue.remember(memory("more", 1, &[])), Taken::Nothing);
        assert_eq!(queue.forget(ServerId::new("more").expect("a name")), Taken::Nothing);
        assert_eq!(queue.process("more".to_owned(), Change::Gone), Taken::Nothing);
        assert_eq!(queue.remember(memory("s7", 2, &[])), Taken::Whole);
        assert_eq!(queue.process("c7".to_owned(), Change::Gone), Taken::Whole);
        assert_eq!((failures(&queue, "s7"), queue.len()), (Some(2), 2 * MAX_KEYS));
    }
}
