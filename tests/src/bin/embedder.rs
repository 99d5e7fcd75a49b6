//! A program of somebody else's that keeps servers by the library: its own `main`, its own log, its own end.
//!
//! `embedder CONFIG RUNS [--without-intercept]`: notes each run of its `main` in RUNS, says `ready` when every server has
//! settled, and ends when its input does.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ostler::app::{App, AppOptions};
use ostler::config::Config;
use tokio::io::AsyncReadExt;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--without-intercept") {
        ostler::reaper::intercept();
    }
    let [config, runs, ..] = &arguments[..] else { anyhow::bail!("embedder CONFIG RUNS [--without-intercept]") };
    let mut log = OpenOptions::new().create(true).append(true).open(runs).context("RUNS cannot be opened")?;
    writeln!(log, "{}", std::process::id()).context("RUNS cannot be written")?;
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(keep(Path::new(config)))
}

async fn keep(config: &Path) -> anyhow::Result<()> {
    let config = Config::load(Some(config)).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let app = App::start(&config, AppOptions::default()).await?;
    anyhow::ensure!(app.fleet().settled(Instant::now() + Duration::from_secs(20)).await, "the servers do not settle");
    writeln!(io::stdout(), "ready").context("nobody listens")?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    anyhow::ensure!(app.shutdown().await, "not every server ended by itself");
    Ok(())
}
