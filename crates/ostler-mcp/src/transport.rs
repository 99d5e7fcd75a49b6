//! What a session runs over: two byte streams, and somebody who knows how the other side lives and dies.

pub(crate) mod stdio;

use std::sync::Arc;
use std::time::Duration;

use ostler_core::Incarnation;
use ostler_core::port::{BoxFuture, Lease};
use ostler_core::status::{Exit, Fault};
use tokio::io::{AsyncRead, AsyncWrite};

/// Starts the other side.
pub(crate) trait Spawner: Send + Sync {
    /// Starts it once. The lease is held until nothing of it is left.
    fn spawn(&self, incarnation: Incarnation, lease: Lease) -> BoxFuture<'_, Result<Pipes, Fault>>;
}

/// The ways to the other side.
pub(crate) struct Pipes {
    /// What it writes.
    pub(crate) output: Box<dyn AsyncRead + Send + Unpin>,
    /// What it reads.
    pub(crate) input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its life.
    pub(crate) process: Arc<dyn Process>,
}

/// A cause of death that an exit status does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Its memory limit.
    OutOfMemory,
    /// The process that keeps all children was lost, and all of them with it.
    ReaperLost,
}

/// The life of the other side. Dropping the last handle ends it.
pub(crate) trait Process: Send + Sync {
    /// Its process id, if it has one.
    fn pid(&self) -> Option<u32>;
    /// Waits until it has ended, whoever still holds its pipes. Cancel-safe; any number may wait.
    fn exited(&self) -> BoxFuture<'_, Exit>;
    /// Ends it and all below it now.
    fn kill(&self);
    /// Ends it step by step within `grace`; its input was closed before. Resolves when nothing is left.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()>;
    /// Waits until nothing of it is left.
    fn released(&self) -> BoxFuture<'_, ()>;
    /// What ended it that its exit does not tell. Known once it has exited.
    fn beyond(&self) -> Option<Beyond>;
    /// The last lines of its standard error, sanitised.
    fn stderr_tail(&self) -> String;
    /// How many lines it wrote to standard error.
    fn stderr_lines(&self) -> u64;
}
