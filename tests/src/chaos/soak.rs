//! The run with faults: a house in this process, callers on its namespace, a fault every two seconds, and then the sum.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use ostler::app::{App, AppOptions};
use ostler::exporter::Exporter;
use ostler_core::{ServerState, ServerStatus};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

use super::caller::{End, Record, Traffic};
use super::fault::{Fault, Injected};
use super::stable::{Kind, Stable};
use super::verdict::{self, Held, Notes};
use super::watch::Watch;
use super::{machine, say};
use crate::process as processes;

/// From one fault to the next.
const FAULT_EVERY: Duration = Duration::from_secs(2);

/// How long all servers together may take to come up.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long a silent server may stay unnoticed before it is put down by the run itself.
const SILENCE_LIMIT: Duration = Duration::from_secs(15).saturating_add(verdict::SILENCE);

/// How long everything may take to come to rest when the load is gone.
const REST_LIMIT: Duration = Duration::from_secs(90);

/// How often a state that sends no event is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be run.
pub(super) struct Plan {
    pub(super) time: Duration,
    pub(super) servers: usize,
    pub(super) node: usize,
    pub(super) callers: usize,
    pub(super) seed: u64,
}

impl Plan {
    /// A part of the run, so that also in a short one some servers are stable when they are hurt.
    fn stable_after(&self) -> Duration {
        Duration::from_secs((self.time.as_secs() / 5).clamp(3, 20))
    }
}

/// Runs the plan and prints the table. Returns whether every bound holds. Errors: the run could not be made.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<bool> {
    say(&format!(
        "chaos: {} servers ({} on node), {} callers, {:?}, seed {}; {}",
        plan.servers,
        plan.node,
        plan.callers,
        plan.time,
        plan.seed,
        machine()
    ));
    let stable = Arc::new(Stable::new(plan.servers, plan.node, plan.stable_after())?);
    let exporter = Exporter::install().context("the metrics cannot be recorded")?;
    let app = App::start(&stable.config()?, AppOptions::default()).await.context("the house does not stand")?;
    let watch = Watch::begin(&app, stable.members.iter().map(|member| member.id.to_string()));
    let begun = Instant::now();
    let all_up = until(START_LIMIT, || not_ready(&app).is_empty()).await;
    ensure!(all_up, "these servers did not come up: {:#?}", not_ready(&app));
    say(&format!("all ready after {:.1} s", begun.elapsed().as_secs_f64()));

    // One call a server: what is made once, at the first call, is no leak.
    let traffic = Traffic::new(Arc::clone(&stable), app.fleet().dispatch());
    traffic.call_everybody().await;
    let before = rest(stable.healthy_after, None).await;
    let counted_before = counted(&exporter);
    let traffic = Arc::new(Traffic::new(Arc::clone(&stable), app.fleet().dispatch()));
    let mut dice = fastrand::Rng::with_seed(plan.seed);
    let callers: Vec<_> = (0..plan.callers).map(|_| tokio::spawn(Arc::clone(&traffic).call_on(dice.fork()))).collect();
    let mut havoc = Havoc { app: &app, stable: &stable, traffic: &traffic, dice, faults: Vec::new(), unnoticed: 0 };
    havoc.wreak(plan.time).await?;
    traffic.is_over.store(true, Ordering::Relaxed);
    let mut notes = Notes { before, unnoticed: 0, ..Notes::default() };
    for caller in callers {
        notes.records.extend(caller.await.context("a caller panicked")?);
    }
    havoc.put_down_the_rest();
    (notes.faults, notes.unnoticed) = (havoc.faults, havoc.unnoticed);
    until(REST_LIMIT, || not_ready(&app).is_empty()).await;
    notes.not_back = not_ready(&app).len();
    notes.after = rest(stable.healthy_after, Some(before)).await;
    notes.counted = counted(&exporter) - counted_before;
    notes.hidden = processes::survivors(&processes::listed(&stable.hidden())).len();
    let late: Vec<ServerStatus> = not_ready(&app);
    app.shutdown().await;
    notes.left = processes::descendants(process::id()).len();
    let missed;
    (notes.changes, missed) = watch.end();
    ensure!(missed == 0, "{missed} events were missed: this run can say nothing of recovery");
    let executed = std::fs::read_to_string(stable.executed()).context("no call was executed")?;
    notes.executed = executed.lines().map(str::to_owned).collect();
    notes.logs = stable.members.iter().map(|member| member.kind == Kind::Fake).collect();
    Ok(tell(&notes, &late))
}

/// Prints what happened. Returns whether every bound holds.
fn tell(notes: &Notes, late: &[ServerStatus]) -> bool {
    say(&format!("{} calls: {}", notes.records.len(), tally(notes.records.iter().map(|record| word(&record.end)))));
    say(&format!("{} faults: {}", notes.faults.len(), tally(notes.faults.iter().map(|fault| fault.fault.to_string()))));
    let rows = verdict::rows(notes);
    say(&verdict::table(&rows));
    for record in notes.records.iter().filter(|record| is_odd(record)).take(10) {
        say(&format!("  odd: {record:?}"));
    }
    for status in late.iter().take(10) {
        say(&format!("  not back: {} is {}, {:?}", status.server, status.state, status.last_fault));
    }
    rows.iter().all(|row| row.holds)
}

