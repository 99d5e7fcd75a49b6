//! What the reaper costs: a spawn through it beside a direct one in the same run, and its own memory.
//!
//! Prints the table of `cargo xtask bench spawn` and ends with 1 if a limit is missed. Linux only.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use ostler_core::id::{Incarnation, ServerId};
use ostler_core::port::Lease;
use ostler_process::{Child, Launch, Reaper, ReaperOptions, ResourceLimits, Sandbox};

/// How many batches are timed; one more before them is not.
const BATCHES: usize = 20;
/// How many of each kind a batch spawns, in turns, so that whatever else the machine does meets both. The ends of the
/// batch before are over by then: looking through what an end leaves is another cost.
const BATCH: usize = 20;
/// A spawn through the reaper costs at most this many direct ones.
const RATIO: f64 = 1.3;
/// What the reaper may weigh, in KiB of its proportional set size.
const WEIGHT: u64 = 3 * 1024;
/// How many servers it keeps while it is weighed.
const SERVERS: usize = 20;

fn main() -> ExitCode {
    ostler_process::reaper::intercept();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure())
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
async fn measure() -> ExitCode {
    let reaper = Reaper::start(ReaperOptions::default());
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for batch in 0..=BATCHES {
        let mut started = Vec::new();
        for _ in 0..BATCH {
            let (pair, children) = spawn_both(&reaper).await;
            started.push(children);
            if batch > 0 {
                direct.push(pair.0);
                through.push(pair.1);
            }
        }
        for (mut ours, theirs) in started {
            ours.kill().await.expect("it can be killed");
            theirs.kill();
            theirs.released().await;
        }
    }
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(reaper.spawn(launch("cat"), Lease::new(())).await.expect("it starts"));
    }
    let weight = reaper.pid().and_then(proportional_set_size);
    let (direct, through) = (Row::of(direct), Row::of(through));
    let ratio = through.median.as_secs_f64() / direct.median.as_secs_f64();
    println!("{:<22}{:>12}{:>12}", "spawn of `cat`", "median", "p95");
    println!("{:<22}{:>9} us{:>9} us", "direct", direct.median.as_micros(), direct.p95.as_micros());
    println!("{:<22}{:>9} us{:>9} us", "through the reaper", through.median.as_micros(), through.p95.as_micros());
    println!("{:<22}{ratio:>12.2}   limit {RATIO}", "ratio of the medians");
    let shown = weight.map_or("unknown".to_owned(), |kib| format!("{kib} KiB"));
    println!("{:<22}{shown:>12}   limit {WEIGHT} KiB, with {SERVERS} servers", "reaper, PSS");
    drop(servers);
    reaper.shutdown(clock() + Duration::from_secs(10)).await;
    if ratio <= RATIO && weight.is_some_and(|kib| kib <= WEIGHT) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From the order to the process id in hand, once directly (three pipes, a process group, a clean environment) and once
/// through the reaper.
async fn spawn_both(reaper: &Reaper) -> ((Duration, Duration), (tokio::process::Child, Child)) {
    let mut command = tokio::process::Command::new("cat");
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let begun = clock();
    let ours = command.spawn().expect("it starts");
    let direct = clock() - begun;
    let launch = launch("cat");
    let begun = clock();
    let theirs = reaper.spawn(launch, Lease::new(())).await.expect("it starts");
    ((direct, clock() - begun), (ours, theirs))
}

fn launch(program: &str) -> Launch {
    Launch {
        server: ServerId::new("bench").expect("a name"),
        incarnation: Incarnation::FIRST,
        program: program.into(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        limits: ResourceLimits::default(),
        sandbox: Sandbox::Off,
        redact: Vec::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for real processes")]
fn clock() -> Instant {
    Instant::now()
}

/// In KiB: pages that several processes share count in shares.
fn proportional_set_size(pid: u32) -> Option<u64> {
    let map = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    map.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

struct Row {
    median: Duration,
    p95: Duration,
}

impl Row {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { median: times[times.len() / 2], p95: times[times.len() * 95 / 100] }
    }
}
