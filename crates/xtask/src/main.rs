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
    /// Breaks servers under load, or with --kill9 whole daemons, and counts what that did. Arguments: see --help after --.
    Chaos {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Plays the whole runtime with seeded trouble on a paused clock. Arguments: see --help after --.
    Sim {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measures the product against bounds.
    Bench {
        /// What is measured.
        what: xtask::bench::Bench,
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => xtask::ci::tidy(),
        Task::Ci => xtask::ci::run(),
        Task::Chaos { arguments } => xtask::chaos::run("chaos", &arguments),
        Task::Sim { arguments } => xtask::sim::run(&arguments),
        Task::Bench { what, arguments } => xtask::bench::run(what, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::ci::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