fn is_odd(record: &Record) -> bool {
    matches!(record.end, End::Lost | End::Misrouted(_)) || record.ended > record.deadline + Duration::from_millis(250)
}

fn word(end: &End) -> String {
    match end {
        End::Good => "good".to_owned(),
        End::Misrouted(_) => "mis-routed".to_owned(),
        End::Failed { code, .. } => (*code).to_owned(),
        End::Lost => "lost".to_owned(),
    }
}

fn tally(words: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let parts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    parts.join(", ")
}

/// Whoever makes the faults.
struct Havoc<'a> {
    app: &'a App,
    stable: &'a Stable,
    traffic: &'a Traffic,
    dice: fastrand::Rng,
    faults: Vec<Injected>,
    unnoticed: usize,
}

impl Havoc<'_> {
    /// A fault every two seconds, for so long. The victim is chosen one fault ahead, so that calls gather there.
    async fn wreak(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        let mut ticks = interval(FAULT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            let Some((fault, victim)) = self.choose() else {
                ticks.tick().await;
                continue;
            };
            self.traffic.aim.store(victim, Ordering::Relaxed);
            ticks.tick().await;
            if Instant::now() >= until {
                return Ok(());
            }
            if let ControlFlow::Continue(pid) = self.is_ready(victim) {
                let member = &self.stable.members[victim];
                let is_single = self.app.fleet().status(&member.id).is_some_and(|status| status.failures == 0);
                let at = fault.inject(self.stable, member, pid)?;
                self.faults.push(Injected { at, server: victim, fault, pid, is_single, is_judged: true });
            }
            self.put_down_the_silent();
        }
    }

    /// A fault and a server that can have it and is ready.
    fn choose(&mut self) -> Option<(Fault, usize)> {
        let fault = Fault::ALL[self.dice.usize(0..Fault::ALL.len())];
        let suits = |index: &usize| {
            fault.suits(self.stable.members[*index].kind) && matches!(self.is_ready(*index), ControlFlow::Continue(_))
        };
        let suitable: Vec<usize> = (0..self.stable.members.len()).filter(suits).collect();
        (!suitable.is_empty()).then(|| (fault, suitable[self.dice.usize(0..suitable.len())]))
    }

    /// The process of a server that is ready and was not silenced.
    fn is_ready(&self, index: usize) -> ControlFlow<(), u32> {
        let status = self.app.fleet().status(&self.stable.members[index].id);
        let ready = status.filter(|status| status.state == ServerState::Ready);
        match ready.and_then(|status| status.facts?.pid) {
            Some(pid) if !self.faults.iter().any(|fault| fault.fault.is_silence() && fault.pid == pid) => {
                ControlFlow::Continue(pid)
            }
            Some(_) | None => ControlFlow::Break(()),
        }
    }

    /// Kills what was silent for too long and was not found.
    fn put_down_the_silent(&mut self) {
        for fault in self.faults.iter().filter(|fault| is_silent(fault) && fault.at.elapsed() >= SILENCE_LIMIT) {
            self.unnoticed += 1;
            processes::send(fault.pid, Signal::SIGKILL);
        }
    }

    /// Kills the other silent ones, too. Nobody had the time to find them, so that says nothing.
    fn put_down_the_rest(&mut self) {
        self.put_down_the_silent();
        for fault in self.faults.iter_mut().filter(|fault| is_silent(fault) && fault.at.elapsed() < SILENCE_LIMIT) {
            fault.is_judged = false;
            processes::send(fault.pid, Signal::SIGKILL);
        }
    }
}

/// Whether the process was silenced and lives on: the product has not found it yet.
fn is_silent(fault: &Injected) -> bool {
    fault.fault.is_silence() && processes::is_alive(fault.pid)
}

fn not_ready(app: &App) -> Vec<ServerStatus> {
    app.fleet().statuses().into_iter().filter(|status| status.state != ServerState::Ready).collect()
}

/// Looks until `is_so`, at most for `limit`. Returns whether it came to that.
async fn until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
    }
}

/// What this process holds when it is quiet: as it was at `wanted`, if it comes to that; else once `quiet` is over, in
/// which timers of the start run out.
async fn rest(quiet: Duration, wanted: Option<Held>) -> Held {
    let begun = Instant::now();
    let limit = quiet + Duration::from_secs(5);
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let held = held();
        if wanted == Some(held) || begun.elapsed() >= limit {
            return held;
        }
    }
}

fn held() -> Held {
    Held {
        descriptors: processes::descriptors(),
        tasks: Handle::current().metrics().num_alive_tasks(),
        processes: processes::descendants(process::id()).len(),
    }
}

/// How many calls the product says it had.
fn counted(exporter: &Exporter) -> u64 {
    let page = exporter.render();
    let series = page.lines().filter(|line| line.starts_with("ostler_tool_calls_total{"));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
