//! What is stored comes back as it was.

use ostler_core::memory::{Parked, ServerMemory};
use ostler_core::port::{Ledger, Store};
use ostler_core::status::ServerState;
use tempfile::TempDir;

use crate::support::{at, consent, id, look, memory, open, process, raw, told};

/// Stores in one life, reads in the next.
fn check(memories: &[ServerMemory]) {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    for memory in memories {
        store.remember(memory.clone());
    }
    let expected: Vec<_> = memories.iter().map(told).collect();
    assert_eq!(store.servers().iter().map(told).collect::<Vec<_>>(), expected, "in the same life");
    drop(store);
    assert_eq!(open(folder.path()).servers().iter().map(told).collect::<Vec<_>>(), expected, "in the next");
}

#[test]
fn a_memory_comes_back_whole_and_its_tools_byte_for_byte() {
    check(&[]);
    check(&[memory("a", 3), memory("b", u32::MAX)]);
    check(&[ServerMemory { parked: None, tools: Vec::new(), told: false, ..memory("a", 0) }]);
    for &state in ServerState::ALL {
        check(&[ServerMemory { parked: Some(Parked { state, until: None, fault: None }), ..memory("a", 1) }]);
    }
    let odd = ["{\n \"a\" : \"\\u0000 \u{e9}\" }", "1e999", "{\"a\":1,\"a\":2}", "[[[[]]]]"];
    check(&[ServerMemory { tools: odd.iter().map(|json| raw(json)).collect(), ..memory("a", 1) }]);
}

#[test]
fn a_clock_that_goes_back_does_not_keep_an_older_memory() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    store.remember(ServerMemory { at: at(9_000), ..memory("a", 1) });
    assert_eq!(store.servers().len(), 1);
    let later = ServerMemory { at: at(10), ..memory("a", 2) };
    store.remember(later.clone());
    drop(store);
    assert_eq!(open(folder.path()).servers().iter().map(told).collect::<Vec<_>>(), [told(&later)]);
}

#[test]
fn a_forgotten_server_is_gone_and_its_approval_stays() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    store.remember(memory("a", 1));
    store.remember(memory("b", 1));
    store.approve(consent("a", "1")).expect("it is stored");
    assert_eq!(store.servers().len(), 2);
    store.forget(&id("a"));
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.servers().iter().map(told).collect::<Vec<_>>(), [told(&memory("b", 1))]);
    assert_eq!(store.consent(&id("a")), Some(consent("a", "1")));
    assert_eq!(look::<i64>(folder.path(), "SELECT count(*) FROM listing"), 1);
}

#[test]
fn the_last_approval_of_a_server_is_the_one() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    assert_eq!(store.consent(&id("a")), None);
    for digest in ["1", "2"] {
        store.approve(consent("a", digest)).expect("it is stored");
        assert_eq!(look::<String>(folder.path(), "SELECT digest FROM consent"), digest, "before anything is closed");
        assert_eq!(store.consent(&id("a")), Some(consent("a", digest)));
    }
    drop(store);
    let store = open(folder.path());
    assert_eq!((store.consent(&id("a")), store.consent(&id("b"))), (Some(consent("a", "2")), None));
}

#[test]
fn the_ledger_tells_of_earlier_processes_until_they_are_gone() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    for (cookie, pid) in [("x", 1), ("y", u32::MAX), ("z", 3)] {
        store.spawned(process(cookie, pid));
    }
    store.gone("z");
    assert_eq!(store.leftovers(), [], "these are our own");
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.leftovers(), [process("x", 1), process("y", u32::MAX)]);
    store.gone("x");
    store.spawned(process("own", 9));
    assert_eq!(store.leftovers(), [process("y", u32::MAX)]);
    drop(store);
    assert_eq!(open(folder.path()).leftovers(), [process("y", u32::MAX), process("own", 9)]);
}

#[test]
fn a_list_above_the_cap_is_not_stored_and_the_rest_is() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    store.remember(memory("a", 1));
    assert_eq!(store.servers().len(), 1);
    let big = raw(&format!("\"{}\"", "x".repeat(4 << 20)));
    store.remember(ServerMemory { tools: vec![big], ..memory("a", 2) });
    let expected = ServerMemory { tools: Vec::new(), ..memory("a", 2) };
    assert_eq!(store.servers().iter().map(told).collect::<Vec<_>>(), [told(&expected)], "nor is the older list kept");
}
