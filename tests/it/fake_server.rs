//! The fake server by itself: each behaviour does what its help says, or the tests that rely on it prove nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::peer::{Peer, text};
use crate::support::process::Known;
use crate::support::{process, wait};

async fn initialized(arguments: &[&str]) -> Peer {
    let mut peer = Peer::start(arguments);
    peer.request(0, "initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})).await;
    assert_eq!(peer.message().await["id"], 0);
    peer.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    peer
}

fn modern_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

#[tokio::test]
async fn without_arguments_it_is_a_good_legacy_server() {
    let mut peer = initialized(&[]).await;
    peer.request(1, "tools/list", json!({})).await;
    let list = peer.message().await;
    let names: Vec<&str> =
        list["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echo", "multiply", "save", "recall", "slow", "pid", "env"]);

    peer.call(2, "multiply", json!({"a": 17, "b": 23})).await;
    assert_eq!(text(&peer.message().await), "391");
    peer.call(3, "save", json!({"key": "magic", "value": "391"})).await;
    assert_eq!(text(&peer.message().await), "saved '391' under 'magic'");
    peer.call(4, "recall", json!({"key": "magic"})).await;
    assert_eq!(text(&peer.message().await), "391");
    peer.call(5, "recall", json!({"key": "other"})).await;
    assert_eq!(peer.message().await["result"]["isError"], true);
    peer.call(6, "pid", json!({})).await;
    assert_eq!(text(&peer.message().await), peer.pid().to_string());
    peer.request(7, "server/discover", json!({})).await;
    assert_eq!(peer.message().await["error"]["code"], -32601);
    peer.close_stdin();
    assert!(peer.exited().await.success());
}

#[tokio::test]
async fn a_slow_call_delays_nobody_and_a_cancelled_one_says_nothing() {
    let mut peer = initialized(&[]).await;
    peer.call(1, "slow", json!({"ms": 60_000})).await;
    peer.call(2, "slow", json!({"ms": 50})).await;
    peer.call(3, "echo", json!({"text": "first"})).await;
    assert_eq!(text(&peer.message().await), "first");
    assert_eq!(peer.message().await["id"], 2);
    peer.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})).await;
    peer.call(4, "echo", json!({"text": "last"})).await;
    assert_eq!(peer.message().await["id"], 4);
}

#[tokio::test]
async fn it_crashes_at_the_start_with_the_given_code_and_a_reason() {
    let mut peer = Peer::start(&["--crash-at-start", "3"]);
    assert!(peer.error_line().await.unwrap().contains("crashing at the start"));
    assert_eq!(peer.exited().await.code(), Some(3));
}

#[tokio::test]
async fn it_crashes_on_the_given_call_once_if_there_is_a_mark() {
    let home = Home::new();
    let arguments = ["--crash-on-call", "2", "--exit-code", "7", "--once", &home.text("crashed")];
    let mut first = initialized(&arguments).await;
    first.call(1, "echo", json!({"text": "one"})).await;
    assert_eq!(text(&first.message().await), "one");
    first.call(2, "echo", json!({"text": "two"})).await;
    assert_eq!(first.exited().await.code(), Some(7));

    let mut second = initialized(&arguments).await;
    for id in 1..=3 {
        second.call(id, "echo", json!({"text": "again"})).await;
        assert_eq!(text(&second.message().await), "again");
    }
}

