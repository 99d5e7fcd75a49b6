//! The whole runtime in one thread on a paused clock: real actors, scripted servers, seeded faults.
//!
//! [`run`] plays one [`Plan`] and checks the [`Invariant`]s after each step. Every choice comes from the plan's seed, by
//! way of named streams (`dice`), so that the same seed gives the same trace whatever order tokio wakes equals in.
//! The wire and the processes are not here: servers are played behind the `Connector` port.

mod account;
mod book;
mod caller;
mod command;
mod dice;
mod invariant;
mod life;
mod operator;
mod root;
mod run;
mod scripted;
mod temper;
mod trace;
mod window;
mod world;

pub use self::command::main;
pub use self::invariant::{Broken, Invariant};
pub use self::run::{Plan, Report, run};
pub use self::world::Tally;
