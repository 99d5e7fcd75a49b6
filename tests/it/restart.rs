//! A server that dies while it serves: how soon it is noticed, what callers hear, when it comes back, who is told.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::daemon::{Daemon, text};
use crate::support::events::{is_change, now_ms};
use crate::support::process;
use crate::support::wait::within_three_runs;

const SERVING: &[&str] = &["ready", "degraded"];
const DOWN: &[&str] = &["stopping", "backoff"];

fn died(event: &Value) -> bool {
    is_change(event, "math", SERVING, DOWN)
}

fn backs_off(event: &Value) -> bool {
    event["kind"] == "state" && event["server"] == "math" && event["to"] == "backoff"
}

#[tokio::test]
async fn a_terminated_server_is_noticed_within_100_ms_and_is_back_after_its_backoff() {
    within_three_runs(async || {
        let config = Config::new().fake("math", &[]).with("while_restarting = \"fail\"");
        let daemon = Daemon::with(&config).await;
        let pid = daemon.ready_pid("math").await;
        let sent = now_ms();
        process::send(pid, Signal::SIGTERM);
        let noticed = daemon.events.nth(0, died).await["at_ms"].as_u64().unwrap().saturating_sub(sent);

        let refused = daemon.call("math__echo", json!({"text": "anybody?"})).await.expect_err("the server is down");
        assert_eq!((&refused["code"], &refused["may_have_run"]), (&json!("unavailable"), &json!(false)), "{refused:#}");
        let retry_after = refused["retry_after_ms"].as_u64().expect("it says when to come back");
        assert!(retry_after <= 1000, "the first backoff is at most its base: {retry_after} ms");

        let next = daemon.ready_pid("math").await;
        assert_ne!(next, pid);
        assert_eq!(text(&daemon.call("math__echo", json!({"text": "here"})).await.unwrap()), "here");
        let restarts = daemon.count("ostler_server_restarts_total", &["server=\"math\""]).await;
        let by_signal = daemon.count("ostler_server_restarts_total", &["server=\"math\"", "reason=\"signal\""]).await;
        assert_eq!((restarts, by_signal), (1, 1));
        if noticed < 100 { Ok(()) } else { Err(format!("noticed after {noticed} ms")) }
    })
    .await;
}

#[tokio::test]
async fn calls_that_come_while_a_server_restarts_wait_for_it_if_the_configuration_says_so() {
    let config = Config::new().fake("math", &[]).with("while_restarting = \"wait\"");
    let daemon = Daemon::with(&config).await;
    let pid = daemon.ready_pid("math").await;
    process::send(pid, Signal::SIGKILL);
    daemon.events.nth(0, died).await;
    let answered = daemon.call("math__pid", json!({})).await.expect("it waits for the restart");
    assert_ne!(text(&answered), pid.to_string());
}

#[tokio::test]
async fn four_deaths_in_a_row_make_growing_delays_and_one_notice_at_the_third() {
    let daemon = Daemon::with(&Config::new().quick_restarts().fake("math", &[])).await;
    let notices = || daemon.events.seen(|event| event["kind"] == "notice" && event["server"] == "math");
    let mut delays = Vec::new();
    for death in 0..4 {
        let pid = daemon.ready_pid("math").await;
        process::send(pid, Signal::SIGTERM);
        let event = daemon.events.nth(death, backs_off).await;
        delays.push(event["next_try_in_ms"].as_u64().expect("a backoff has an end"));
        daemon.wait_for("math", |server| server["state"] == "ready" && server["pid"] != pid).await;
        let told: Vec<Value> = notices().into_iter().map(|event| event["notice"].clone()).collect();
        let expected = if death < 2 { Vec::new() } else { vec![json!("failing_repeatedly")] };
        assert_eq!(told, expected, "after death {}", death + 1);
    }
    // Base 200 ms, doubled each time; jitter takes at most half. The millisecond is for rounding.
    for (delay, longest) in delays.iter().zip([200, 400, 800, 1600]) {
        assert!((longest / 2 - 1..=longest).contains(delay), "{delays:?}");
    }
    let told = daemon.lines().into_iter().filter(|line| line.contains("failed 3 times in a row")).count();
    assert_eq!(told, 1, "the log tells a person once: {:#?}", daemon.lines());
    assert_eq!(daemon.count("ostler_server_restarts_total", &["server=\"math\""]).await, 4);
    assert_eq!(daemon.count("ostler_server_consecutive_failures", &["server=\"math\""]).await, 4);
}

#[tokio::test]
async fn one_server_that_dies_leaves_the_others_and_their_memory_alone() {
    let daemon = Daemon::with(&Config::new().quick_restarts().fake("math", &[]).fake("notes", &[])).await;
    daemon.call("notes__save", json!({"key": "magic", "value": "391"})).await.unwrap();
    let notes = daemon.ready_pid("notes").await;
    process::send(daemon.ready_pid("math").await, Signal::SIGKILL);
    daemon.events.nth(0, died).await;
    assert_eq!(text(&daemon.call("notes__recall", json!({"key": "magic"})).await.unwrap()), "391");
    assert_eq!(daemon.ready_pid("notes").await, notes);
    assert!(
        daemon.tools().await.contains(&"math__multiply".to_owned()),
        "tools stay listed while their server is down"
    );
}
