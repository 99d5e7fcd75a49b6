//! The actors that keep servers alive, the registry of their tools, and the path of one call.
//!
//! It knows servers by the ports of `ostler-core` alone: no wire, no process, no HTTP is named here. Decisions are
//! `ostler-policy`'s; the actors carry them out. The tree: a [`RegistryActor`] and a [`FleetActor`] beside each
//! other, a server actor under the fleet for each server, a connection actor under that for each incarnation.

#![warn(missing_docs)]

mod board;
mod clock;
mod connection;
mod error;
mod event;
mod fleet;
mod handle;
mod house;
mod lane;
mod message;
mod registry;
mod route;
mod router;
mod server;

pub use board::Board;
pub use error::FleetError;
pub use event::{Entry, EventLog, Subscription};
pub use fleet::{FleetActor, FleetArgs};
pub use handle::FleetHandle;
pub use house::{House, HouseOptions};
pub use lane::{LaneLimits, WhileRestarting};
pub use message::{FleetMsg, RegistryMsg};
pub use registry::RegistryActor;
pub use route::RouteTable;
pub use server::ServerSpec;
