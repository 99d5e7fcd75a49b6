//! What happens while the disk is slow, held by others or gone: the store from inside, with the database's lock in hand.

use std::time::SystemTime;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

fn id(server: &str) -> ServerId {
    ServerId::new(server).expect("a name")
}

fn memory(server: &str, failures: u32) -> ServerMemory {
    ServerMemory {
        server: id(server),
        launch: "l".to_owned(),
        at: SystemTime::UNIX_EPOCH,
        failures,
        told: false,
        parked: None,
        tools: Vec::new(),
    }
}

fn process(cookie: &str) -> Spawned {
    Spawned { cookie: cookie.to_owned(), pid: 1, start_ticks: 2, boot: "b".to_owned() }
}

fn failures(store: &SqliteStore) -> Vec<(String, u32)> {
    store.servers().into_iter().map(|memory| (memory.server.to_string(), memory.failures)).collect()
}

/// Somebody who looks into the file and holds it.
fn holder(folder: &TempDir) -> Connection {
    let connection = Connection::open(folder.path().join("ostler.db")).expect("a database");
    connection.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    connection
}

#[test]
fn pushing_does_not_wait_for_the_disk_and_the_newest_is_written() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    let held = lock(&store.shared.held);
    for count in 1..=1000 {
        store.remember(memory("a", count));
        store.spawned(process(&format!("c{}", count % 2)));
    }
    store.remember(memory("b", 1));
    store.forget(&id("b"));
    store.gone("c0");
    assert_eq!(store.shared.inbox().queue.len(), 4, "two servers and two processes");
    drop(held);
    assert_eq!(failures(&store), [("a".to_owned(), 1000)]);
    assert!(store.shared.inbox().queue.is_empty());
    drop(store);
    let store = SqliteStore::open(folder.path()).expect("it opens");
    assert_eq!(store.leftovers(), [process("c1")]);
}

#[test]
fn what_cannot_be_written_waits_and_is_written_later() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    let holder = holder(&folder);
    store.remember(memory("a", 1));
    store.remember(memory("b", 1));
    assert!(matches!(store.shared.write(), Err(Failure::Busy)));
    store.remember(memory("a", 2));
    assert!(matches!(store.shared.write(), Err(Failure::Busy)));
    assert_eq!(store.shared.inbox().queue.len(), 2);
    let consent =
        Consent { server: id("a"), digest: "d".to_owned(), shown: "s".to_owned(), at: SystemTime::UNIX_EPOCH };
    assert!(store.approve(consent).is_err(), "an approval that is not on the disk is none");
    assert_eq!(store.consent(&id("a")), None);
    holder.execute_batch("COMMIT").expect("it held it");
    drop(store);
    let store = SqliteStore::open(folder.path()).expect("it opens");
    assert_eq!(failures(&store), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn closing_does_not_wait_for_a_disk_that_never_answers() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    let held = lock(&store.shared.held);
    store.remember(memory("a", 1));
    store.close();
    assert!(store.shared.inbox().stage == Stage::Closing, "it came back although the writer did not");
    drop(held);
    store.close();
    assert!(store.shared.inbox().stage == Stage::Ended);
    let store = SqliteStore::open(folder.path()).expect("the file was given back");
    assert_eq!(failures(&store), [("a".to_owned(), 1)], "the writer came to its end after all");
}

#[test]
fn what_cannot_be_written_at_the_end_is_given_up() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    let holder = holder(&folder);
    store.remember(memory("a", 1));
    store.close();
    assert!(store.shared.inbox().stage == Stage::Ended, "one try at the end and no more");
    holder.execute_batch("COMMIT").expect("it held it");
    let store = SqliteStore::open(folder.path()).expect("the file was given back");
    assert_eq!(failures(&store), []);
}

#[test]
fn a_closed_store_answers_and_takes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    store.remember(memory("a", 1));
    store.close();
    store.remember(memory("a", 2));
    assert_eq!(failures(&store), []);
    let consent =
        Consent { server: id("a"), digest: "d".to_owned(), shown: "s".to_owned(), at: SystemTime::UNIX_EPOCH };
    assert_eq!(store.approve(consent), Err("the store is closed".to_owned()));
    let next = SqliteStore::open(folder.path()).expect("the file was given back");
    assert_eq!(failures(&next), [("a".to_owned(), 1)]);
}

#[test]
fn a_writer_that_panics_gives_the_file_back() {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("it opens");
    drop(lock(&store.shared.held).take());
    store.remember(memory("a", 1));
    store.close();
    assert!(store.shared.inbox().stage == Stage::Ended);
    SqliteStore::open(folder.path()).expect("the file was given back");
}
