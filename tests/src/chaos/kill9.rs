//! `kill -9` of whole daemons: whatever ran below them, wrapped, hiding or deaf, must be gone within a second.
//!
//! The same is done a second time in a new namespace of processes, of which this program is PID 1 and the daemon its child.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::interval;

use super::daemon::{Daemon, Home, quoted, sibling};
use super::stable::{everything, foreign};
use super::{machine, say};
use crate::process as processes;

/// What everything below a daemon has in its environment.
const MARK: &str = "OSTLER_CHAOS_MARK";

/// When nothing may be left.
const BOUND: Duration = Duration::from_secs(1);

/// How long is waited to see by how much the bound was missed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Kills `rounds` daemons here and, unless `only_here`, as many in a namespace of their own. Returns whether nothing
/// was ever left at the bound. Errors: a round could not be made.
pub(super) async fn run(rounds: u32, only_here: bool) -> anyhow::Result<bool> {
    let place = if process::id() == 1 { "as children of PID 1 in a namespace of processes" } else { "here" };
    say(&format!("kill -9 of {rounds} daemons, {place}; {}", machine()));
    let mut all_gone = true;
    for round in 1..=rounds {
        all_gone &= Round::begin(round).await?.kill().await?;
    }
    if !only_here {
        all_gone &= in_namespace(rounds).await?;
    }
    Ok(all_gone)
}

async fn in_namespace(rounds: u32) -> anyhow::Result<bool> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let itself = std::env::current_exe().context("our own path is not known")?;
    command.arg(itself).args(["--kill9", "--here", "--rounds", &rounds.to_string()]);
    let status = command.status().await.context("unshare (util-linux) cannot be run")?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("the run in a namespace could not be made: {status}"),
    }
}

/// One daemon over 20 servers of all kinds.
struct Round {
    number: u32,
    mark: String,
    daemon: Daemon,
}

impl Round {
    async fn begin(number: u32) -> anyhow::Result<Self> {
        let home = Home::new()?;
        let mark = format!("{}-{number}-{:x}", process::id(), fastrand::u64(..));
        let (config, kinds) = config(&home, &mark)?;
        if number == 1 {
            say(&format!("  servers: {kinds}"));
        }
        let daemon = home.up(&config).await.with_context(|| format!("round {number}"))?;
        Ok(Self { number, mark, daemon })
    }

    /// Kills the daemon and counts who lives a second later.
    async fn kill(mut self) -> anyhow::Result<bool> {
        let daemon = self.daemon.pid()?;
        let mut known = processes::descendants(daemon);
        known.extend(processes::marked(MARK, &self.mark));
        known.sort_unstable();
        known.dedup();
        let hidden = processes::listed(&self.daemon.path("hidden"));
        ensure!(!hidden.is_empty() && hidden.iter().all(|pid| known.contains(pid)), "the daemonised one is not there");
        ensure!(known.len() > 20, "only {} processes run below the daemon", known.len());

        let killed = Instant::now();
        processes::send(daemon, Signal::SIGKILL);
        self.daemon.ended().await?;
        let mut looks = interval(LOOK);
        let mut at_bound = None;
        let took = loop {
            looks.tick().await;
            let elapsed = killed.elapsed();
            let survivors = processes::survivors(&known);
            if survivors.is_empty() {
                break Some(elapsed);
            }
            if elapsed >= BOUND {
                at_bound.get_or_insert(survivors.len());
            }
            if elapsed >= PATIENCE {
                break None;
            }
        };
        // Whoever was born after the list was made has the mark, too.
        let late = processes::marked(MARK, &self.mark);
        let is_good = took.is_some_and(|took| took <= BOUND) && at_bound.is_none() && late.is_empty();
        let time = took.map_or("never".to_owned(), |took| format!("{:.0} ms", took.as_secs_f64() * 1000.0));
        say(&format!(
            "  round {:2}: {} processes, all gone after {time}; survivors at 1 s: {}  {}",
            self.number,
            known.len(),
            at_bound.unwrap_or(0).max(late.len()),
            if is_good { "holds" } else { "MISSED" }
        ));
        for pid in processes::survivors(&known).into_iter().chain(late) {
            processes::send(pid, Signal::SIGKILL);
        }
        Ok(is_good)
    }
}

/// Twenty servers: as many kinds of wrappers as this machine can run without a network. Also says which those are.
fn config(home: &Home, mark: &str) -> anyhow::Result<(String, String)> {
    let fake = sibling("fake_server")?;
    let everything = everything();
    let with_node = everything.exists();
    let fakes = |arguments: &[&str]| line(&fake, arguments);
    let wrapped = |inner: &str| ("sh".into(), vec!["-c".to_owned(), format!("{inner}; true")]);
    let hidden = home.path("hidden");
    let hidden = hidden.to_str().context("the temporary folder is no text")?;
    let mut servers: Vec<(&str, (PathBuf, Vec<String>))> = vec![
        ("daemonises", fakes(&["--daemonise", hidden])),
        ("deaf", fakes(&["--ignore-eof", "--ignore-sigterm"])),
        ("deaf with a grandchild", fakes(&["--ignore-eof", "--ignore-sigterm", "--grandchild"])),
    ];
    servers.extend((0..4).map(|_| ("sh -c fake", wrapped(fake.to_str().expect("our paths are UTF-8")))));
    if with_node {
        let node = everything.to_str().expect("our paths are UTF-8");
        servers.extend((0..2).map(|_| ("npx", line("npx", &["--no-install", "mcp-server-everything", "stdio"]))));
        servers.extend((0..2).map(|_| ("node", line("node", &[node, "stdio"]))));
        servers.push(("sh -c node", wrapped(&format!("node {node} stdio"))));
    }
    while servers.len() < 20 {
        servers.push(("fake", fakes(&[])));
    }
    let mut text = home.head();
    text.push_str("start_timeout = \"60s\"\n");
    for (number, (_, (command, arguments))) in servers.iter().enumerate() {
        writeln!(text, "\n[servers.s{number}]\ncommand = {}", quoted(command))?;
        writeln!(text, "args = {}\nenv = {{ {MARK} = {} }}", Value::from(arguments.clone()), quoted(mark))?;
        if command == Path::new("npx") {
            writeln!(text, "cwd = {}", quoted(foreign()))?;
        }
    }
    let mut kinds: Vec<String> = Vec::new();
    for kind in servers.chunk_by(|left, right| left.0 == right.0) {
        kinds.push(format!("{} {}", kind.len(), kind[0].0));
    }
    if !with_node {
        kinds.push("no node: tests/foreign/install.sh was not run".to_owned());
    }
    Ok((text, kinds.join(", ")))
}

fn line(program: impl Into<PathBuf>, arguments: &[&str]) -> (PathBuf, Vec<String>) {
    (program.into(), arguments.iter().map(|argument| (*argument).to_owned()).collect())
}
