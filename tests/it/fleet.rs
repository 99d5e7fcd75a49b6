//! A fleet with bad members: the good ones do not wait for them, and each bad one says what is wrong with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::daemon::{Daemon, text};
use crate::support::home::Home;
use crate::support::wait::within_three_runs;

const MISSING: &str = "there-is-no-such-program";

fn five() -> Config {
    Config::new()
        .server("missing", MISSING, &[])
        .fake("hanging", &["--hang-initialize"])
        .with("start_timeout = \"3s\"")
        .fake("crashing", &["--crash-at-start", "3"])
        .fake("math", &[])
        .fake("notes", &[])
}

#[tokio::test]
async fn two_good_servers_are_callable_within_two_seconds_beside_three_bad_ones() {
    within_three_runs(async || {
        let begun = Instant::now();
        let daemon = Daemon::start(Home::new(), &five()).await;
        let product = daemon.call_until_well("math__multiply", &json!({"a": 17, "b": 23})).await;
        daemon.call_until_well("notes__save", &json!({"key": "magic", "value": product})).await;
        let took = begun.elapsed();
        let recalled = daemon.call("notes__recall", json!({"key": "magic"})).await.unwrap();
        assert_eq!(text(&recalled), "391");
        if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("callable after {took:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_list_of_servers_says_of_each_bad_one_what_is_wrong_and_when_it_is_tried_again() {
    let daemon = Daemon::settled(Home::new(), &five()).await;
    let with_next_try = |server: &Value| {
        let is_waiting = server["state"] == "backoff" || server["state"] == "needs_action";
        is_waiting && server["last_fault"].is_object() && server["next_try_in_ms"].is_u64()
    };

    let missing = daemon.wait_for("missing", with_next_try).await;
    assert_eq!((&missing["state"], &missing["last_fault"]["class"]), (&json!("needs_action"), &json!("not_found")));
    assert!(missing["last_fault"]["message"].as_str().unwrap().contains(MISSING), "{missing:#}");
    assert!(missing["last_fault"]["hint"].is_string(), "{missing:#}");

    let crashing = daemon.wait_for("crashing", with_next_try).await;
    assert_eq!(crashing["last_fault"]["exit"], "exit code 3", "{crashing:#}");
    assert_eq!(crashing["last_fault"]["class"], "crash_on_start", "{crashing:#}");
    assert!(crashing["last_fault"]["stderr_tail"].as_str().unwrap().contains("crashing at the start"), "{crashing:#}");

    let hanging = daemon.wait_for("hanging", with_next_try).await;
    assert_eq!((&hanging["state"], &hanging["last_fault"]["reason"]), (&json!("backoff"), &json!("start_timeout")));

    let told = daemon.home.run(&["servers", "-v"]).await.succeeded();
    told.says(&["missing", MISSING, "hanging", "crashing", "exit code 3", "math", "notes", "ready"]);
}

#[tokio::test]
async fn without_a_daemon_the_commands_run_a_fleet_for_themselves_and_say_so() {
    let home = Home::new();
    Config::new().fake("math", &[]).write(&home);
    let ran = home.run(&["call", "math__multiply", r#"{"a": 6, "b": 7}"#]).await.succeeded().says(&["42"]);
    assert!(ran.stderr.contains("daemon"), "it must say that no daemon runs: {ran:#?}");
    home.run(&["tools"]).await.succeeded().says(&["math__multiply", "math__pid"]);
    let servers = home.run(&["servers", "--json"]).await.succeeded().json();
    assert_eq!((&servers[0]["server"], &servers[0]["state"]), (&json!("math"), &json!("ready")));
}

#[tokio::test]
async fn a_malformed_tool_is_refused_and_its_neighbours_are_offered() {
    let daemon = Daemon::with(&Config::new().fake("math", &["--bad-tool"])).await;
    let server = daemon.server("math").await;
    assert_eq!((&server["state"], &server["tools"], &server["refused_tools"]), (&json!("ready"), &json!(7), &json!(3)));
    assert_eq!(text(&daemon.call("math__echo", json!({"text": "well"})).await.unwrap()), "well");
}