#[tokio::test]
async fn it_closes_its_output_or_its_input_and_lives_on() {
    let mut mute = initialized(&["--close-stdout", "--ignore-eof"]).await;
    mute.call(1, "echo", json!({"text": "hello"})).await;
    assert_eq!(mute.line().await, None);
    mute.close_stdin();
    assert!(process::is_alive(mute.pid()));

    let mut deaf = initialized(&["--close-stdin"]).await;
    deaf.call(1, "echo", json!({"text": "hello"})).await;
    assert_eq!(text(&deaf.message().await), "hello");
    wait::until("a broken pipe", Duration::from_secs(5), async || {
        (!deaf.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"})).await).then_some(())
    })
    .await;
    assert!(process::is_alive(deaf.pid()));
}

#[tokio::test]
async fn it_writes_garbage_halves_and_too_much() {
    let mut peer = initialized(&["--garbage", "2", "--on-call", "2"]).await;
    peer.call(1, "echo", json!({"text": "clean"})).await;
    assert_eq!(text(&peer.message().await), "clean");
    peer.call(2, "echo", json!({"text": "after garbage"})).await;
    for _ in 0..2 {
        let line = peer.line().await.unwrap();
        assert!(serde_json::from_str::<Value>(&line).is_err(), "{line} is JSON");
    }
    assert_eq!(text(&peer.message().await), "after garbage");

    let mut broken = initialized(&["--broken"]).await;
    broken.call(1, "echo", json!({"text": "x"})).await;
    let line = broken.line().await.unwrap();
    assert!(line.starts_with('{') && serde_json::from_str::<Value>(&line).is_err(), "{line}");

    let mut large = initialized(&["--oversize", "100000"]).await;
    large.call(1, "echo", json!({"text": "small"})).await;
    assert_eq!(text(&large.message().await).len(), 100_000);
}

#[tokio::test]
async fn a_flood_comes_before_the_answer_and_leaves_no_mark_in_the_record() {
    let home = Home::new();
    let mut peer = initialized(&["--flood", "10000", "--record", &home.text("record")]).await;
    peer.call(1, "echo", json!({"text": "dry"})).await;
    for number in 0..10_000 {
        assert_eq!(peer.message().await.get("id"), None, "message {number}");
    }
    assert_eq!(text(&peer.message().await), "dry");
    let record = home.read("record");
    let methods: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let methods: Vec<&str> = methods.iter().map(|message| message["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "tools/call"]);
}

#[tokio::test]
async fn small_lies_surround_the_answer_of_a_call() {
    let mut peer = initialized(&["--wrong-id", "--duplicate", "--nonce", "--progress", "--list-changed"]).await;
    peer.request(
        1,
        "tools/call",
        json!({"name": "echo", "arguments": {"text": "x", "nonce": "n1"}, "_meta": {"progressToken": "t"}}),
    )
    .await;
    for step in 1..=3 {
        let progress = peer.message().await;
        assert_eq!(
            (&progress["params"]["progressToken"], &progress["params"]["progress"]),
            (&json!("t"), &json!(step))
        );
    }
    assert_eq!(peer.message().await["id"], 987_654_321);
    assert_eq!(peer.message().await["method"], "notifications/tools/list_changed");
    for _ in 0..2 {
        let answer = peer.message().await;
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["nonce"]), (&json!(1), &json!("n1")));
    }
    peer.request(2, "tools/list", json!({})).await;
    let tools = peer.message().await["result"]["tools"].as_array().unwrap().len();
    assert_eq!(tools, 8);
}

#[tokio::test]
async fn it_leaves_a_grandchild_and_a_daemon_that_do_not_go_with_it() {
    let home = Home::new();
    let (pids, daemon) = (home.text("pids"), home.text("daemon"));
    let mut peer = initialized(&["--grandchild", "--pids", &pids, "--daemonise", &daemon]).await;
    let group = process::wait_for_listed(&home.path("pids"), 2).await;
    let orphan = process::wait_for_listed(&home.path("daemon"), 1).await[0];
    assert_eq!(group[0], peer.pid());
    assert_eq!(process::descendants(peer.pid()), [group[1]], "the daemon belongs to nobody");
    let left = Known(vec![group[1], orphan]);
    peer.close_stdin();
    peer.exited().await;
    assert!(process::blocks_sigterm(orphan) && !process::blocks_sigterm(group[1]));
    assert_eq!(left.survivors(), left.0);
}

#[tokio::test]
async fn it_ignores_the_end_of_its_input_and_the_polite_signal_but_not_the_last_one() {
    let mut peer = initialized(&["--ignore-eof", "--ignore-sigterm"]).await;
    process::send(peer.pid(), Signal::SIGTERM);
    peer.call(1, "echo", json!({"text": "still here"})).await;
    assert_eq!(text(&peer.message().await), "still here");
    peer.close_stdin();
    process::send(peer.pid(), Signal::SIGTERM);
    assert!(process::is_alive(peer.pid()));
    process::send(peer.pid(), Signal::SIGKILL);
    assert_eq!(peer.exited().await.code(), None);
}

#[tokio::test]
async fn it_hangs_in_the_handshake_or_dies_of_what_it_does_not_know() {
    let mut hung = Peer::start(&["--hang-initialize"]);
    hung.request(1, "server/discover", json!({"_meta": modern_meta()})).await;
    hung.request(2, "initialize", json!({"protocolVersion": "2025-11-25"})).await;
    hung.request(3, "ping", json!({})).await;
    assert_eq!(hung.message().await["id"], 3);

    let mut frail = Peer::start(&["--die-on-unknown", "--era", "2024-11-05"]);
    frail.request(1, "server/discover", json!({"_meta": modern_meta()})).await;
    frail.request(2, "initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(frail.exited().await.code(), Some(1));
    assert_eq!(frail.line().await, None);
}

#[tokio::test]
async fn the_old_era_answers_with_its_own_revision() {
    let mut peer = Peer::start(&["--era", "2024-11-05"]);
    peer.request(1, "initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(peer.message().await["result"]["protocolVersion"], "2024-11-05");
}

#[tokio::test]
async fn the_modern_era_wants_its_meta_and_announces_changes_to_listeners_only() {
    let mut peer = Peer::start(&["--era", "modern", "--list-changed"]);
    peer.request(1, "initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(peer.message().await["error"]["code"], -32602);
    peer.request(2, "server/discover", json!({"_meta": modern_meta()})).await;
    let discovered = peer.message().await;
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(discovered["result"]["resultType"], "complete");
    let mut future = modern_meta();
    future["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
    peer.request(3, "tools/list", json!({"_meta": future})).await;
    assert_eq!(
        peer.message().await["error"],
        json!({
            "code": -32022, "message": "unsupported protocol version", "data": {"supported": ["2026-07-28"]},
        })
    );

    let call = json!({"name": "echo", "arguments": {"text": "x"}, "_meta": modern_meta()});
    peer.request(4, "tools/call", call.clone()).await;
    assert_eq!(peer.message().await["id"], 4);
    peer.request(
        5,
        "subscriptions/listen",
        json!({"_meta": modern_meta(), "notifications": {"toolsListChanged": true}}),
    )
    .await;
    let key = "io.modelcontextprotocol/subscriptionId";
    let acknowledged = peer.message().await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"], json!({"notifications": {"toolsListChanged": true}, "_meta": {key: 5}}));
    peer.request(6, "tools/call", call).await;
    let changed = peer.message().await;
    assert_eq!(
        (&changed["method"], &changed["params"]["_meta"][key]),
        (&json!("notifications/tools/list_changed"), &json!(5))
    );
    assert_eq!(peer.message().await["id"], 6);
}

#[tokio::test]
async fn malformed_tools_stand_among_the_good_ones() {
    let mut peer = initialized(&["--bad-tool"]).await;
    peer.request(1, "tools/list", json!({})).await;
    let tools = peer.message().await["result"]["tools"].as_array().unwrap().clone();
    assert_eq!(tools.len(), 10);
    assert_eq!(tools.iter().filter(|tool| !tool["inputSchema"].is_object()).count(), 1);
    assert_eq!(tools.iter().filter(|tool| tool["name"].is_null()).count(), 1);
}

#[tokio::test]
async fn it_says_on_standard_error_what_it_is_told_to() {
    let mut peer = Peer::start(&["--stderr", "3"]);
    for number in 1..=3 {
        assert_eq!(peer.error_line().await.unwrap(), format!("fake_server says line {number}"));
    }
}
