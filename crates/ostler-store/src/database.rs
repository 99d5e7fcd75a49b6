//! The SQLite connection: its settings, its schema, and every statement.
//!
//! Commits survive the end of our process at once (WAL, `synchronous = NORMAL`); a loss of power may take the last ones,
//! which is right for memories. Approvals are synced to the disk one by one.

use std::path::Path;
use std::time::Duration;

use ostler_core::id::ServerId;
use ostler_core::memory::{Consent, Parked, ServerMemory, Spawned};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, params};

use crate::queue::{Change, Queue};
use crate::record;

/// From an empty file to today's schema, step by step. A step that was released is never edited; a change is a new one.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_first.sql")];
/// The version of the schema that we write: `PRAGMA user_version`, the number of steps done.
#[expect(clippy::cast_possible_wrap, reason = "it is a handful")]
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// How long somebody who looks into the file may hold us up.
const BUSY: Duration = Duration::from_millis(250);
/// How many processes of earlier runs are kept. Whoever sweeps takes them away; this is for when nobody does.
const MAX_LEFTOVERS: i64 = 4096;

/// The open database.
pub(crate) struct Database(Connection);

/// Why SQLite did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The file is not a database, or a damaged one. The text is SQLite's and may hold what the file holds.
    #[error("the database is broken: {0}")]
    Broken(String),
    /// Somebody else is writing to the file.
    #[error("another program holds the database")]
    Busy,
    /// The schema is not one of ours, most likely a later one.
    #[error("the database has schema {0}")]
    Newer(i64),
    /// Anything else: no space, no rights, a failing disk.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Broken(error.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

