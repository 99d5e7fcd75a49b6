//! The product: configuration, wiring, listeners and the command line.

pub mod config;
#[cfg(feature = "cli")]
pub mod demo;
