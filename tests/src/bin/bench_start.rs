//! Measures starts, restarts, memory and rest, each against its bound: `cargo xtask bench start`.
//!
//! What depends on the machine is a ratio: raw processes with a raw handshake are measured in the same run, in turns with
//! the product. The servers are fake servers without mischief.

use std::fmt::Write;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use ostler::app::{App, AppOptions};
use ostler::config::Config;
use ostler_core::port::{Caller, ToolCall};
use ostler_core::{ServerId, ServerState};
use ostler_tests::chaos::daemon::{Home, quoted, sibling};
use ostler_tests::chaos::{machine, say};
use ostler_tests::process;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often a comparison is made; the middle one counts.
const TURNS: usize = 5;

/// How long everything may take to come up.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How many servers are killed, one after the other.
const KILLED: usize = 7;

/// What counts as a stable run here.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// How long the daemon is watched at rest.
const REST: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    ostler::reaper::intercept();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("this machine has threads");
    match runtime.block_on(run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench_start: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn run() -> anyhow::Result<bool> {
    say(&format!("bench start: {}", machine()));
    let holds = [
        many_at_once(100, 1.4).await?,
        many_at_once(300, 1.5).await?,
        slow_ones().await?,
        kill_to_call().await?,
        memory_and_rest().await?,
    ];
    Ok(holds.iter().all(|holds| *holds))
}

/// Prints a figure with its bound. Returns whether it holds.
fn tell(name: &str, measured: f64, bound: f64, unit: &str, more: &str) -> bool {
    let holds = measured <= bound;
    let verdict = if holds { "holds" } else { "MISSED" };
    say(&format!("  {name:<44} {measured:>8.2} {unit:<3} bound {bound:>7.2} {unit:<3} {verdict}  {more}"));
    holds
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn many_at_once(count: usize, bound: f64) -> anyhow::Result<bool> {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        raw.push(raw_start(count, &[]).await?);
        let started = Started::with(count, &[]).await?;
        ours.push(started.took);
        started.end().await?;
    }
    let (raw, ours) = (median(raw), median(ours));
    let more = format!("raw {:.0} ms, all listed {:.0} ms", millis(raw), millis(ours));
    let name = format!("{count} at once, against raw spawn + handshake");
    Ok(tell(&name, ours.as_secs_f64() / raw.as_secs_f64(), bound, "x", &more))
}

async fn slow_ones() -> anyhow::Result<bool> {
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let started = Started::with(10, &["--start-delay-ms", "500"]).await?;
        times.push(started.took);
        started.end().await?;
    }
    Ok(tell("ten servers of 500 ms each", millis(median(times)), 600.0, "ms", ""))
}

async fn kill_to_call() -> anyhow::Result<bool> {
    let mut own = Vec::new();
    for _ in 0..TURNS {
        own.push(raw_start(1, &[]).await?);
    }
    let own = median(own);
    // A few of many: when half of a fleet fails at once, it is slowed on purpose.
    let started = Started::with(KILLED * 4, &[]).await?;
    sleep(STABLE_AFTER * 2).await;
    let mut times = Vec::new();
    for status in started.app.fleet().statuses().iter().take(KILLED) {
        times.push(kill_one(&started.app, &status.server).await?);
    }
    started.end().await?;
    let longest = times.iter().max().copied().unwrap_or_default();
    let beyond = median(times).saturating_sub(own);
    let more = format!("own start {:.1} ms, longest {:.1} ms in all", millis(own), millis(longest));
    Ok(tell("kill to first good call, beyond the own start", millis(beyond), 100.0, "ms", &more))
}

/// From the kill of a stable server to its first good answer.
async fn kill_one(app: &App, server: &ServerId) -> anyhow::Result<Duration> {
    let facts = app.fleet().status(server).and_then(|status| status.facts);
    let pid = facts.and_then(|facts| facts.pid).context("a ready server has a process")?;
    let dispatch = app.fleet().dispatch();
    let killed = Instant::now();
    process::send(pid, Signal::SIGKILL);
    let mut refusal = None;
    while killed.elapsed() < Duration::from_secs(10) {
        let call = ToolCall {
            name: format!("{server}__pid"),
            arguments: to_raw_value(&json!({})).expect("arguments are JSON"),
            deadline: Some(Instant::now() + Duration::from_secs(5)),
            caller: Caller::Operator,
            observer: None,
        };
        match dispatch.call(call).await.result {
            Ok(_) => return Ok(killed.elapsed()),
            Err(error) => refusal = Some(error),
        }
        tokio::task::yield_now().await;
    }
    bail!("{server} did not come back: {refusal:?}, {:?}", app.fleet().status(server))
}

