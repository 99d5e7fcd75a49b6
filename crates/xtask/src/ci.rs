//! What decides whether a change is good, in the order in which it fails fastest.
//!
//! Every step runs even if one before it failed, so that one run tells all; the sum decides. The output of every tool
//! passes through unchanged.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::tidy;

/// One step: its name, the arguments of cargo, and what is added to its environment.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const STEPS: &[Step] = &[
    Step { name: "format", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Step {
        name: "lints",
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        environment: &[],
    },
    Step {
        name: "library without features",
        arguments: &[
            "clippy",
            "--package",
            "ostler",
            "--lib",
            "--no-default-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        environment: &[],
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--locked"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    Step {
        name: "random lives of the machine",
        arguments: &["test", "--package", "ostler-policy", "--lib", "--locked", "machine::tests::model"],
        environment: &[("PROPTEST_CASES", "100000")],
    },
    Step { name: "tests", arguments: &["test", "--workspace", "--no-fail-fast", "--locked"], environment: &[] },
];

const DENY: &[&str] = &["deny", "--locked", "check", "bans", "licenses", "sources"];

/// Prints every broken wall. Errors: if there is one.
pub fn tidy() -> anyhow::Result<()> {
    let violations = tidy::check(&tidy::root())?;
    for violation in &violations {
        say(&violation.to_string());
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("tidy found {count} violations"),
    }
}

/// Runs everything. Errors: if a step failed, with the names of all that did.
pub fn run() -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut time = |name: &'static str, work: &dyn Fn() -> anyhow::Result<()>| {
        say(&format!("==> {name}"));
        let begun = Instant::now();
        let outcome = work();
        say(&format!("    {name}: {} after {:.0} s", verdict(&outcome), begun.elapsed().as_secs_f64()));
        if outcome.is_err() {
            failed.push(name);
        }
    };
    time("tidy", &tidy);
    for step in STEPS {
        time(step.name, &|| cargo(step.arguments, step.environment));
    }
    if is_installed("deny") {
        time("dependencies", &|| cargo(DENY, &[]));
    } else if std::env::var_os("CI").is_some() {
        time("dependencies", &|| bail!("cargo-deny is not installed, and CI does without nothing"));
    } else {
        say("!!! dependencies: NOT CHECKED, because cargo-deny is not installed");
        say("!!! cargo install cargo-deny --locked --version 0.20.2");
    }
    match failed.as_slice() {
        [] => Ok(()),
        names => bail!("failed: {}", names.join(", ")),
    }
}

fn verdict(outcome: &anyhow::Result<()>) -> String {
    match outcome {
        Ok(()) => "good".to_owned(),
        Err(error) => format!("FAILED ({error:#})"),
    }
}

/// Runs cargo at the root of the workspace. Errors: it did not end well.
pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let status = command(arguments)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("cannot run cargo {}", arguments.join(" ")))?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

fn is_installed(subcommand: &str) -> bool {
    let mut command = command(&[subcommand, "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(tidy::root());
    command
}

/// Says a line to whoever runs the command.
#[expect(clippy::print_stderr, reason = "this is a command line, and standard output belongs to the tools it runs")]
pub fn say(line: &str) {
    eprintln!("{line}");
}
