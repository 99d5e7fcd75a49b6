//! Notifications: which are passed on, and what a server gets that sends too many.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_flood_of_notifications_delays_no_answer_and_draws_no_response() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 8 << 10).await;
    let running = call(&wire.upstream, "{}", 5);
    let request = wire.peer.expect("tools/call").await;
    let log = json!({"method": "notifications/message", "params": {"level": "info", "data": "x".repeat(100)}});
    for _ in 0..10_000 {
        wire.peer.send(&log).await;
    }
    wire.peer.send(&json!({"method": "notifications/vendor/thing", "params": {}})).await;
    wire.peer.answer(&request, &json!({"n": 1})).await;
    assert_eq!(text(running.await), r#"{"n":1}"#);
    assert_eq!(wire.ear.logs.lock().unwrap().len(), 1_000);
    assert_eq!(wire.counts.of("dropped"), 9_001, "one we do not know counts like any other");
    let next = call(&wire.upstream, r#"{"next":true}"#, 5);
    assert_eq!(wire.peer.expect("tools/call").await["params"]["next"], true, "nothing came between the two calls");
    next.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_change_of_a_storm_is_told() {
    let mut wire = wire().await;
    for _ in 0..3_000 {
        wire.peer.send(&json!({"method": "notifications/tools/list_changed"})).await;
    }
    wire.peer.send(&json!({"method": "notifications/prompts/list_changed"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let changes = wire.ear.changes.lock().unwrap();
    assert!(changes.len() <= 1_002, "{}", changes.len());
    assert!(changes[1_000..].contains(&Kind::Tools) && changes.contains(&Kind::Prompts));
}

#[tokio::test(start_paused = true)]
async fn progress_reaches_its_observer_under_a_token_of_ours() {
    let mut wire = wire().await;
    let eye = Arc::new(Eye::default());
    let mut request = tool_call(r#"{"name":"a","_meta":{"progressToken":"theirs","k":1}}"#, 60);
    request.observer = Some(Arc::clone(&eye) as Arc<dyn Observer>);
    let upstream = Arc::clone(&wire.upstream);
    let running = tokio::spawn(async move { upstream.request(request).await.map(drop) });
    let request = wire.peer.expect("tools/call").await;
    assert_eq!(request["params"]["_meta"], json!({"progressToken": request["id"], "k": 1}));
    let progress = |token: &Value, n: u32| json!({"method": "notifications/progress", "params": {"progress": n, "progressToken": token}});
    wire.peer.send(&progress(&json!("theirs"), 1)).await;
    wire.peer.send(&progress(&request["id"], 2)).await;
    wire.peer.send(&progress(&request["id"], 3)).await;
    wire.peer.answer(&request, &json!({})).await;
    running.await.expect("no panic").expect("answered");
    wire.peer.send(&progress(&request["id"], 4)).await;
    let seen: Vec<Value> = eye.0.lock().unwrap().iter().map(|seen| serde_json::from_str(seen).expect("JSON")).collect();
    assert_eq!(seen.iter().map(|seen| seen["progress"].clone()).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_calls_a_request_off_is_heard_in_the_middle_of_a_flood() {
    let mut wire = wire().await;
    let running = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    for _ in 0..2_000 {
        wire.peer.send(&json!({"method": "notifications/vendor/thing"})).await;
    }
    let params = json!({"requestId": request["id"]});
    wire.peer.send(&json!({"method": "notifications/cancelled", "params": params})).await;
    assert!(text(running.await).contains("the server cancelled the request"));
}

fn change(kind: &str) -> Value {
    json!({"method": format!("notifications/{kind}/list_changed")})
}

#[tokio::test(start_paused = true)]
async fn one_rate_holds_for_notifications_of_every_kind() {
    let mut wire = wire().await;
    for number in 0..3_000 {
        let notification = match number % 4 {
            0 => json!({"method": "notifications/progress", "params": {"progressToken": "x", "progress": 1}}),
            1 => json!({"method": "notifications/message", "params": {"level": "info", "data": "x"}}),
            2 => json!({"method": "notifications/cancelled", "params": {"requestId": 1}}),
            _ => json!({"method": "notifications/vendor/thing"}),
        };
        wire.peer.send(&notification).await;
    }
    wire.peer.send(&change("tools")).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(wire.counts.of("dropped"), 2_001);
    assert_eq!(wire.ear.logs.lock().unwrap().len(), 250);
    assert_eq!(*wire.ear.changes.lock().unwrap(), [Kind::Tools], "the news of a change is never lost");
}

#[tokio::test(start_paused = true)]
async fn a_chatty_progress_of_a_live_call_silences_nothing_else() {
    let mut wire = wire().await;
    let eye = Arc::new(Eye::default());
    let mut request = tool_call("{}", 60);
    request.observer = Some(Arc::clone(&eye) as Arc<dyn Observer>);
    let upstream = Arc::clone(&wire.upstream);
    let running = tokio::spawn(async move { upstream.request(request).await.map(drop) });
    let request = wire.peer.expect("tools/call").await;
    for n in 0..3_000 {
        let params = json!({"progressToken": request["id"], "progress": n});
        wire.peer.send(&json!({"method": "notifications/progress", "params": params})).await;
    }
    wire.peer.send(&change("tools")).await;
    wire.peer.send(&json!({"method": "notifications/message", "params": {"level": "info", "data": 1}})).await;
    wire.peer.answer(&request, &json!({})).await;
    running.await.expect("no panic").expect("answered");
    assert_eq!(eye.0.lock().unwrap().len(), 1_000);
    assert_eq!(wire.counts.of("dropped"), 2_000);
    assert_eq!(*wire.ear.changes.lock().unwrap(), [Kind::Tools]);
    assert_eq!(wire.ear.logs.lock().unwrap().len(), 1);
}

/// Sends 500 notifications every 100 ms, for this many seconds. False if the server was cut off meanwhile.
async fn flood(peer: &mut Peer, seconds: u32) -> bool {
    let line = format!("{}\n", json!({"method": "notifications/vendor/thing"})).repeat(500);
    for _ in 0..seconds * 10 {
        if tokio::io::AsyncWriteExt::write_all(&mut peer.output, line.as_bytes()).await.is_err() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

#[tokio::test(start_paused = true)]
async fn a_flood_without_end_ends_the_session_and_until_then_every_answer_comes_through() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 8 << 10).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(38) {
        let running = call(&wire.upstream, "{}", 3);
        let request = wire.peer.expect("tools/call").await;
        assert!(flood(&mut wire.peer, 1).await, "{:?}", began.elapsed());
        wire.peer.answer(&request, &json!({"n": 1})).await;
        assert_eq!(text(running.await), r#"{"n":1}"#, "{:?}", began.elapsed());
    }
    wire.peer.send(&change("tools")).await;
    let closed = tokio::time::timeout(Duration::from_secs(60), wire.upstream.closed());
    let (fault, _) = tokio::join!(closed, flood(&mut wire.peer, 20));
    let fault = fault.expect("ended");
    let lasted = began.elapsed();
    assert!(lasted > Duration::from_secs(40) && lasted < Duration::from_secs(60), "{lasted:?}");
    assert_eq!((fault.class, fault.reason), (FaultClass::Protocol, DeathReason::Protocol));
    assert!(fault.message.contains("floods notifications"), "{fault}");
    assert_eq!(wire.counts.of("flood"), 1);
    assert_eq!(*wire.ear.changes.lock().unwrap(), [Kind::Tools], "told in the middle of the flood");
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_lasts_is_read_in_slices() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 1 << 10).await;
    let line = format!("{}\n", json!({"method": "notifications/vendor/thing"}));
    // What is written in no time at all before, waits for the reader once the flood has lasted.
    let mut write = async |count: usize| {
        let began = Instant::now();
        for _ in 0..count {
            wire.peer.write(&line).await;
        }
        began.elapsed()
    };
    for _ in 0..100 {
        assert_eq!(write(500).await, Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..5 {
        write(500).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let slowed = write(500).await;
    assert!(slowed > Duration::from_millis(200), "{slowed:?}");
    assert!(slowed < Duration::from_secs(2), "it is slowed, not stopped: {slowed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_has_one_of_eight_levels() {
    let mut wire = wire().await;
    let levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    for level in levels.into_iter().map(|level| json!(level)).chain([json!("x\u{1b}[2J"), json!("INFO"), json!(3)]) {
        wire.peer.send(&json!({"method": "notifications/message", "params": {"level": level, "data": 1}})).await;
    }
    barrier(&mut wire).await;
    assert_eq!(*wire.ear.logs.lock().unwrap(), levels.map(|level| format!("{level} 1")));
    assert_eq!(wire.counts.of("log_level"), 3);
}
