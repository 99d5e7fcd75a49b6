//! Why a store does not open.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a store does not open. A broken file is no reason: it is moved aside.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process of ours, or a tool that looks into the file, holds it.
    #[error("{} is in use{}: stop the other ostler, or choose another state folder", .path.display(),
        .pid.map_or(String::new(), |pid| format!(" by process {pid}")))]
    Locked {
        /// The database.
        path: PathBuf,
        /// Who has it, as far as the lock file says.
        pid: Option<u32>,
    },
    /// A later version of ours wrote the file. It is left as it is.
    #[error("{} was written by a newer ostler (schema {found}, this one knows up to {known}): run the newer one, or \
        choose another state folder", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest version that we know.
        known: i64,
    },
    /// What lies there cannot be trusted.
    #[error("{} is refused: {why}", .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A file or folder could not be made, read or renamed.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// SQLite fails, and not because the file is broken.
    #[error("cannot open the database {}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
