//! What must survive a restart of our own process, in one SQLite file: how servers fared and what they listed, what a
//! person approved, which processes were spawned.
//!
//! It answers the ports `Store` and `Ledger` of the core and knows nothing of who asks. It has no clock: times come with
//! what is stored. SQLite stops here: no type of it leaves this room.

#![warn(missing_docs)]

mod database;
mod error;
mod folder;
mod open;
mod queue;
mod record;
mod store;

pub use error::OpenError;
pub use store::SqliteStore;
