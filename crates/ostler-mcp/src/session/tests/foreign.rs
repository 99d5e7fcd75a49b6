//! Answers, requests and lines that are not as they should be.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_broken_answer_fails_its_call_and_nothing_else() {
    let limits = Limits { frame_bytes: 1000, ..Limits::default() };
    let mut wire = wire_with(limits, NEWEST_LEGACY, 1 << 20).await;
    let good = call(&wire.upstream, "{}", 60);
    let good_request = wire.peer.expect("tools/call").await;
    let long = "x".repeat(2000);
    let deep = "[".repeat(100);
    for (broken, part, kind) in [
        (format!(r#""result":{{"t":"{long}"}}"#), "larger than 1000 bytes", "oversize"),
        (format!(r#""result":{{"t":{deep}"#), "nests deeper", "depth"),
        (r#""result":{"t":tru}"#.to_owned(), "not a JSON-RPC message", "not_json"),
        (r#""result":{},"error":{"code":1,"message":""}"#.to_owned(), "a result and an error", ""),
        (r#""result":"done""#.to_owned(), "not an object", ""),
    ] {
        let failing = call(&wire.upstream, "{}", 60);
        let request = wire.peer.expect("tools/call").await;
        wire.peer.write(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{},{broken}}}\n", request["id"])).await;
        let error = failing.await.expect("no panic").expect_err("broken");
        assert!(matches!(error, CallError::Protocol { .. }) && error.to_string().contains(part), "{error}");
        assert_eq!(wire.counts.of(kind), u64::from(!kind.is_empty()), "{kind}");
    }
    let failing = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    let mut bytes = format!("{{\"id\":{},\"result\":{{\"t\":\"", request["id"]).into_bytes();
    bytes.extend_from_slice(b"\xff\"}}\n");
    tokio::io::AsyncWriteExt::write_all(&mut wire.peer.output, &bytes).await.expect("written");
    assert!(text(failing.await).contains("not UTF-8"));

    wire.peer.answer(&good_request, &json!({"fine": true})).await;
    assert_eq!(text(good.await), r#"{"fine":true}"#);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_asked_for_are_counted_and_dropped() {
    let mut wire = wire().await;
    for id in ["1", "\"1-1-00000000\"", "\"1-999-00000000\"", "null", "\"x\""] {
        wire.peer.write(&format!("{{\"id\":{id},\"result\":{{}}}}\n")).await;
    }
    let asked = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    // The right number with another nonce, and the right id with another incarnation.
    let id = request["id"].as_str().expect("text");
    wire.peer.answer(&json!({"id": "1-1-00000000"}), &json!({"n": 0})).await;
    wire.peer.answer(&json!({"id": id.replacen('1', "2", 1)}), &json!({"n": 0})).await;
    wire.peer.answer(&request, &json!({"n": 1})).await;
    wire.peer.answer(&request, &json!({"n": 2})).await;
    let barrier = call(&wire.upstream, "{}", 60);
    wire.peer.serve("tools/call", &json!({})).await;
    barrier.await.expect("no panic").expect("answered");
    assert_eq!(text(asked.await), r#"{"n":1}"#);
    assert_eq!(wire.counts.of("unknown_id"), 8);
}

#[tokio::test(start_paused = true)]
async fn a_line_without_end_ends_the_session() {
    let mut wire = wire().await;
    let chunk = "x".repeat(1 << 20);
    let write = async {
        for _ in 0..70 {
            if tokio::io::AsyncWriteExt::write_all(&mut wire.peer.output, chunk.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let (fault, ()) = tokio::join!(wire.upstream.closed(), write);
    assert_eq!((fault.class, fault.reason), (FaultClass::Protocol, DeathReason::Protocol));
}

#[tokio::test(start_paused = true)]
async fn a_broken_answer_that_names_its_call_at_its_end_fails_it_at_once() {
    // Not every server writes the id first: some write { result, jsonrpc, id }.
    let limits = Limits { frame_bytes: 10_000, ..Limits::default() };
    let mut wire = wire_with(limits, NEWEST_LEGACY, 1 << 20).await;
    let began = Instant::now();
    for (content, part) in [
        (vec![b'x'; 200_000], "larger than 10000 bytes"),
        (vec![b'x'; 11_000], "larger than 10000 bytes"),
        ([&[b'x'; 2_000][..], b"\xff"].concat(), "not UTF-8"),
        ([&[b'x'; 2_000][..], b"\",\"d\":", &[b'['; 100], &[b']'; 100], b",\"e\":\""].concat(), "nests deeper"),
    ] {
        let failing = call(&wire.upstream, "{}", 60);
        let request = wire.peer.expect("tools/call").await;
        let end = format!("\"}},\"jsonrpc\":\"2.0\",\"id\":{}}}\n", request["id"]);
        let line = [b"{\"result\":{\"t\":\"", &*content, end.as_bytes()].concat();
        tokio::io::AsyncWriteExt::write_all(&mut wire.peer.output, &line).await.expect("written");
        let error = text(failing.await);
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_and_goes_on_for_ten_seconds_ends_the_session() {
    let limits = Limits { frame_bytes: 1_000, ..Limits::default() };
    let mut wire = wire_with(limits, NEWEST_LEGACY, 1 << 20).await;
    // Two lines one after the other are two lines, however long both take together.
    for _ in 0..2 {
        for _ in 0..9 {
            wire.peer.write(&"x".repeat(2_000)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        wire.peer.write("\n").await;
    }
    barrier(&mut wire).await;
    wire.peer.write(&"x".repeat(2_000)).await;
    let began = Instant::now();
    let fault = tokio::time::timeout(Duration::from_secs(60), wire.upstream.closed()).await.expect("ended");
    assert_eq!(began.elapsed(), Duration::from_secs(10), "also if nothing more comes");
    assert_eq!((fault.class, fault.message.as_str()), (FaultClass::Protocol, "it wrote a line without end"));
}

#[tokio::test(start_paused = true)]
async fn an_id_or_a_method_that_is_too_long_is_not_echoed() {
    let mut wire = wire().await;
    let just = "x".repeat(254);
    wire.peer.send(&json!({"id": just, "method": "ping"})).await;
    wire.peer.send(&json!({"id": format!("{just}y"), "method": "ping"})).await;
    wire.peer.write(&format!("{{\"id\":{},\"method\":\"ping\"}}\n", "1".repeat(1 << 20))).await;
    wire.peer.send(&json!({"id": 1, "method": "x".repeat(1 << 18)})).await;
    wire.peer.send(&json!({"id": 2, "method": "ping"})).await;
    let mut answered = async || serde_json::from_str::<Value>(&wire.peer.line().await.expect("a line")).expect("JSON");
    assert_eq!(answered().await["id"], just);
    assert_eq!(answered().await["error"], json!({"code": -32601, "message": "no such method"}));
    assert_eq!(answered().await["id"], 2);
    assert_eq!((wire.counts.of("id_too_long"), wire.counts.of("method_too_long")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_members_of_a_batch_are_taken_one_by_one() {
    for (revision, violations) in [("2025-03-26", 0), ("2025-11-25", 1)] {
        let revision = Revision::find(revision).expect("one of ours");
        let mut wire = wire_with(Limits::default(), revision, 1 << 20).await;
        let calls = [call(&wire.upstream, "{}", 60), call(&wire.upstream, "{}", 60)];
        let requests = (wire.peer.expect("tools/call").await, wire.peer.expect("tools/call").await);
        wire.peer
            .send(&json!([
                {"id": requests.0["id"], "result": {"n": 0}},
                {"method": "notifications/tools/list_changed"},
                {"id": requests.1["id"], "error": {"code": 1, "message": "no"}},
                {"id": 7, "method": "ping"},
            ]))
            .await;
        let [first, second] = calls;
        assert_eq!(text(first.await), r#"{"n":0}"#);
        assert_eq!(text(second.await), "the server says: no (code 1)");
        assert_eq!(wire.peer.line().await.as_deref(), Some(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#));
        assert_eq!(*wire.ear.changes.lock().unwrap(), [Kind::Tools]);
        assert_eq!(wire.counts.of("batch"), violations, "{}", revision.name);

        // Beyond its bound a batch is not read, and no batch holds another.
        wire.peer.send(&json!(vec![json!({"id": 7, "method": "ping"}); 100])).await;
        wire.peer.send(&json!([[{"id": 8, "method": "ping"}]])).await;
        for _ in 0..64 {
            assert!(wire.peer.line().await.expect("a line").contains("\"id\":7"));
        }
        barrier(&mut wire).await;
        assert_eq!((wire.counts.of("batch_too_long"), wire.counts.of("batch")), (1, 1 + 3 * violations));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_not_lost_when_live_calls_fill_the_queue() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 64).await;
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(5000));
    let mut written = Vec::new();
    // The first one is on the wire when it is given up; a queue full of live calls stands behind it.
    let given_up = call(&wire.upstream, &big, 5);
    tokio::task::yield_now().await;
    let live: Vec<_> = (0..80).map(|_| call(&wire.upstream, "{}", 60)).collect();
    assert!(matches!(given_up.await, Ok(Err(CallError::TimedOut { .. }))));
    for _ in 0..82 {
        let line: Value = serde_json::from_str(&wire.peer.line().await.expect("a line")).expect("JSON");
        written.push(line);
    }
    let cancel = &written[1];
    assert_eq!(cancel["method"], "notifications/cancelled", "it comes before all that waits");
    assert_eq!(cancel["params"]["requestId"], written[0]["id"]);
    for call in live {
        call.abort();
    }
}
