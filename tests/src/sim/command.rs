//! The command line of the simulation: which seeds are played, for how long, with how many servers, and what is said.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;

use super::run::{Plan, Report, run};
use super::world::Tally;

/// How many lines of its trace a failure shows.
const SHOWN: usize = 50;

/// Plays the whole runtime with seeded trouble on a paused clock and checks what must hold.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds are played with the few servers.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// For how many virtual minutes each.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How many servers these have.
    #[arg(long, default_value_t = 20)]
    servers: usize,
    /// How many seeds are played with the many servers.
    #[arg(long, default_value_t = 20)]
    long: u64,
    /// For how many virtual hours each.
    #[arg(long, default_value_t = 1)]
    hours: u64,
    /// How many servers those have.
    #[arg(long, default_value_t = 100)]
    fleet: usize,
    /// Plays this seed alone, with the few servers, and prints its whole trace. With --long 1: with the many.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many threads play. Default: as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
}

/// The program. Fails if a promise was broken.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return one(&arguments, seed);
    }
    let few = |seed| Plan {
        seed,
        span: Duration::from_secs(60 * arguments.minutes),
        servers: arguments.servers,
        keep: false,
    };
    let many =
        |seed| Plan { seed, span: Duration::from_secs(3600 * arguments.hours), servers: arguments.fleet, keep: false };
    // The long ones first: none of them is left over when all others are done.
    let (first, long, seeds) = (arguments.first, arguments.long, arguments.seeds);
    let plans: Vec<Plan> = (first..first + long).map(many).chain((first..first + seeds).map(few)).collect();
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    say(&format!(
        "{long} seeds x {} h x {} servers, {seeds} seeds x {} min x {} servers, on {threads} threads",
        arguments.hours, arguments.fleet, arguments.minutes, arguments.servers
    ));
    all(&plans, threads)
}

fn one(arguments: &Arguments, seed: u64) -> ExitCode {
    let is_long = arguments.long == 1;
    let plan = Plan {
        seed,
        span: Duration::from_secs(if is_long { 3600 * arguments.hours } else { 60 * arguments.minutes }),
        servers: if is_long { arguments.fleet } else { arguments.servers },
        keep: true,
    };
    let report = run(&plan);
    report.trace.iter().for_each(|line| say(line));
    say(&format!("seed {seed}: {} lines, digest {:016x}, {}", report.lines, report.digest, report.tally));
    match &report.broken {
        Some(broken) => {
            say(&format!("BROKEN {broken}"));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn all(plans: &[Plan], threads: usize) -> ExitCode {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sum = Mutex::new((Tally::default(), 0_u64));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { return };
                    let report = run(plan);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.0 += report.tally;
                    sum.1 += report.lines;
                    if report.broken.is_some() && !is_over.swap(true, Ordering::Relaxed) {
                        complain(plan, &report);
                    }
                    if (index + 1).is_multiple_of(200) {
                        say(&format!("{} of {} after {:.0} s", index + 1, plans.len(), begun.elapsed().as_secs_f64()));
                    }
                }
            });
        }
    });
    let (tally, lines) = *sum.lock().unwrap_or_else(PoisonError::into_inner);
    say(&format!("{tally}, {lines} lines of trace, in {:.0} s", begun.elapsed().as_secs_f64()));
    if is_over.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    say("all promises were kept");
    ExitCode::SUCCESS
}

fn complain(plan: &Plan, report: &Report) {
    let skip = report.trace.len().saturating_sub(SHOWN);
    report.trace.iter().skip(skip).for_each(|line| say(line));
    let minutes = plan.span.as_secs() / 60;
    if let Some(broken) = &report.broken {
        say(&format!("seed {} ({} servers, {minutes} minutes): BROKEN {broken}", plan.seed, plan.servers));
    }
}

#[expect(clippy::print_stdout, reason = "this is a command line")]
fn say(line: &str) {
    println!("{line}");
}
