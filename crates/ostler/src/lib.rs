//! Ostler keeps a stable of MCP servers: supervised, merged into one namespace, called by a model loop.
//!
//! This is the face for embedders and the wiring of the product. An embedder starts an [`App`] from a [`config::Config`]
//! and asks its fleet and its lobby; it calls [`reaper::intercept`] first in its own `main`, or names a reaper program
//! in [`app::AppOptions`]. Without the features `http` and `cli` there is no listener and no command line here, and the
//! library never installs a recorder, a subscriber or a signal handler.

pub mod app;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
pub mod config;
#[cfg(feature = "cli")]
pub mod demo;
#[cfg(feature = "http")]
pub mod exporter;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "cli")]
mod product;
#[cfg(feature = "cli")]
mod render;
mod root;
#[cfg(feature = "http")]
pub mod socket;

pub use app::App;
pub use ostler_process::reaper;

/// The whole program `ostler`: what its `main` does, for any binary that wants to be it.
#[cfg(feature = "cli")]
pub fn main() -> std::process::ExitCode {
    // First of all, while this process has one thread: it may have been started to be the reaper.
    reaper::intercept();
    product::run()
}
