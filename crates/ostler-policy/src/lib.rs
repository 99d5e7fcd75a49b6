//! The decisions of the house as pure functions: when a server starts, is given up, tried again or put aside.
//!
//! No I/O, no clock, no dice, no executor: time and jitter are arguments, and what is to be done comes back as a value.
//! The actors of the runtime are the shell around it.

#![warn(missing_docs)]

pub mod brake;
pub mod chorus;
pub mod gate;
pub mod invariant;
pub mod machine;
pub mod reconcile;
pub mod schedule;

pub use brake::{Brake, Verdict};
pub use chorus::{Chorus, Voice};
pub use gate::{Gate, StartClass, StartKind};
pub use machine::{Effect, Event, Intensity, OnRestart, Policy, Remembered, Restart, State, step};
pub use schedule::{Schedule, ScheduleError};
