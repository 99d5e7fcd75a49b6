//! A server that talks without end: its calls are answered in time, and nobody answers its notifications.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::daemon::{Daemon, text};
use crate::support::home::Home;

#[tokio::test]
async fn ten_thousand_notifications_during_a_call_delay_it_little_and_get_no_response() {
    let home = Home::new();
    let record = home.text("record");
    let config = Config::new().fake("math", &["--flood", "10000", "--record", &record]).fake("notes", &[]);
    let daemon = Daemon::settled(home, &config).await;
    for number in 1..=3 {
        let begun = Instant::now();
        let answer = daemon.call("math__multiply", json!({"a": 17, "b": number})).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(text(&answer), (17 * number).to_string());
        assert!(took < Duration::from_secs(5), "call {number} took {took:?}");
    }
    assert_eq!(daemon.server("math").await["restarts"], 0);

    let record = daemon.home.read("record");
    let frames: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_call = |frame: &&Value| frame["method"] == "tools/call";
    assert_eq!(frames.iter().filter(is_call).count(), 3, "{record}");
    let responses: Vec<&Value> = frames.iter().filter(|frame| frame.get("method").is_none()).collect();
    assert_eq!(responses, [&Value::Null; 0], "no frame may be a response");
}

#[tokio::test]
async fn a_flood_of_one_server_does_not_hold_up_the_calls_of_another() {
    let config = Config::new().fake("loud", &["--flood", "100000"]).fake("quiet", &[]);
    let daemon = Daemon::with(&config).await;
    let flood = daemon.call("loud__echo", json!({"text": "loud"}));
    let calls = async {
        let begun = Instant::now();
        for _ in 0..20 {
            daemon.call("quiet__echo", json!({"text": "quiet"})).await.unwrap();
        }
        begun.elapsed()
    };
    let (loud, took) = tokio::join!(flood, calls);
    assert_eq!(text(&loud.unwrap()), "loud");
    assert!(took < Duration::from_secs(5), "20 calls of the quiet server took {took:?}");
}
