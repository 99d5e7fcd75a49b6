//! From what was noted in a run to a table with bounds. Pure: everything comes in, nothing is looked up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ostler_core::ServerState;

use super::caller::{End, Record};
use super::fault::{Fault, Injected};
use super::stable::PROBE;
use super::watch::Change;

/// How long after its deadline a call may end.
const LATE: Duration = Duration::from_millis(250);

/// The bounds of times.
const NOTICE: Duration = Duration::from_millis(100);
const RECOVERY: Duration = Duration::from_secs(2);
/// Three probes, ten seconds for an answer to each, and the time to stop and to start anew.
pub(super) const SILENCE: Duration = Duration::from_secs(3 * (PROBE + 10) + 15);

/// Everything that was noted.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) records: Vec<Record>,
    pub(super) faults: Vec<Injected>,
    pub(super) changes: Vec<Change>,
    /// The nonces that servers of ours executed, once an execution.
    pub(super) executed: Vec<String>,
    /// Which servers log what they execute, by index.
    pub(super) logs: Vec<bool>,
    /// How many calls the product counted.
    pub(super) counted: u64,
    /// Servers that were silent and were never found so.
    pub(super) unnoticed: usize,
    /// Servers that were not ready when all was quiet again.
    pub(super) not_back: usize,
    pub(super) before: Held,
    pub(super) after: Held,
    /// Daemonised processes of dead incarnations that live.
    pub(super) hidden: usize,
    /// Processes of ours after the shutdown.
    pub(super) left: usize,
}

/// What this process holds when all is quiet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) descriptors: usize,
    pub(super) tasks: usize,
    pub(super) processes: usize,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) measured: String,
    pub(super) bound: String,
    pub(super) holds: bool,
}

/// The table.
pub(super) fn rows(notes: &Notes) -> Vec<Row> {
    let count = |is: &dyn Fn(&Record) -> bool| notes.records.iter().filter(|record| is(record)).count();
    let late = |record: &Record| record.end != End::Lost && record.ended > record.deadline + LATE;
    let made = u64::try_from(notes.records.len()).unwrap_or(u64::MAX);
    let execution = Execution::of(notes);
    let mut rows = vec![
        none("lost", count(&|record| record.end == End::Lost)),
        none("duplicated: counted by the product more or less than once", notes.counted.abs_diff(made)),
        none("mis-routed", count(&|record| matches!(record.end, End::Misrouted(_)))),
        none("past deadline + 250 ms", count(&late)),
        none("executed more than once for an accepted attempt", execution.repeated),
        none("executed although the error says that it was not", execution.denied),
        none("answered well and never executed", execution.invented),
    ];
    rows.push(time("death to error in flight, p99", &notice_times(notes), 99, NOTICE));
    rows.push(time("recovery of a single kill, p50", &recovery_times(notes), 50, RECOVERY));
    rows.push(time("silence to ready again, longest", &silence_times(notes), 100, SILENCE));
    rows.extend([
        none("silent servers that were not noticed", notes.unnoticed),
        none("servers not ready when all was quiet again", notes.not_back),
        same("descriptors, before and after", notes.before.descriptors, notes.after.descriptors),
        same("tasks, before and after", notes.before.tasks, notes.after.tasks),
        same("processes, before and after", notes.before.processes, notes.after.processes),
        none("daemonised processes that were left", notes.hidden),
        none("processes after the shutdown", notes.left),
    ]);
    rows
}

fn none(name: &'static str, found: impl Into<Count>) -> Row {
    let Count(found) = found.into();
    Row { name, measured: found.to_string(), bound: "0".to_owned(), holds: found == 0 }
}

struct Count(u64);

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(count)
    }
}

fn same(name: &'static str, before: usize, after: usize) -> Row {
    Row { name, measured: format!("{before} -> {after}"), bound: "the same".to_owned(), holds: before == after }
}

/// A percentile of times. A run that has none of them says so and misses nothing.
fn time(name: &'static str, times: &[Duration], percent: usize, bound: Duration) -> Row {
    let bound_text = format!("<= {} ms", bound.as_millis());
    let Some(found) = percentile(times, percent) else {
        return Row { name, measured: "never happened".to_owned(), bound: bound_text, holds: true };
    };
    let measured = format!("{:.1} ms of {}", found.as_secs_f64() * 1000.0, times.len());
    Row { name, measured, bound: bound_text, holds: found <= bound }
}

/// The smallest of `times` that `percent` of a hundred do not exceed.
pub(super) fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied()
}

/// What the logs of the servers say against what callers were told.
struct Execution {
    repeated: usize,
    denied: usize,
    invented: usize,
}

impl Execution {
    fn of(notes: &Notes) -> Self {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for nonce in &notes.executed {
            *times.entry(nonce).or_default() += 1;
        }
        let ran = |record: &Record| times.get(record.nonce.as_str()).copied().unwrap_or(0);
        let logged = notes.records.iter().filter(|record| notes.logs.get(record.server) == Some(&true));
        let mut execution = Self { repeated: 0, denied: 0, invented: 0 };
        for record in logged {
            let ran = ran(record);
            execution.repeated += usize::from(ran > 1);
            execution.denied += usize::from(matches!(record.end, End::Failed { may_have_run: false, .. }) && ran > 0);
            execution.invented += usize::from(record.end == End::Good && ran == 0);
        }
        execution
    }
}

/// For every call that was in flight when its server died: how long until its error.
fn notice_times(notes: &Notes) -> Vec<Duration> {
    let deaths = notes.faults.iter().filter(|fault| fault.fault.is_death());
    let of_one = |death: &Injected| {
        let (at, server) = (death.at, death.server);
        let in_flight = move |record: &&Record| record.server == server && record.begun < at && record.ended > at;
        let failed = |record: &&Record| matches!(record.end, End::Failed { .. } | End::Lost);
        let times = notes.records.iter().filter(in_flight).filter(failed);
        times.map(|record| record.ended - at).collect::<Vec<_>>()
    };
    deaths.flat_map(of_one).collect()
}

/// For every kill of a server that had no failure behind it: how long until it was ready again.
fn recovery_times(notes: &Notes) -> Vec<Duration> {
    let is_single_kill = |fault: &&Injected| fault.fault == Fault::Kill && fault.is_single;
    notes.faults.iter().filter(is_single_kill).filter_map(|fault| until_ready(notes, fault)).collect()
}

fn silence_times(notes: &Notes) -> Vec<Duration> {
    let silent = notes.faults.iter().filter(|fault| fault.fault.is_silence() && fault.is_judged);
    silent.filter_map(|fault| until_ready(notes, fault)).collect()
}

/// From a fault to the first moment at which its server was ready after it had not been.
pub(super) fn until_ready(notes: &Notes, fault: &Injected) -> Option<Duration> {
    let after = notes.changes.iter().filter(|change| change.server == fault.server && change.at > fault.at);
    let mut down = after.skip_while(|change| is_serving(change.to));
    down.find(|change| change.to == ServerState::Ready).map(|change| since(change.at, fault.at))
}

fn is_serving(state: ServerState) -> bool {
    matches!(state, ServerState::Ready | ServerState::Degraded)
}

fn since(later: Instant, earlier: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}

/// The table as text.
pub(super) fn table(rows: &[Row]) -> String {
    let width = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, measured) = (width(&|row| row.name.len()), width(&|row| row.measured.len()));
    let bounds = width(&|row| row.bound.len());
    let line = |row: &Row| {
        let verdict = if row.holds { "holds" } else { "MISSED" };
        format!("  {:names$}  {:>measured$}  {:>bounds$}  {verdict}\n", row.name, row.measured, row.bound)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
