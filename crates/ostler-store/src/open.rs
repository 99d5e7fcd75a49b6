//! From a folder to a database that can be used: locked, whole, of our schema.

use std::path::Path;

use ostler_telemetry::log;

use crate::database::{Database, Failure, SCHEMA};
use crate::error::OpenError;
use crate::folder::Folder;

/// The most bytes of SQLite's words about a broken file that reach the log.
const MAX_WHY: usize = 300;

/// An open database, and the folder that nobody else uses meanwhile.
pub(crate) struct Held {
    // Fields are dropped in this order: the lock goes last.
    pub(crate) database: Database,
    _folder: Folder,
}

/// Opens the database in `folder`. A broken one is moved aside and a fresh one is begun.
pub(crate) fn open(folder: &Path) -> Result<Held, OpenError> {
    let folder = Folder::take(folder)?;
    let path = folder.database()?;
    let failure = match Database::open(&path) {
        Ok(database) => return Ok(Held { database, _folder: folder }),
        Err(failure) => failure,
    };
    let Failure::Broken(why) = failure else { return Err(refusal(&path, failure)) };
    let kept = folder.move_aside()?;
    tracing::warn!(
        path = %path.display(),
        moved_to = %kept.display(),
        error = log::line(&why, MAX_WHY),
        "the database is broken and was moved aside: servers start afresh, launch lines must be approved again",
    );
    let path = folder.database()?;
    let database = Database::open(&path).map_err(|failure| refusal(&path, failure))?;
    Ok(Held { database, _folder: folder })
}

fn refusal(path: &Path, failure: Failure) -> OpenError {
    let path = path.to_owned();
    match failure {
        Failure::Busy => OpenError::Locked { path, pid: None },
        Failure::Newer(found) => OpenError::Newer { path, found, known: SCHEMA },
        Failure::Broken(_) | Failure::Sqlite(_) => OpenError::Database { path, source: Box::new(failure) },
    }
}
