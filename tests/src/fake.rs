//! A small MCP server over stdio that does wrong exactly what its arguments say, and everything else right.
//!
//! Deliberately plain: threads, `serde_json`, no async runtime, nothing of the product. So a mistake in our own
//! wire code cannot hide behind the same mistake here. `options` lists the behaviours, `session` talks MCP, `era`
//! knows how the revisions differ, `tools` holds what can be called, `mischief` is about processes and descriptors, `wire` about lines,
//! `orders` is how a running one is told to do wrong.

mod era;
mod mischief;
mod options;
mod orders;
mod session;
mod tools;
mod wire;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use options::Options;
pub use orders::Order;

/// Runs the server that the command line asks for, until its input ends.
pub fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            drop(writeln!(io::stderr(), "fake_server: {complaint}; see --help"));
            return ExitCode::from(64);
        }
    };
    if options.has("help") {
        drop(io::stdout().write_all(options::help().as_bytes()));
        return ExitCode::SUCCESS;
    }
    if let Some(code) = mischief::daemon_stage(&options) {
        return code;
    }
    session::run(options)
}
