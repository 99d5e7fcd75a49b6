//! The decisions of the house as pure functions: when a server starts, is given up, tried again or put aside.
//!
//! No I/O, no clock, no dice, no executor: time and jitter are arguments, and what is to be done comes back as a value.
//! The actors of the runtime are the shell around it.

#![warn(missing_docs)]

pub mod gate;
pub mod invariant;
pub mod machine;
pub mod reconcile;
pub mod schedule;

pub use gate::{Gate, StartClass};
pub use machine::{Effect, Event, Policy, Restart, State, step};
pub use schedule::{Schedule, ScheduleError};