impl Database {
    /// Opens an existing file, proves it and brings its schema up to date. A file that is refused is not changed.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // A file that turns out to be broken is kept as it was found.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;

        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        if done > MIGRATIONS.len() {
            return Err(Failure::Newer(version));
        }
        let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Failure::Broken(verdict));
        }

        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            tracing::warn!(mode, "this file system cannot keep a write-ahead log; storing is slower");
        }
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
        connection.pragma_update(None, "cache_size", -512)?; // KiB
        for (version, step) in (1_i64..).zip(MIGRATIONS).skip(done) {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(Self(connection))
    }

    /// Writes a batch, all of it or nothing.
    pub(crate) fn write(&mut self, batch: &Queue) -> Result<(), Failure> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (server, change) in &batch.servers {
            match change {
                Change::Put(memory) => put_server(&transaction, memory)?,
                Change::Gone => {
                    transaction.execute("DELETE FROM server WHERE server = ?1", [server.as_str()])?;
                    transaction.execute("DELETE FROM listing WHERE server = ?1", [server.as_str()])?;
                }
            }
        }
        for (cookie, change) in &batch.processes {
            match change {
                Change::Put(process) => put_process(&transaction, process)?,
                Change::Gone => {
                    transaction.execute("DELETE FROM spawned WHERE cookie = ?1", [cookie])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// Writes an approval. It is on the disk, not only with the system, when this returns.
    pub(crate) fn approve(&mut self, consent: &Consent) -> Result<(), Failure> {
        self.0.pragma_update(None, "synchronous", "full")?;
        let outcome = self.0.execute(
            "INSERT OR REPLACE INTO consent (server, digest, shown, at) VALUES (?1, ?2, ?3, ?4)",
            params![consent.server.as_str(), consent.digest, consent.shown, record::to_millis(consent.at)],
        );
        // If this failed, later commits would be synced, too: no harm to what has just been approved.
        let _ = self.0.pragma_update(None, "synchronous", "normal");
        outcome?;
        Ok(())
    }

    /// Every server that can be understood.
    pub(crate) fn servers(&self) -> Result<Vec<ServerMemory>, Failure> {
        let sql = "SELECT server, launch, at, failures, told, parked_state, parked_until, parked_fault, tools \
            FROM server LEFT JOIN listing USING (server) ORDER BY server";
        self.read(sql, to_server)
    }

    /// Every approval.
    pub(crate) fn consents(&self) -> Result<Vec<Consent>, Failure> {
        self.read("SELECT server, digest, shown, at FROM consent", to_consent)
    }

    /// The processes in the ledger, the latest ones if they are far too many; the others are struck out.
    pub(crate) fn processes(&self) -> Result<Vec<Spawned>, Failure> {
        let latest = "SELECT rowid FROM spawned ORDER BY rowid DESC LIMIT ?1";
        self.0.execute(&format!("DELETE FROM spawned WHERE rowid NOT IN ({latest})"), [MAX_LEFTOVERS])?;
        self.read("SELECT cookie, pid, start_ticks, boot FROM spawned ORDER BY rowid", to_process)
    }

    /// Reads rows. One that cannot be understood is left out with a warning: the others are worth more.
    fn read<T>(&self, sql: &str, parse: fn(&Row<'_>) -> Result<T, RowError>) -> Result<Vec<T>, Failure> {
        let mut statement = self.0.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            match parse(row) {
                Ok(value) => found.push(value),
                Err(RowError::Sqlite(error)) => return Err(error.into()),
                Err(RowError::Word(what)) => tracing::warn!(what, "a stored row cannot be understood and is left out"),
            }
        }
        Ok(found)
    }
}

/// Why a row was not read.
enum RowError {
    Sqlite(rusqlite::Error),
    /// This column holds what we have no word for.
    Word(&'static str),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn put_server(transaction: &Transaction<'_>, memory: &ServerMemory) -> Result<(), rusqlite::Error> {
    let parked = memory.parked.as_ref();
    transaction.execute(
        "INSERT OR REPLACE INTO server \
            (server, launch, at, failures, told, parked_state, parked_until, parked_fault) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            memory.server.as_str(),
            memory.launch,
            record::to_millis(memory.at),
            memory.failures,
            memory.told,
            parked.map(|parked| parked.state.as_str()),
            parked.and_then(|parked| parked.until).map(record::to_millis),
            parked.and_then(|parked| parked.fault.as_ref()).map(record::fault),
        ],
    )?;
    // A list that has not changed costs no write.
    transaction.execute(
        "INSERT INTO listing (server, tools) VALUES (?1, ?2) \
            ON CONFLICT (server) DO UPDATE SET tools = excluded.tools WHERE tools IS NOT excluded.tools",
        params![memory.server.as_str(), record::listing(&memory.tools)],
    )?;
    Ok(())
}

fn put_process(transaction: &Transaction<'_>, process: &Spawned) -> Result<(), rusqlite::Error> {
    transaction.execute(
        "INSERT OR REPLACE INTO spawned (cookie, pid, start_ticks, boot) VALUES (?1, ?2, ?3, ?4)",
        params![process.cookie, process.pid, process.start_ticks.cast_signed(), process.boot],
    )?;
    Ok(())
}

fn to_server(row: &Row<'_>) -> Result<ServerMemory, RowError> {
    let tools: Option<String> = row.get(8)?;
    let tools = tools.map_or(Ok(Vec::new()), |text| record::to_tools(&text)).map_err(|_| RowError::Word("tools"))?;
    Ok(ServerMemory {
        server: server_id(row)?,
        launch: row.get(1)?,
        at: record::to_time(row.get(2)?),
        failures: u32::try_from(row.get::<_, i64>(3)?).map_err(|_| RowError::Word("failures"))?,
        told: row.get(4)?,
        parked: to_parked(row)?,
        tools,
    })
}

fn to_parked(row: &Row<'_>) -> Result<Option<Parked>, RowError> {
    let Some(state) = row.get::<_, Option<String>>(5)? else { return Ok(None) };
    let until: Option<i64> = row.get(6)?;
    let fault = match row.get::<_, Option<String>>(7)? {
        Some(json) => Some(record::to_fault(&json).ok_or(RowError::Word("parked_fault"))?),
        None => None,
    };
    let state = record::to_state(&state).ok_or(RowError::Word("parked_state"))?;
    Ok(Some(Parked { state, until: until.map(record::to_time), fault }))
}

fn to_consent(row: &Row<'_>) -> Result<Consent, RowError> {
    let (digest, shown) = (row.get(1)?, row.get(2)?);
    Ok(Consent { server: server_id(row)?, digest, shown, at: record::to_time(row.get(3)?) })
}

fn to_process(row: &Row<'_>) -> Result<Spawned, RowError> {
    Ok(Spawned {
        cookie: row.get(0)?,
        pid: u32::try_from(row.get::<_, i64>(1)?).map_err(|_| RowError::Word("pid"))?,
        start_ticks: row.get::<_, i64>(2)?.cast_unsigned(),
        boot: row.get(3)?,
    })
}

fn server_id(row: &Row<'_>) -> Result<ServerId, RowError> {
    ServerId::new(&row.get::<_, String>(0)?).map_err(|_| RowError::Word("server"))
}
