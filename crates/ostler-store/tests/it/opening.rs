//! Which files are taken, refused or moved aside, and who may read them.

use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ostler_core::port::{Ledger, Store};
use ostler_store::{OpenError, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{consent, id, look, memory, open, process, told};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn refusal(folder: &Path) -> OpenError {
    match SqliteStore::open(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// A folder with something of everything in it.
fn filled() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    for number in 0..50 {
        store.remember(memory(&format!("s{number}"), number));
    }
    store.spawned(process("x", 1));
    store.approve(consent("a", "1")).expect("it is stored");
    folder
}

fn scribble(path: &Path, from: u64, length: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
    file.seek(SeekFrom::Start(from)).expect("a file");
    file.write_all(&vec![0x5a; length]).expect("space");
}

#[test]
fn nobody_else_can_read_what_is_stored() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path().join("deep/state");
    let store = open(&folder);
    store.remember(memory("a", 1));
    assert_eq!(store.servers().len(), 1);
    assert_eq!(mode(&folder), 0o700);
    for file in ["ostler.db", "ostler.db-wal", "ostler.db-shm", "ostler.db.lock"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    drop(store);
    fs::set_permissions(folder.join("ostler.db"), Permissions::from_mode(0o644)).expect("it is ours");
    let _store = open(&folder);
    assert_eq!(mode(&folder.join("ostler.db")), 0o600, "a mode that was too wide is narrowed");
}

#[test]
fn a_place_that_others_control_is_refused() {
    let check = |prepare: fn(&Path)| {
        let folder = TempDir::new().expect("a folder");
        prepare(folder.path());
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    };
    check(|folder| fs::set_permissions(folder, Permissions::from_mode(0o770)).expect("it is ours"));
    check(|folder| fs::set_permissions(folder, Permissions::from_mode(0o1777)).expect("it is ours"));
    check(|folder| symlink("elsewhere", folder.join("ostler.db")).expect("a link"));
    check(|folder| symlink("elsewhere", folder.join("ostler.db.lock")).expect("a link"));
    check(|folder| fs::create_dir(folder.join("ostler.db")).expect("a folder"));
}

#[test]
fn a_folder_behind_a_link_is_fine() {
    let folder = filled();
    let home = TempDir::new().expect("a folder");
    let link = home.path().join("state");
    symlink(folder.path(), &link).expect("a link");
    assert_eq!(open(&link).servers().len(), 50);
}

#[test]
fn a_second_store_on_the_same_folder_is_told_who_has_it() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path());
    let error = refusal(folder.path());
    let us = std::process::id();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == us), "{error}");
    assert!(error.to_string().contains(&format!("is in use by process {us}")), "{error}");
    store.remember(memory("a", 1));
    drop(store);
    assert_eq!(open(folder.path()).servers().len(), 1);
}

#[test]
fn a_file_that_another_program_holds_is_locked_and_not_broken() {
    let folder = filled();
    let holder = Connection::open(folder.path().join("ostler.db")).expect("a database");
    holder.pragma_update(None, "locking_mode", "exclusive").expect("it takes it");
    holder.execute_batch("BEGIN IMMEDIATE; COMMIT").expect("nobody else is there");
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Locked { pid: None, .. }), "{error}");
    drop(holder);
    assert_eq!(open(folder.path()).servers().len(), 50);
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let folder = filled();
    let path = folder.path().join("ostler.db");
    let connection = Connection::open(&path).expect("a database");
    let ours: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
    connection.pragma_update(None, "user_version", ours + 1).expect("it is ours");
    connection.close().expect("it closes");
    let before = fs::read(&path).expect("it is there");
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Newer { found, known, .. } if found == ours + 1 && known == ours), "{error}");
    assert!(error.to_string().contains("newer ostler"), "{error}");
    assert_eq!(fs::read(&path).expect("it is there"), before);
}

#[test]
fn a_broken_file_is_moved_aside_whole_and_a_fresh_one_is_begun() {
    let check = |name: &str, damage: fn(&Path)| {
        let folder = filled();
        let path = folder.path().join("ostler.db");
        for n in 1..=2 {
            damage(&path);
            let damaged = fs::read(&path).expect("it is there");
            let store = open(folder.path());
            assert_eq!(store.servers().len(), 0, "{name}");
            assert_eq!((store.leftovers(), store.consent(&id("a"))), (Vec::new(), None), "{name}");
            let aside = folder.path().join(format!("ostler.db.broken-{n}"));
            assert_eq!(fs::read(&aside).expect("it was kept"), damaged, "{name}, for the time number {n}");
            assert_eq!(mode(&aside), 0o600, "{name}");
            store.remember(memory("a", 7));
            drop(store);
            assert_eq!(open(folder.path()).servers().iter().map(told).collect::<Vec<_>>(), [told(&memory("a", 7))]);
        }
    };
    check("not a database", |path| fs::write(path, "this is not a database, and it is long enough").expect("ours"));
    check("the head is gone", |path| scribble(path, 0, 100));
    check("the schema is gone", |path| scribble(path, 100, 3000));
    check("a page is gone", |path| {
        scribble(path, 4096, 4096);
    });
    check("the end is gone", |path| {
        let file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
        file.set_len(file.metadata().expect("a file").len() - 4096).expect("it shrinks");
    });
}

#[test]
fn what_lies_beside_a_broken_file_goes_with_it() {
    let folder = filled();
    let path = folder.path().join("ostler.db");
    fs::write(&path, "this is not a database, and it is long enough").expect("ours");
    fs::write(folder.path().join("ostler.db-wal"), "its log").expect("ours");
    assert_eq!(open(folder.path()).servers().len(), 0);
    assert_eq!(fs::read(folder.path().join("ostler.db.broken-1-wal")).expect("it was kept"), b"its log");
}

#[test]
fn an_empty_file_is_a_fresh_one() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("ostler.db"), "").expect("ours");
    assert_eq!(open(folder.path()).servers().len(), 0);
    assert!(!folder.path().join("ostler.db.broken-1").exists());
}

#[test]
fn a_row_that_cannot_be_understood_costs_only_itself() {
    let folder = filled();
    let connection = Connection::open(folder.path().join("ostler.db")).expect("a database");
    let sql = "UPDATE server SET parked_state = 'asleep' WHERE server = 's1'; \
        UPDATE server SET parked_fault = '{' WHERE server = 's2'; \
        UPDATE server SET failures = -1 WHERE server = 's3'; \
        UPDATE server SET server = 's 4' WHERE server = 's4'; \
        UPDATE listing SET tools = 'x' WHERE server = 's5'; \
        UPDATE spawned SET pid = -1; \
        UPDATE consent SET server = ''";
    connection.execute_batch(sql).expect("it is ours");
    drop(connection);
    let store = open(folder.path());
    assert_eq!(store.servers().len(), 45);
    assert_eq!((store.leftovers(), store.consent(&id("a"))), (Vec::new(), None));
}

#[test]
fn a_ledger_that_nobody_sweeps_stays_small() {
    let folder = filled();
    let connection = Connection::open(folder.path().join("ostler.db")).expect("a database");
    let sql = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
        INSERT INTO spawned SELECT 'c' || i, i, i, 'b' FROM n";
    connection.execute_batch(sql).expect("it is ours");
    drop(connection);
    let leftovers = open(folder.path()).leftovers();
    assert_eq!((leftovers.len(), leftovers.last().map(|process| process.pid)), (4096, Some(5000)));
    assert_eq!(look::<i64>(folder.path(), "SELECT count(*) FROM spawned"), 4096);
}
