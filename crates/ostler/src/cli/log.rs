//! Log lines of this process: to standard error, as much as asked for. `OSTLER_LOG` takes filters of its own.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

use super::args::{Command, Global, LogFormat};

pub(crate) fn init(global: &Global, command: &Command) {
    let filter = EnvFilter::builder()
        .with_default_directive(level(global.verbose, command).into())
        .with_env_var("OSTLER_LOG")
        .from_env_lossy()
        .add_directive(actor_spans_off());
    let has_colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colour).with_writer(io::stderr);
    // A subscriber that an embedder has set stays.
    let _ = match global.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// The daemon tells of its life; a command shows what it does by itself, so it logs when it is asked to.
fn level(verbose: u8, command: &Command) -> LevelFilter {
    let (quiet, verbose) = match command {
        Command::Up => (LevelFilter::INFO, verbose.saturating_add(1)),
        // Its `-v` is for the list; the log begins with the second.
        Command::Servers(_) => (LevelFilter::OFF, verbose.saturating_sub(1)),
        Command::Ask(_)
        | Command::Tools(_)
        | Command::Call(_)
        | Command::Status(_)
        | Command::Why(_)
        | Command::Logs(_)
        | Command::Approve(_)
        | Command::Restart(_)
        | Command::Stop(_)
        | Command::Start(_)
        | Command::Check
        | Command::DemoServer(_) => (LevelFilter::OFF, verbose),
    };
    match verbose {
        0 => quiet,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// The actor library wraps each handler in a span with a number that means nothing to a reader of the log.
fn actor_spans_off() -> Directive {
    "ractor=warn".parse().expect("a directive")
}
