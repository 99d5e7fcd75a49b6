//! The fake server under orders: what a chaotic run tells it, it does, or that run proves nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostler_tests::fake::Order;
use serde_json::json;

use crate::support::home::Home;
use crate::support::peer::{Peer, text};
use crate::support::process::{Known, is_alive, wait_for_listed};

/// A fake server that takes orders, after its first answer, and the socket for them.
async fn soldier(home: &Home) -> (Peer, PathBuf) {
    let mut peer = Peer::start(&["--orders", &home.text("orders")]);
    assert_eq!(echo(&mut peer, "here").await, "here");
    (peer, home.path("orders"))
}

async fn echo(peer: &mut Peer, word: &str) -> String {
    peer.call(1, "echo", json!({"text": word})).await;
    text(&peer.message().await).to_owned()
}

#[tokio::test]
async fn garbage_floods_and_long_lines_come_at_once_and_then_all_is_well() {
    let home = Home::new();
    let (mut peer, orders) = soldier(&home).await;
    Order::Garbage(2).give(&orders).unwrap();
    for _ in 0..2 {
        let line = peer.line().await.unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_err(), "{line}");
    }
    Order::Flood(3).give(&orders).unwrap();
    for _ in 0..3 {
        assert_eq!(peer.message().await["method"], "notifications/message");
    }
    Order::Oversize(100_000).give(&orders).unwrap();
    assert_eq!(peer.line().await.unwrap().len(), 100_000);
    assert_eq!(echo(&mut peer, "well").await, "well");
}

#[tokio::test]
async fn a_hung_server_lives_and_says_nothing() {
    let home = Home::new();
    let (mut peer, orders) = soldier(&home).await;
    // Obeyed one after the other: what is written between the hang and the end of the output would be read.
    for order in [Order::Hang, Order::Garbage(2), Order::CloseStdout] {
        order.give(&orders).unwrap();
    }
    assert_eq!(peer.line().await, None);
    assert!(is_alive(peer.pid()));
}

#[tokio::test]
async fn a_closed_output_ends_for_the_reader_and_the_server_lives() {
    let home = Home::new();
    let (mut peer, orders) = soldier(&home).await;
    Order::CloseStdout.give(&orders).unwrap();
    assert_eq!(peer.line().await, None);
    assert!(is_alive(peer.pid()));
}

#[tokio::test]
async fn a_daemon_is_left_behind_by_a_server_that_exits_well() {
    let home = Home::new();
    let (mut peer, orders) = soldier(&home).await;
    Order::Daemonise(home.path("hidden")).give(&orders).unwrap();
    assert!(peer.exited().await.success());
    let daemon = Known(wait_for_listed(&home.path("hidden"), 1).await);
    assert_eq!(daemon.survivors().len(), 1);
}

#[tokio::test]
async fn the_next_server_takes_the_orders_of_the_last_one() {
    let home = Home::new();
    let (mut first, orders) = soldier(&home).await;
    Order::Exit(1).give(&orders).unwrap();
    first.exited().await;
    Order::Exit(2).give(&orders).unwrap_err();
    let (mut second, orders) = soldier(&home).await;
    Order::Exit(2).give(&orders).unwrap();
    assert_eq!(second.exited().await.code(), Some(2));
}

#[tokio::test]
async fn every_call_with_a_nonce_is_logged_once_and_its_answer_says_who_gave_it() {
    let home = Home::new();
    let log = home.text("executed");
    for name in ["one", "two"] {
        let mut peer = Peer::start(&["--executed", &log, "--name", name, "--nonce"]);
        peer.call(1, "echo", json!({"text": "x", "nonce": format!("nonce of {name}")})).await;
        let answer = peer.message().await;
        let expected = json!({"server": name, "nonce": format!("nonce of {name}")});
        assert_eq!(answer["result"]["structuredContent"], expected);
    }
    assert_eq!(home.read("executed"), "nonce of one\nnonce of two\n");
}

#[tokio::test]
async fn a_start_is_slow_once() {
    let home = Home::new();
    let file = home.text("slow");
    home.write("slow", "300");
    let begun = Instant::now();
    echo(&mut Peer::start(&["--slow-once", &file]), "x").await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(!home.path("slow").exists());
    echo(&mut Peer::start(&["--slow-once", &file]), "x").await;
}

#[tokio::test]
async fn as_many_more_tools_are_listed_as_asked_for() {
    let mut peer = Peer::start(&["--more-tools", "3"]);
    peer.request(1, "tools/list", json!({})).await;
    assert_eq!(peer.message().await["result"]["tools"].as_array().unwrap().len(), 10);
}
