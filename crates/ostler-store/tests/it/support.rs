//! What the tests share: values with something in every field, and a look into the file.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ostler_core::id::ServerId;
use ostler_core::memory::{Consent, Parked, ServerMemory, Spawned};
use ostler_core::status::{DeathReason, Exit, Fault, FaultClass, ServerState};
use ostler_store::SqliteStore;
use rusqlite::Connection;
use serde_json::value::RawValue;

pub(crate) fn id(server: &str) -> ServerId {
    ServerId::new(server).expect("a name")
}

pub(crate) fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder).expect("it opens")
}

pub(crate) fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("it is JSON")
}

pub(crate) fn memory(server: &str, failures: u32) -> ServerMemory {
    ServerMemory {
        server: id(server),
        launch: "sha256:1".to_owned(),
        at: at(1_795_000_000_123),
        failures,
        told: true,
        parked: Some(Parked { state: ServerState::Backoff, until: Some(at(1_795_000_030_456)), fault: Some(fault()) }),
        tools: vec![raw("{ \"name\":\"a\", \"n\":1.0e2 }"), raw("{\"name\":\"b\"}")],
    }
}

pub(crate) fn fault() -> Fault {
    Fault {
        reason: DeathReason::Signal,
        class: FaultClass::CrashRunning,
        message: "it fell".to_owned(),
        hint: Some("lift it".to_owned()),
        exit: Some(Exit::Signal(11)),
        stderr_tail: "first\nlast \u{1f40e}".to_owned(),
    }
}

pub(crate) fn consent(server: &str, digest: &str) -> Consent {
    Consent { server: id(server), digest: digest.to_owned(), shown: "npx -y it@1.2.3".to_owned(), at: at(5) }
}

pub(crate) fn process(cookie: &str, pid: u32) -> Spawned {
    Spawned { cookie: cookie.to_owned(), pid, start_ticks: u64::MAX - 7, boot: "f00d".to_owned() }
}

/// A memory as a text that says everything of it: raw JSON cannot be compared.
pub(crate) fn told(memory: &ServerMemory) -> String {
    format!("{memory:?}")
}

/// What `sqlite3` would say.
pub(crate) fn look<T: rusqlite::types::FromSql>(folder: &Path, sql: &str) -> T {
    let connection = Connection::open(folder.join("ostler.db")).expect("a database");
    connection.query_row(sql, [], |row| row.get(0)).expect("one row")
}