async fn memory_and_rest() -> anyhow::Result<bool> {
    let home = Home::new()?;
    // Ten tools each: three more than the fake server has.
    let text = config(&home, 100, &["--more-tools", "3"])?;
    let daemon = home.up(&text).await?;
    let pid = daemon.pid()?;
    let reaper = process::reaper(pid).context("the daemon has no reaper")?;
    // What the start left to be done is not rest.
    sleep(STABLE_AFTER * 5).await;
    let memory = |pid| process::resident_kib(pid).context("a process has ended");
    let (ours, reapers) = (memory(pid)?, memory(reaper)?);
    let mega = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) * 1.024e-3;
    let more = format!("daemon {:.1} MB, reaper {:.1} MB", mega(ours), mega(reapers));
    let fits = tell("RSS at 100 servers x 10 tools", mega(ours + reapers), 27.0, "MB", &more);

    let time = || Some(process::processor_time(pid)? + process::processor_time(reaper)?);
    let before = time().context("a process has ended")?;
    let begun = Instant::now();
    sleep(REST).await;
    let used = time().context("a process has ended")?.saturating_sub(before);
    let share = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
    let rests = tell("processor time at rest", share, 0.1, "%", "in steps of 0.1, by the kernel's clock");
    Ok(fits && rests)
}

/// A house in this process, all of whose servers are listed.
struct Started {
    app: App,
    /// The servers run in it.
    _home: Home,
    /// How long it took until all were listed.
    took: Duration,
}

impl Started {
    async fn with(count: usize, arguments: &[&str]) -> anyhow::Result<Self> {
        let home = Home::new()?;
        let file = home.path("ostler.toml");
        std::fs::write(&file, config(&home, count, arguments)?).context("the configuration cannot be written")?;
        let config = Config::load(Some(&file)).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let begun = Instant::now();
        let app = App::start(&config, AppOptions::default()).await?;
        ensure!(app.fleet().settled(begun + START_LIMIT).await, "the servers do not settle");
        let took = begun.elapsed();
        let statuses = app.fleet().statuses();
        if let Some(bad) = statuses.iter().find(|status| status.state != ServerState::Ready || status.tools == 0) {
            bail!("{} is {}: {:?}", bad.server, bad.state, bad.last_fault);
        }
        ensure!(statuses.len() == count, "there are {} servers", statuses.len());
        Ok(Self { app, _home: home, took })
    }

    async fn end(self) -> anyhow::Result<()> {
        ensure!(self.app.shutdown().await, "not every server ended");
        Ok(())
    }
}

fn config(home: &Home, count: usize, arguments: &[&str]) -> anyhow::Result<String> {
    let fake = quoted(sibling("fake_server")?);
    let mut text = home.head();
    writeln!(text, "stable_after = \"{}s\"", STABLE_AFTER.as_secs())?;
    for number in 0..count {
        writeln!(text, "\n[servers.s{number}]\ncommand = {fake}\nargs = {}", Value::from(arguments.to_vec()))?;
    }
    Ok(text)
}

/// Starts `count` servers without the product. Returns how long it took until all had listed their tools.
async fn raw_start(count: usize, arguments: &[&str]) -> anyhow::Result<Duration> {
    let program = sibling("fake_server")?;
    let begun = Instant::now();
    let mut handshakes = JoinSet::new();
    for _ in 0..count {
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("a raw server cannot be started")?;
        handshakes.spawn(handshake(child));
    }
    let children = handshakes.join_all().await;
    let took = begun.elapsed();
    for child in children {
        child?.kill().await.context("a raw server cannot be ended")?;
    }
    Ok(took)
}

/// What a client must say before it knows the tools.
async fn handshake(mut child: Child) -> anyhow::Result<Child> {
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"},
    }});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    let mut line = String::new();
    stdin.write_all(format!("{hello}\n").as_bytes()).await?;
    stdout.read_line(&mut line).await?;
    line.clear();
    stdin.write_all(format!("{ready}\n{list}\n").as_bytes()).await?;
    stdout.read_line(&mut line).await?;
    let answer: Value = serde_json::from_str(&line).context("a raw server does not answer")?;
    ensure!(answer["result"]["tools"].is_array(), "a raw server has no tools: {line}");
    (child.stdin, child.stdout) = (Some(stdin), Some(stdout.into_inner()));
    Ok(child)
}
