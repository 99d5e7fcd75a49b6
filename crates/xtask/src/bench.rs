//! What can be measured, by name: `cargo xtask bench start`.

use clap::ValueEnum;

use crate::chaos;
use crate::ci::cargo;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Start and restart times against raw processes, memory, and what an idle daemon costs.
    Start,
    /// A spawn through the reaper beside a direct one, and the reaper's memory.
    Spawn,
}

/// Measures it and prints every figure with its bound. Errors: a bound was missed.
pub fn run(bench: Bench, arguments: &[String]) -> anyhow::Result<()> {
    match bench {
        Bench::Start => chaos::run("bench_start", arguments),
        Bench::Spawn => {
            cargo(&["run", "--release", "--quiet", "--package", "ostler-process", "--example", "spawn_cost"], &[])
        }
    }
}
