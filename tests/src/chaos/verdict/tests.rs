//! Every bound of the table can be missed, by exactly the run that misses it.

use super::*;

/// A run of one call to a server that logs, killed once, in which all is well.
fn good(start: Instant) -> Notes {
    let at = |ms: u64| start + Duration::from_millis(ms);
    let record =
        Record { nonce: "n0".to_owned(), server: 0, begun: at(0), ended: at(10), deadline: at(500), end: End::Good };
    let change = |ms: u64, to: ServerState| Change { at: at(ms), server: 0, to };
    let held = Held { descriptors: 10, tasks: 20, processes: 3 };
    Notes {
        records: vec![record],
        faults: vec![fault(start, Fault::Kill)],
        changes: vec![change(101, ServerState::Backoff), change(900, ServerState::Ready)],
        executed: vec!["n0".to_owned()],
        logs: vec![true],
        counted: 1,
        before: held,
        after: held,
        ..Notes::default()
    }
}

fn fault(start: Instant, fault: Fault) -> Injected {
    Injected { at: start + Duration::from_millis(100), server: 0, fault, pid: 1, is_single: true, is_judged: true }
}

fn missed(notes: &Notes) -> Vec<&'static str> {
    rows(notes).into_iter().filter(|row| !row.holds).map(|row| row.name).collect()
}

/// What is missed when `spoil` has changed a good run.
fn check(spoil: impl Fn(&mut Notes, Instant), expected: &[&str]) {
    let start = Instant::now();
    let mut notes = good(start);
    spoil(&mut notes, start);
    assert_eq!(missed(&notes), expected);
}

#[test]
fn a_good_run_misses_nothing() {
    check(|_, _| {}, &[]);
}

#[test]
fn every_way_to_end_a_call_badly_is_found() {
    check(|notes, _| notes.records[0].end = End::Lost, &["lost"]);
    check(|notes, _| notes.counted = 2, &["duplicated: counted by the product more or less than once"]);
    check(|notes, _| notes.records[0].end = End::Misrouted(String::new()), &["mis-routed"]);
    let late = |notes: &mut Notes, start: Instant| notes.records[0].ended = start + Duration::from_millis(751);
    check(late, &["past deadline + 250 ms"]);
}

#[test]
fn every_lie_about_an_execution_is_found() {
    let again = |notes: &mut Notes, _| notes.executed.push("n0".to_owned());
    check(again, &["executed more than once for an accepted attempt"]);
    let denied = |notes: &mut Notes, _| {
        notes.records[0].end = End::Failed { code: "unavailable", may_have_run: false };
    };
    check(denied, &["executed although the error says that it was not"]);
    check(|notes, _| notes.executed.clear(), &["answered well and never executed"]);
    // A server that keeps no log cannot be asked.
    let without_log = |notes: &mut Notes, _| {
        notes.executed.clear();
        notes.logs[0] = false;
    };
    check(without_log, &[]);
}

#[test]
fn an_error_in_flight_that_comes_late_is_found_and_a_call_that_came_later_is_not_in_flight() {
    let in_flight = |begun: u64, ended: u64| {
        move |notes: &mut Notes, start: Instant| {
            let record = &mut notes.records[0];
            (record.begun, record.ended) = (start + Duration::from_millis(begun), start + Duration::from_millis(ended));
            record.end = End::Failed { code: "server_lost", may_have_run: true };
        }
    };
    check(in_flight(50, 150), &[]);
    check(in_flight(50, 250), &["death to error in flight, p99"]);
    check(in_flight(120, 250), &[]);
}

#[test]
fn slow_ways_back_are_found() {
    let back_at =
        |ms: u64| move |notes: &mut Notes, start: Instant| notes.changes[1].at = start + Duration::from_millis(ms);
    check(back_at(2100), &[]);
    check(back_at(2101), &["recovery of a single kill, p50"]);
    let silent = |ms: u64| {
        move |notes: &mut Notes, start: Instant| {
            back_at(ms)(notes, start);
            notes.faults[0].fault = Fault::Hang;
        }
    };
    let bound = u64::try_from(SILENCE.as_millis()).unwrap();
    check(silent(bound + 100), &[]);
    check(silent(bound + 101), &["silence to ready again, longest"]);
    let without_time = |notes: &mut Notes, start: Instant| {
        silent(bound + 101)(notes, start);
        notes.faults[0].is_judged = false;
    };
    check(without_time, &[]);
    check(|notes, _| notes.unnoticed = 1, &["silent servers that were not noticed"]);
    check(|notes, _| notes.not_back = 1, &["servers not ready when all was quiet again"]);
}

#[test]
fn everything_that_is_kept_is_found() {
    check(|notes, _| notes.after.descriptors += 1, &["descriptors, before and after"]);
    check(|notes, _| notes.after.tasks += 1, &["tasks, before and after"]);
    check(|notes, _| notes.after.processes += 1, &["processes, before and after"]);
    check(|notes, _| notes.hidden = 1, &["daemonised processes that were left"]);
    check(|notes, _| notes.left = 1, &["processes after the shutdown"]);
}

#[test]
fn a_percentile_is_one_of_the_times() {
    let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
    let check = |percent, ms| assert_eq!(percentile(&times, percent), Some(Duration::from_millis(ms)));
    check(50, 100);
    check(99, 198);
    check(100, 200);
    assert_eq!(percentile(&[], 99), None);
    assert_eq!(percentile(&times[..1], 1), Some(Duration::from_millis(200)));
}
