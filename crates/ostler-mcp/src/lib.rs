//! The MCP wire: sessions with servers over stdio, in every revision, with results passed on unread.
//!
//! Our own thin JSON-RPC core. It implements the ports `Connector` and `Upstream` of the core; processes are
//! `ostler-process`'s, supervision is `ostler-runtime`'s. The way of a message, from the bottom: `frame` cuts lines,
//! `envelope` and `meta` read and write messages, `session` matches answers with requests, `life` adds a process,
//! `lifecycle` and `list` begin a session, `upstream` and `connector` are the doors.

#![warn(missing_docs)]

mod clock;
mod connector;
mod envelope;
mod error;
mod frame;
mod greeting;
mod life;
mod lifecycle;
mod limit;
mod list;
mod meta;
mod meter;
mod revision;
mod session;
#[cfg(test)]
mod testing;
mod transport;
mod upstream;

pub use connector::{EraChoice, StdioConnector, StdioSpec};
pub use limit::{Limits, MAX_FRAME_BYTES};
