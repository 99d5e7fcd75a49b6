//! The ways in which a server fails a call or itself, one by one: the call ends in time, and the next one works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::daemon::{Daemon, text};
use crate::support::home::Home;
use crate::support::process::{Known, listed};
use crate::support::wait;

/// Longer than any of these calls may hang: well below the 10 seconds of their own timeout.
const SOON: Duration = Duration::from_secs(5);

/// A daemon over one fake server that misbehaves once.
async fn once(behaviour: &[&str], more: &[&str]) -> Daemon {
    let home = Home::new();
    let (mark, pids) = (home.text("mark"), home.text("pids"));
    let arguments = [behaviour, &["--once", &mark, "--pids", &pids]].concat();
    let mut config = Config::new().quick_restarts().fake("math", &arguments).with("call_timeout = \"10s\"");
    for line in more {
        config = config.with(line);
    }
    Daemon::settled(home, &config).await
}

/// The first call, which must end soon, however it ends.
async fn first_call(daemon: &Daemon) -> Result<Value, Value> {
    let begun = Instant::now();
    let answer = daemon.call("math__echo", json!({"text": "first"})).await;
    let took = begun.elapsed();
    assert!(took < SOON, "the call ended after {took:?} only: {answer:?}");
    answer
}

async fn next_call_works(daemon: &Daemon) {
    assert_eq!(daemon.call_until_well("math__echo", &json!({"text": "next"})).await, "next");
}

/// Checks that a call which finds its server dying is lost, that the server was restarted once and works again.
async fn check_death(behaviour: &[&str], reason: &str) -> Daemon {
    let daemon = once(behaviour, &[]).await;
    let pid = daemon.ready_pid("math").await;
    let lost = first_call(&daemon).await.expect_err("the server dies of it");
    assert_eq!(
        (&lost["code"], &lost["may_have_run"]),
        (&json!("server_lost"), &json!(true)),
        "{behaviour:?}: {lost:#}"
    );
    next_call_works(&daemon).await;
    let server = daemon.server("math").await;
    assert_eq!((&server["restarts"], &server["last_fault"]["reason"]), (&json!(1), &json!(reason)), "{server:#}");
    assert_ne!(daemon.ready_pid("math").await, pid);
    daemon
}

#[tokio::test]
async fn a_server_that_exits_during_a_call_loses_it_and_comes_back() {
    let daemon = check_death(&["--crash-on-call", "1", "--exit-code", "7"], "exit").await;
    assert_eq!(daemon.server("math").await["last_fault"]["exit"], "exit code 7");
}

#[tokio::test]
async fn a_server_that_closes_its_output_is_dead_although_it_lives() {
    let daemon = check_death(&["--close-stdout", "--ignore-eof"], "eof").await;
    assert_only_one_lives(&daemon).await;
}

#[tokio::test]
async fn a_server_that_exits_is_dead_although_a_grandchild_holds_its_output() {
    let daemon = check_death(&["--crash-on-call", "1", "--grandchild"], "exit").await;
    let pids = listed(&daemon.home.path("pids"));
    assert_eq!(pids.len(), 4, "two servers and two grandchildren");
    let first_family = Known(pids[..2].to_vec());
    wait::until("the end of the first family", SOON, async || first_family.survivors().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_server_that_closes_its_input_is_dead_although_it_lives() {
    let daemon = once(&["--close-stdin"], &[]).await;
    let pid = daemon.ready_pid("math").await;
    assert_eq!(text(&first_call(&daemon).await.expect("the first call is answered")), "first");
    next_call_works(&daemon).await;
    assert_ne!(daemon.ready_pid("math").await, pid);
    assert_eq!(daemon.server("math").await["last_fault"]["reason"], "eof");
    assert_only_one_lives(&daemon).await;
}

/// Of all processes that the server has been, only the current one lives.
async fn assert_only_one_lives(daemon: &Daemon) {
    let current = daemon.ready_pid("math").await;
    let known = Known(listed(&daemon.home.path("pids")).into_iter().filter(|pid| *pid != current).collect());
    assert!(!known.0.is_empty());
    wait::until(("the end of", &known.0), SOON, async || known.survivors().is_empty().then_some(())).await;
}

#[tokio::test]
async fn text_that_is_not_json_between_the_messages_is_passed_over() {
    let daemon = once(&["--garbage", "2"], &[]).await;
    assert_eq!(text(&first_call(&daemon).await.expect("the answer follows")), "first");
    next_call_works(&daemon).await;
}

#[tokio::test]
async fn half_an_answer_fails_its_call_soon_and_the_next_one_works() {
    let daemon = once(&["--broken"], &[]).await;
    let failed = first_call(&daemon).await.expect_err("there is no answer");
    assert_ne!(failed["code"], "timed_out", "{failed:#}");
    next_call_works(&daemon).await;
}

#[tokio::test]
async fn an_answer_above_the_frame_limit_fails_its_call_soon_and_the_next_one_works() {
    let daemon = once(&["--oversize", "1000000"], &["max_frame = \"64KiB\""]).await;
    let failed = first_call(&daemon).await.expect_err("the answer is too large");
    assert_ne!(failed["code"], "timed_out", "{failed:#}");
    next_call_works(&daemon).await;
}

#[tokio::test]
async fn a_large_answer_within_the_frame_limit_arrives_whole() {
    let daemon = once(&["--oversize", "1000000"], &["max_frame = \"4MiB\""]).await;
    assert_eq!(text(&first_call(&daemon).await.unwrap()).len(), 1_000_000);
}

#[tokio::test]
async fn answers_that_nobody_asked_for_and_answers_given_twice_change_nothing() {
    let arguments = ["--wrong-id", "--duplicate", "--nonce", "--progress"];
    let daemon = Daemon::with(&Config::new().fake("math", &arguments)).await;
    for number in 0..20 {
        let nonce = format!("n{number}");
        let answer = daemon.call("math__echo", json!({"text": nonce, "nonce": nonce})).await.unwrap();
        assert_eq!((text(&answer), &answer["result"]["structuredContent"]["nonce"]), (nonce.clone(), &json!(nonce)));
    }
    assert_eq!(daemon.server("math").await["restarts"], 0);
}

#[tokio::test]
async fn calls_answered_out_of_order_each_get_their_own_answer() {
    let daemon = Daemon::with(&Config::new().fake("math", &[])).await;
    let slow = daemon.call("math__slow", json!({"ms": 300}));
    let slower = daemon.call("math__slow", json!({"ms": 500}));
    let quick = daemon.call("math__echo", json!({"text": "quick"}));
    let (slower, slow, quick) = tokio::join!(slower, slow, quick);
    let texts = [slower, slow, quick].map(|answer| text(&answer.unwrap()));
    assert_eq!(texts, ["answered after 500 ms", "answered after 300 ms", "quick"]);
}

#[tokio::test]
async fn a_call_past_its_deadline_is_cancelled_at_the_server_and_others_go_on() {
    let home = Home::new();
    let record = home.text("record");
    let config = Config::new().fake("math", &["--record", &record]).with("call_timeout = \"300ms\"");
    let daemon = Daemon::settled(home, &config).await;
    let late = daemon.call("math__slow", json!({"ms": 60_000})).await.expect_err("it takes a minute");
    assert_eq!((&late["code"], &late["may_have_run"]), (&json!("timed_out"), &json!(true)), "{late:#}");
    wait::until("a cancellation", SOON, async || {
        daemon.home.read("record").contains("notifications/cancelled").then_some(())
    })
    .await;
    next_call_works(&daemon).await;
    assert_eq!(daemon.server("math").await["restarts"], 0);
}
