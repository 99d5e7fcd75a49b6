//! The ops listener as a scraper and a browser meet it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::daemon::Daemon;

#[tokio::test]
async fn every_metric_of_a_page_has_a_help_text_and_none_is_a_summary() {
    let daemon = Daemon::with(&Config::new().fake("math", &[])).await;
    daemon.call("math__echo", json!({"text": "x"})).await.unwrap();
    let (status, page) = daemon.ops("/metrics").await;
    assert_eq!(status, 200);
    let word = |line: &str, number: usize| line.split_whitespace().nth(number).unwrap_or_default().to_owned();
    let helped: BTreeSet<_> =
        page.lines().filter(|line| line.starts_with("# HELP")).map(|line| word(line, 2)).collect();
    let typed = page.lines().filter(|line| line.starts_with("# TYPE"));
    for (name, kind) in typed.map(|line| (word(line, 2), word(line, 3))) {
        assert!(helped.contains(&name), "{name} has no help text");
        assert_ne!(kind, "summary", "{name} cannot be aggregated");
    }
    let ok = ["server=\"math\"", "tool=\"echo\"", "outcome=\"ok\""];
    assert_eq!(daemon.count("ostler_tool_calls_total", &ok).await, 1);
    assert_eq!(daemon.count("ostler_server_up", &["server=\"math\""]).await, 1);
    assert_eq!(daemon.count("ostler_server_state", &["server=\"math\"", "state=\"ready\""]).await, 1);
    assert_eq!(daemon.count("ostler_server_state", &["server=\"math\""]).await, 1, "one state at a time");
}

#[tokio::test]
async fn the_health_of_the_daemon_is_told_and_nothing_can_be_changed_over_tcp() {
    let daemon = Daemon::with(&Config::new().fake("math", &[])).await;
    assert_eq!(daemon.ops("/healthz").await.0, 200);
    let (status, body) = daemon.ops("/readyz").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["ready"], &body["states"]), (200, &json!(true), &json!({"ready": 1})));
    for path in ["/v1/servers", "/v1/call", "/v1/events"] {
        assert_eq!(daemon.ops(path).await.0, 404, "{path} is the socket's alone");
    }
}
