//! Servers of every age: how each is found out, and that finding out is never counted as a failure.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::config::Config;
use crate::support::daemon::{Daemon, text};
use crate::support::home::Home;
use crate::support::{process, wait};

async fn of_era(arguments: &[&str]) -> Daemon {
    let home = Home::new();
    let (record, pids) = (home.text("record"), home.text("pids"));
    let arguments = [arguments, &["--record", &record, "--pids", &pids]].concat();
    Daemon::settled(home, &Config::new().quick_restarts().fake("math", &arguments)).await
}

/// Checks that the server is up without any failure, speaks `revision` and answers.
async fn check(daemon: &Daemon, revision: &str) {
    let server = daemon.wait_for("math", |server| server["state"] == "ready").await;
    assert_eq!(
        (&server["revision"], &server["failures"], &server["restarts"]),
        (&json!(revision), &json!(0), &json!(0))
    );
    let answer = daemon.call("math__multiply", json!({"a": 17, "b": 23})).await.expect("it answers");
    assert_eq!(text(&answer), "391");
}

#[tokio::test]
async fn a_modern_server_is_discovered_and_never_initialized() {
    let daemon = of_era(&["--era", "modern"]).await;
    check(&daemon, "2026-07-28").await;
    let record = daemon.home.read("record");
    assert!(record.contains("\"server/discover\"") && !record.contains("\"initialize\""), "{record}");
}

#[tokio::test]
async fn a_server_of_2025_is_initialized_with_its_own_revision() {
    check(&of_era(&[]).await, "2025-11-25").await;
}

#[tokio::test]
async fn a_server_of_2024_is_initialized_with_its_own_revision() {
    check(&of_era(&["--era", "2024-11-05"]).await, "2024-11-05").await;
}

#[tokio::test]
async fn a_server_that_dies_of_the_probe_is_started_again_within_the_same_attempt_and_its_era_is_remembered() {
    let daemon = of_era(&["--era", "2024-11-05", "--die-on-unknown"]).await;
    check(&daemon, "2024-11-05").await;
    let starts = process::listed(&daemon.home.path("pids"));
    assert_eq!(starts.len(), 2, "one for the probe, one to stay");

    let pid = daemon.ready_pid("math").await;
    process::send(pid, Signal::SIGKILL);
    daemon.wait_for("math", |server| server["state"] == "ready" && server["pid"] != pid).await;
    let starts = process::listed(&daemon.home.path("pids"));
    assert_eq!(starts.len(), 3, "it is not probed again");
}

#[tokio::test]
async fn a_changed_list_is_fetched_in_both_eras() {
    for era in ["legacy", "modern"] {
        let daemon = of_era(&["--era", era, "--list-changed"]).await;
        assert!(!daemon.tools().await.contains(&"math__extra_1".to_owned()));
        daemon.call("math__echo", json!({"text": "x"})).await.unwrap();
        wait::until((era, "the new tool"), Duration::from_secs(5), async || {
            daemon.tools().await.contains(&"math__extra_1".to_owned()).then_some(())
        })
        .await;
        assert_eq!(text(&daemon.call("math__extra_1", json!({})).await.unwrap()), "extra_1 was called", "{era}");
    }
}
