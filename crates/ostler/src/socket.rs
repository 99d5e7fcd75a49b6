//! The Unix socket: where it is, who may bind it, who may come in, and how to find out that nobody is there.
//!
//! A lock file beside the socket says that a daemon lives: the kernel lets go of it with the process, whatever its end was.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::config::default_socket;
use crate::http::serve::Door;

/// The longest path of a socket, in bytes: the kernel takes 107, and one suffix must fit while it is being bound.
const MAX_PATH: usize = 103;

/// How long connecting may take. A daemon that does not accept within it is stuck.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon holds it.
    #[error("a daemon already runs on {}{}; end it first, or choose another socket with --socket", .path.display(), .pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Running {
        /// The socket.
        path: PathBuf,
        /// The daemon, as its lock file says.
        pid: Option<u32>,
    },
    /// The path is too long for the kernel.
    #[error("the socket's path {} has more than {MAX_PATH} bytes; choose a shorter one with --socket", .0.display())]
    TooLong(PathBuf),
    /// Something else is where the socket should be.
    #[error("{} exists and is not a socket; move it away or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The folder is not safe.
    #[error("the folder {} is not safe for a socket: {why}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refuses.
    #[error("{} cannot be made: {source}; choose another place with --socket", .path.display())]
    Io {
        /// The path of what cannot be made.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bound socket. Dropping it removes the socket's file.
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    claim: Claim,
}

/// The right to be the daemon of a socket. The next one is let in when the last clone is dropped, or with our process.
#[derive(Debug, Clone)]
pub struct Claim(#[expect(dead_code, reason = "locked as long as it is open")] Arc<File>);

impl Bound {
    /// Binds `path` for this user alone. A socket that a dead daemon left is replaced. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(BindError::TooLong(path.to_owned()));
        }
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        prepare_folder(path)?;
        let lock = take_lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
            // We hold the lock, so whoever still answers here is something else.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(BindError::Running { path: path.to_owned(), pid: None });
            }
            Ok(_) | Err(_) => {}
        }
        // Bound beside its place and moved there with its final mode: at its own name it was never open to others.
        let fresh = with_suffix(path, ".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&fresh, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), claim: Claim(Arc::new(lock)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the next daemon out also after the socket is closed, while the servers of this one still end.
    pub fn claim(&self) -> Claim {
        self.claim.clone()
    }
}

impl Door for Bound {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if may_speak(peer) {
                return Ok(stream);
            }
            tracing::warn!(peer, "another user's connection to the socket was refused");
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Why there is no connection to a daemon.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody is there.
    #[error("no daemon on {}", .0.display())]
    NoDaemon(PathBuf),
    /// Somebody else is there.
    #[error("the socket {} belongs to another user (uid {uid})", .path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// The system refuses, or the daemon does not accept.
    #[error("the daemon on {} cannot be reached: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Connects to a daemon of this user or of root. A missing daemon is known at once. Cancel-safe.
pub async fn join(path: &Path) -> Result<UnixStream, JoinError> {
    let failed = |source: io::Error| {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        if matches!(source.kind(), NotFound | ConnectionRefused | NotADirectory) {
            return JoinError::NoDaemon(path.to_owned());
        }
        JoinError::Io { path: path.to_owned(), source }
    };
    let stream = timeout(CONNECT_TIME, UnixStream::connect(path))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let uid = stream.peer_cred().map_err(failed)?.uid();
    if may_speak(uid) { Ok(stream) } else { Err(JoinError::Foreign { path: path.to_owned(), uid }) }
}

/// Whether a user is ourselves or root.
fn may_speak(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Makes the folder, for us alone. One that exists must not let others put something else in the socket's place.
fn prepare_folder(path: &Path) -> Result<(), BindError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let failed = |source| BindError::Io { path: folder.to_owned(), source };
    let refuse = |why| Err(BindError::Folder { folder: folder.to_owned(), why });
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let is_default = path == default_socket();
    // The default folder may lie where everybody can write: a link there is somebody's trick.
    let found = if is_default { fs::symlink_metadata(folder) } else { fs::metadata(folder) }.map_err(failed)?;
    if !found.is_dir() {
        return refuse("it is not a folder");
    }
    if !may_speak(found.uid()) {
        return refuse("it belongs to another user");
    }
    let is_sticky = found.mode() & 0o1000 != 0;
    if is_default && found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
    } else if !is_default && found.mode() & 0o022 != 0 && !is_sticky {
        return refuse("others can write into it");
    }
    Ok(())
}

/// Takes the lock that says that we live. Errors: `Running` with the pid of who has it.
fn take_lock(path: &Path) -> Result<File, BindError> {
    let lock_path = with_suffix(path, ".lock");
    let failed = |source| BindError::Io { path: lock_path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&mut file).take(16).read_to_string(&mut pid);
            return Err(BindError::Running { path: path.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it exists").mode() & 0o777
    }

    #[tokio::test]
    async fn the_folder_is_0700_and_the_socket_0600_and_both_serve_their_owner() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("run/ostler/ostler.sock");
        let mut bound = Bound::bind(&path).expect("it binds");
        assert_eq!(mode(path.parent().expect("a folder")), 0o700);
        assert_eq!(mode(&path), 0o600);
        let (accepted, joined) = tokio::join!(bound.accept(), join(&path));
        assert!(accepted.is_ok());
        assert!(joined.is_ok());
    }

    #[tokio::test]
    async fn a_second_daemon_is_told_who_runs() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.sock");
        let _first = Bound::bind(&path).expect("it binds");
        let error = Bound::bind(&path).err().expect("refused").to_string();
        assert_eq!(
            error,
            format!(
                "a daemon already runs on {} (pid {}); end it first, or choose another socket with --socket",
                path.display(),
                std::process::id()
            )
        );
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_replaced() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody serves"));
        assert!(matches!(join(&path).await, Err(JoinError::NoDaemon(_))));
        let _bound = Bound::bind(&path).expect("replaced");
        assert!(join(&path).await.is_ok());
    }

    #[tokio::test]
    async fn an_ended_daemon_leaves_no_socket_and_lets_the_next_one_in() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.sock");
        drop(Bound::bind(&path).expect("it binds"));
        assert!(!path.exists());
        assert!(matches!(join(&path).await, Err(JoinError::NoDaemon(_))));
        assert!(Bound::bind(&path).is_ok());
    }

    #[tokio::test]
    async fn a_daemon_that_still_ends_its_servers_keeps_the_next_one_out() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.sock");
        let bound = Bound::bind(&path).expect("it binds");
        let claim = bound.claim();
        drop(bound);
        assert!(matches!(Bound::bind(&path), Err(BindError::Running { .. })));
        drop(claim);
        assert!(Bound::bind(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_socket_s_place_is_not_touched() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(Bound::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[tokio::test]
    async fn a_folder_that_others_can_write_into_is_refused() {
        let home = tempfile::tempdir().expect("a folder");
        fs::set_permissions(home.path(), Permissions::from_mode(0o777)).expect("opened");
        assert!(matches!(Bound::bind(&home.path().join("ostler.sock")), Err(BindError::Folder { .. })));
    }

    #[tokio::test]
    async fn a_path_too_long_for_the_kernel_is_said_to_be() {
        let path = Path::new("/tmp").join("x".repeat(MAX_PATH));
        assert!(matches!(Bound::bind(&path), Err(BindError::TooLong(_))));
    }
}
