//! Breaks servers on purpose, and the whole daemon, under load, and counts what that did to callers and processes.
//!
//! `soak` is the run with faults: `stable` are its servers, `caller` makes the calls, `fault` the faults, `watch` notes
//! what the fleet says, `verdict` turns all of it into a table with bounds. `kill9` ends daemons
//! (`daemon`) without a warning.

mod caller;
pub mod daemon;
mod fault;
mod kill9;
mod soak;
mod stable;
mod verdict;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Breaks things on purpose and tells what came of it. Ends with 1 if a bound was missed.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long faults are made, in minutes.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// The same in seconds, for a short run.
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// How many servers there are in all.
    #[arg(long, default_value_t = 100)]
    servers: usize,
    /// How many of them are node programs that other people wrote (server-everything of `tests/foreign/install.sh`).
    #[arg(long, default_value_t = 10)]
    node: usize,
    /// How many callers there are.
    #[arg(long, default_value_t = 50)]
    callers: usize,
    /// Where the dice begin. Without it: anywhere; it is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Kill whole daemons instead, with 20 mixed servers each.
    #[arg(long)]
    kill9: bool,
    /// How many daemons are killed.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Kill daemons in this namespace of processes only, not in a new one as well.
    #[arg(long)]
    here: bool,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    ostler::reaper::intercept();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("this machine has threads");
    let outcome = if arguments.kill9 {
        runtime.block_on(kill9::run(arguments.rounds, arguments.here))
    } else {
        runtime.block_on(soak::run(&soak::Plan {
            time: arguments.seconds.map_or(Duration::from_secs(60 * arguments.minutes), Duration::from_secs),
            servers: arguments.servers,
            node: arguments.node.min(arguments.servers),
            callers: arguments.callers,
            seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
        }))
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "chaos: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Says a line to whoever runs this.
pub fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// This machine in a few words: what any measured time depends on.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{cores} cores, kernel {}, load {load} before the run", kernel.trim())
}
