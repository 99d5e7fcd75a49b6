//! What the integration tests share: a home of their own, the binary under test, the fake server, foreign parts.
//!
//! Every wait here has a bound, and every process that is started is ended when its value is dropped.

pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod emulator;
pub(crate) mod events;
pub(crate) mod foreign;
pub(crate) mod home;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod wait;
