//! The daemon's end of one reaper process: starting it, its socket, its end. Decides nothing.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::wire::{Fact, Inbox, VERSION};
use super::{FAILED, NAME, SOCKET, SOFT_LIMIT};
use crate::environment;
use crate::init::Own;
use crate::spawn::StartError;

/// How long a new reaper may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long a program that closed its socket may take to end.
const END: Duration = Duration::from_secs(2);
/// How long the socket may refuse an order.
const SEND: Duration = Duration::from_secs(10);

pub(super) struct Link {
    stream: UnixStream,
    process: Child,
    pid: u32,
    own: Own,
    inbox: Inbox,
}

impl Link {
    /// Starts a reaper and waits for its hello.
    pub(super) async fn start(program: &Path, soft_limit: Option<u64>) -> Result<Self, StartError> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command
            .arg0(NAME)
            .env_clear()
            .env(SOCKET, "0")
            .envs(soft_limit.map(|limit| (SOFT_LIMIT, limit.to_string())))
            // What the loader needs to find our libraries, and the mark of a supervisor above us.
            .envs(
                ["LD_LIBRARY_PATH", environment::COOKIE]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn()?;
        // The command holds the reaper's end of the socket; kept, it would hide the reaper's death.
        drop(command);
        let pid = process.id().expect("a child that nobody waited for has its number");
        let stream = UnixStream::from_std(ours)?;
        let mut link = Self { stream, process, pid, own: Own::new(pid), inbox: Inbox::default() };
        let problem = match timeout(HELLO, link.next()).await {
            Ok(Ok(Some(Fact::Hello { version: VERSION }))) => return Ok(link),
            Ok(Ok(Some(_))) => StartError::Unfit("it is of another version"),
            Ok(Ok(None) | Err(_)) => link.explain_end().await,
            Err(_) => StartError::System(io::Error::other("it did not say hello")),
        };
        link.kill();
        link.wait().await;
        Err(problem)
    }

    /// Why a program that said nothing has left: a reaper leaves so only if it is killed or fails.
    async fn explain_end(&mut self) -> StartError {
        match timeout(END, self.process.wait()).await {
            Ok(Ok(status)) if status.code().is_none_or(|code| code == FAILED) => {
                StartError::System(io::Error::other(format!("it ended at once: {status}")))
            }
            _ => StartError::Unfit("it ended at once: its main does not call reaper::intercept() first"),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one record, with descriptors beside its first byte. Errors: the reaper is gone, or does not read.
    pub(super) async fn send(&self, record: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        timeout(SEND, async {
            let mut sent = 0;
            while sent < record.len() {
                let controls = if sent == 0 && !numbers.is_empty() { &rights[..] } else { &[] };
                let write = || {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    let slices = [IoSlice::new(&record[sent..])];
                    loop {
                        match sendmsg::<()>(self.stream.as_raw_fd(), &slices, controls, flags, None) {
                            Err(Errno::EINTR) => {}
                            sent => return Ok(sent?),
                        }
                    }
                };
                sent += self.stream.async_io(Interest::WRITABLE, write).await?;
            }
            Ok(())
        })
        .await?
    }

    /// The next thing that the reaper says; `None` when it is gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Fact>> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(record) = self.inbox.pop()? {
                return Fact::decode(&record).map(Some);
            }
            self.stream.readable().await?;
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(length) => self.inbox.push(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Kills the reaper. It stays a zombie, and its number its own, until [`Link::wait`].
    pub(super) fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.start_kill();
    }

    /// Closes the socket, on which the reaper kills what is left and ends, and waits for that.
    pub(super) async fn close(self) {
        let Self { stream, mut process, own, .. } = self;
        drop(stream);
        let _ = process.wait().await;
        drop(own);
    }

    /// Waits for the reaper's end and returns how it ended, in words.
    pub(super) async fn wait(&mut self) -> String {
        self.process.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}
