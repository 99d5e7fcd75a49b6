//! `cargo xtask`: the commands of whoever works on this house.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Habits as commands.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Looks for broken walls: import arrows, manifests, head comments, long files, banned words.
    Tidy,
    /// Does all that decides whether a change is good: format, lints, docs, tests, tidy, dependencies.
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => xtask::ci::tidy(),
        Task::Ci => xtask::ci::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::ci::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
