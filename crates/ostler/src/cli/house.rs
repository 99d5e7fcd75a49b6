//! The port between the command line and the product that it is the front of: configuration, wiring, the daemon, the demos.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostler_core::port::BoxFuture;

pub use super::args::Demo;
use crate::http::backend::Backend;
use crate::http::dto::LaunchDto;

/// Everything that the command line needs to be had.
pub trait House: Send + Sync {
    /// The socket that the configuration names, if it does and can be read.
    fn socket(&self, config: Option<&Path>) -> Option<PathBuf>;

    /// Checks the configuration. Returns what to say when all is well. Errors: everything that is wrong, ready to print.
    fn check(&self, config: Option<&Path>) -> Result<String, Complaint>;

    /// Starts a fleet for one command. It returns as soon as the servers are being started.
    fn start(&self, config: Option<PathBuf>) -> BoxFuture<'_, Result<Started, Complaint>>;

    /// Runs the daemon until it is told to end; `announce` is called once it can be joined.
    fn up(&self, order: UpOrder, announce: Announce) -> BoxFuture<'_, Result<(), Complaint>>;

    /// What would be run for a server, for a machine without a daemon.
    fn launch(&self, config: Option<PathBuf>, server: String) -> BoxFuture<'_, Result<LaunchDto, Complaint>>;

    /// Records that a person approved this launch line, for a machine without a daemon.
    fn approve(&self, config: Option<PathBuf>, launch: LaunchDto) -> BoxFuture<'_, Result<(), Complaint>>;

    /// Is a demonstration server until its input ends.
    fn demo(&self, which: Demo) -> BoxFuture<'_, Result<(), Complaint>>;
}

/// A fleet of one command.
pub struct Started {
    /// The way to it.
    pub backend: Arc<dyn Backend>,
    /// How long its slowest server may take to come up.
    pub patience: Duration,
    /// Ends it; resolves when nothing is left.
    pub stop: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// What `up` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpOrder {
    /// The configuration file; `None`: the usual place or the built-in default.
    pub config: Option<PathBuf>,
    /// The socket to bind.
    pub socket: PathBuf,
}

/// What a daemon says when it can be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// Where its socket is.
    pub socket: PathBuf,
    /// Where its ops listener is, if it has one.
    pub ops: Option<SocketAddr>,
    /// How many servers it keeps.
    pub servers: usize,
}

/// Takes the daemon's word that it is up.
pub type Announce = Box<dyn FnOnce(Up) + Send>;

/// Why the product cannot do it, in lines for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// The configuration is wrong; the text has everything about it.
    Config(String),
    /// The daemon, the fleet or this machine failed.
    Failed(String),
}
