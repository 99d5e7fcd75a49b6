//! A short simulation of the whole runtime; `cargo xtask sim` plays the long one.

use std::time::Duration;

use ostler_tests::sim::{Plan, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, span: Duration::from_secs(120), servers: 8, keep: false }
}

#[test]
fn no_promise_is_broken_whatever_servers_callers_and_operators_do() {
    let (mut calls, mut deaths) = (0, 0);
    for seed in 1..=25 {
        let report = run(&plan(seed));
        let broken = report.broken.map(|broken| format!("seed {seed}: {broken}\n{}", report.trace.join("\n")));
        assert_eq!(broken, None);
        calls += report.tally.answered;
        deaths += report.tally.deaths;
    }
    // A run in which nothing happens keeps every promise.
    assert!(calls > 1_000 && deaths > 50, "{calls} calls, {deaths} deaths");
}

#[test]
fn the_same_seed_tells_the_same_story_byte_for_byte() {
    for seed in [3, 4] {
        let plan = Plan { keep: true, ..plan(seed) };
        let (one, other) = (run(&plan), run(&plan));
        let difference = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!((one.lines, one.digest), (other.lines, other.digest), "seed {seed}");
    }
    assert_ne!(run(&plan(3)).digest, run(&plan(4)).digest);
}
