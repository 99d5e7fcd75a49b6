//! The files around the database: their folder, their modes, the lock, and where a broken database goes.
//!
//! Whether a database is broken is not decided here.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// The database.
const FILE: &str = "ostler.db";
/// The lock that says who uses it. Not SQLite's own: people may look into the database while we run.
const LOCK: &str = "ostler.db.lock";
/// What SQLite keeps beside a database.
const COMPANIONS: &[&str] = &["-wal", "-shm", "-journal"];
/// How many broken databases are kept. More of them are no accident.
const MAX_BROKEN: u32 = 99;

/// A state folder that is ours as long as this lives.
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, for us alone, and takes its lock.
    pub(crate) fn take(folder: &Path) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        // SQLite refuses links in the path; one above the folder is the owner's affair.
        let path = folder.canonicalize().map_err(failed(folder))?;
        let found = fs::metadata(&path).map_err(failed(&path))?;
        if found.permissions().mode() & 0o022 != 0 {
            let why = "others can write into it: take that right away (chmod go-w), or choose another state folder";
            return Err(OpenError::Refused { path, why });
        }
        let lock = lock(&path)?;
        Ok(Self { path, lock })
    }

    /// The database's file, made if it is missing, readable by us alone.
    pub(crate) fn database(&self) -> Result<PathBuf, OpenError> {
        let path = self.path.join(FILE);
        if open_private(&path)?.metadata().map_err(failed(&path))?.len() == 0 {
            // The name of a new file is on disk before anything in the file counts on it.
            File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed(&self.path))?;
        }
        Ok(path)
    }

    /// Moves a broken database and what belongs to it aside, never over anything. Returns where it is now.
    pub(crate) fn move_aside(&self) -> Result<PathBuf, OpenError> {
        let path = self.path.join(FILE);
        let is_free = |target: &PathBuf| fs::symlink_metadata(target).is_err();
        let Some(target) = (1..=MAX_BROKEN).map(|n| with_suffix(&path, &format!(".broken-{n}"))).find(is_free) else {
            let why = "too many broken ones lie beside it: look at them and remove them";
            return Err(OpenError::Refused { path, why });
        };
        fs::rename(&path, &target).map_err(failed(&path))?;
        for suffix in COMPANIONS {
            let companion = with_suffix(&path, suffix);
            match fs::rename(&companion, with_suffix(&target, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&companion)(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(target)
    }
}

impl Drop for Folder {
    /// Closing the file is not enough: a child that is being spawned this moment shares it until it executes.
    fn drop(&mut self) {
        // If it fails, closing gives it back a moment later.
        let _ = self.lock.unlock();
    }
}

/// Takes the lock, and writes into it who we are. The system gives it back when we end, however we end.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let mut file = open_private(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&mut file).take(16).read_to_string(&mut pid);
            return Err(OpenError::Locked { path: folder.join(FILE), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed(&path))?;
    Ok(file)
}

/// Opens a file of ours, or makes it. Whatever its mode was, only we can read it afterwards.
fn open_private(path: &Path) -> Result<File, OpenError> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(OpenError::Refused { path: path.to_owned(), why: "it is not a plain file: remove it" });
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed(path))?;
    let mode = file.metadata().map_err(failed(path))?.permissions().mode();
    if mode & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed(path))?;
    }
    Ok(file)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { path: path.to_owned(), source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_given_back_although_a_child_still_shares_the_file() {
        let home = tempfile::TempDir::new().expect("a folder");
        let folder = Folder::take(home.path()).expect("it is free");
        let shared = folder.lock.try_clone().expect("a descriptor");
        assert!(matches!(Folder::take(home.path()), Err(OpenError::Locked { .. })));
        drop(folder);
        Folder::take(home.path()).expect("it is free again");
        drop(shared);
    }
}
