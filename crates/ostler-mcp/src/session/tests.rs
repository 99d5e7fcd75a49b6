//! The session against scripted servers: what goes wrong on the wire, and what must not come of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ostler_core::CallError;
use ostler_core::catalogue::Kind;
use ostler_core::port::{Observer, Upstream};
use ostler_core::status::{DeathReason, Exit, FaultClass};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::greeting::Declared;
use crate::life::Life;
use crate::limit::Limits;
use crate::meta;
use crate::meter::Meter;
use crate::revision::{NEWEST_LEGACY, NEWEST_MODERN, Revision};
use crate::session::Parts;
use crate::testing::{Counts, Ear, Eye, Peer, Stage, call, tool_call};
use crate::transport::Spawner;
use crate::upstream::Live;

mod flood;
mod foreign;

struct Wire {
    upstream: Arc<dyn Upstream>,
    peer: Peer,
    ear: Arc<Ear>,
    counts: Arc<Counts>,
}

async fn wire() -> Wire {
    wire_with(Limits::default(), NEWEST_LEGACY, 1 << 20).await
}

/// A session that is already up.
async fn wire_with(limits: Limits, revision: &'static Revision, pipe: usize) -> Wire {
    let (stage, mut peers) = Stage::new(pipe);
    let (ear, counts) = (Arc::new(Ear::default()), Arc::new(Counts::default()));
    let attempt = crate::testing::attempt(&ear, Duration::from_secs(30));
    let pipes = stage.spawn(attempt.incarnation, attempt.lease).await.expect("pipes");
    let parts = Parts {
        server: attempt.server,
        incarnation: attempt.incarnation,
        output: pipes.output,
        input: pipes.input,
        inbound: attempt.inbound,
        meter: Arc::clone(&counts) as Arc<dyn Meter>,
        limits,
    };
    let life = Life::start(parts, pipes.process);
    life.session().shared().settle(revision);
    life.is_up();
    let live = Live::new(life, revision, Declared::default(), limits, ostler_core::Catalogue::default());
    Wire { upstream: Arc::new(live), peer: peers.recv().await.expect("a peer"), ear, counts }
}

fn text(result: Result<Result<String, CallError>, tokio::task::JoinError>) -> String {
    match result.expect("no panic") {
        Ok(result) => result,
        Err(error) => error.to_string(),
    }
}

/// Waits until all that was written to us so far is read.
async fn barrier(wire: &mut Wire) {
    let call = call(&wire.upstream, "{}", 60);
    wire.peer.serve("tools/call", &json!({})).await;
    call.await.expect("no panic").expect("answered");
}

#[tokio::test(start_paused = true)]
async fn answers_may_come_in_any_order() {
    let mut wire = wire().await;
    let first = call(&wire.upstream, r#"{"n":1}"#, 60);
    let second = call(&wire.upstream, r#"{"n":2}"#, 60);
    let requests = (wire.peer.expect("tools/call").await, wire.peer.expect("tools/call").await);
    for request in [&requests.1, &requests.0] {
        wire.peer.answer(request, &json!({"echo": request["params"]["n"]})).await;
    }
    assert_eq!(text(first.await), r#"{"echo":1}"#);
    assert_eq!(text(second.await), r#"{"echo":2}"#);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_tells_the_server_and_drops_the_late_answer() {
    let mut wire = wire().await;
    let began = Instant::now();
    let slow = call(&wire.upstream, "{}", 2);
    let request = wire.peer.expect("tools/call").await;
    assert!(matches!(slow.await, Ok(Err(CallError::TimedOut { .. }))));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    let cancelled = wire.peer.expect("notifications/cancelled").await;
    assert_eq!(cancelled["params"], json!({"requestId": request["id"]}));
    wire.peer.answer(&request, &json!({})).await;
    wire.peer.answer(&request, &json!({})).await;
    let next = call(&wire.upstream, "{}", 60);
    wire.peer.serve("tools/call", &json!({"n": 1})).await;
    assert_eq!(text(next.await), r#"{"n":1}"#);
    assert_eq!(wire.counts.of("unknown_id"), 1, "the second late answer has no grave");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_never_sent() {
    let mut wire = wire().await;
    assert!(matches!(wire.upstream.request(tool_call("{}", 0)).await, Err(CallError::TimedOut { .. })));
    let next = call(&wire.upstream, r#"{"n":2}"#, 60);
    assert_eq!(wire.peer.expect("tools/call").await["params"]["n"], 2);
    next.abort();
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_it() {
    let mut wire = wire().await;
    let dropped = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    dropped.abort();
    let cancelled = wire.peer.expect("notifications/cancelled").await;
    assert_eq!(cancelled["params"]["requestId"], request["id"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_its_request_was_written_counts_for_nothing() {
    // The first id can be guessed but for its nonce; even a right guess must not be taken before the request is out.
    let mut pending = super::pending::Pending::new(4);
    let id = crate::envelope::RequestId { incarnation: 1, counter: 1, nonce: 7 };
    let _answer = pending.open(id, None).ok().expect("room");
    assert!(matches!(pending.claim(id), super::pending::Claim::Unknown));
    assert!(pending.begin_write(id));
    assert!(matches!(pending.claim(id), super::pending::Claim::Live(_)));
    assert_eq!(pending.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_calls_in_flight_end_at_once_with_the_exit_that_caused_it() {
    let mut wire = wire().await;
    let calls: Vec<_> = (0..20).map(|_| call(&wire.upstream, "{}", 60)).collect();
    for _ in 0..20 {
        wire.peer.expect("tools/call").await;
    }
    let began = Instant::now();
    let closed = wire.upstream.closed();
    wire.peer.die(Exit::Code(3));
    for call in calls {
        let error = call.await.expect("no panic").expect_err("lost");
        assert!(matches!(&error, CallError::ServerLost { why, may_have_run: true } if why.contains("exit code 3")));
    }
    let fault = closed.await;
    assert!(began.elapsed() <= Duration::from_millis(60), "{:?}", began.elapsed());
    assert_eq!((fault.class, fault.reason), (FaultClass::CrashRunning, DeathReason::Exit));
    let after = wire.upstream.request(tool_call("{}", 60)).await;
    assert!(matches!(after, Err(CallError::ServerLost { may_have_run: false, .. })));
    assert_eq!(wire.upstream.closed().await, fault, "it resolves for whoever comes later, too");
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_death_even_if_something_below_it_holds_the_pipes() {
    let wire = wire().await;
    let began = Instant::now();
    wire.peer.process.exit(Exit::Signal(11));
    let fault = wire.upstream.closed().await;
    assert!(began.elapsed() <= Duration::from_millis(60));
    assert_eq!((fault.class, fault.exit), (FaultClass::CrashRunning, Some(Exit::Signal(11))));
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_dying_server_are_heard() {
    let mut wire = wire().await;
    let last = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    wire.peer.process.exit(Exit::Code(0));
    wire.peer.answer(&request, &json!({"last": true})).await;
    drop(wire.peer);
    assert_eq!(text(last.await), r#"{"last":true}"#);
    assert_eq!(wire.upstream.closed().await.class, FaultClass::CleanExit);
}

#[tokio::test(start_paused = true)]
async fn a_closed_pipe_is_death_even_if_the_process_lives() {
    let mut wire = wire().await;
    let waiting = call(&wire.upstream, "{}", 60);
    wire.peer.expect("tools/call").await;
    drop(wire.peer.output);
    let fault = wire.upstream.closed().await;
    assert_eq!((fault.class, fault.reason, fault.exit), (FaultClass::CrashRunning, DeathReason::Eof, None));
    assert_eq!(fault.message, "it closed its standard output");
    assert!(matches!(waiting.await, Ok(Err(CallError::ServerLost { may_have_run: true, .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_closed_input_is_noticed_with_the_next_write() {
    let wire = wire().await;
    drop(wire.peer.input);
    let error = wire.upstream.request(tool_call("{}", 60)).await.expect_err("lost");
    assert!(matches!(error, CallError::ServerLost { .. }), "{error}");
    let fault = wire.upstream.closed().await;
    assert_eq!((fault.reason, fault.message.as_str()), (DeathReason::Eof, "it closed its standard input"));
}

#[tokio::test(start_paused = true)]
async fn a_call_between_the_broken_pipe_and_the_exit_status_is_told_both() {
    let wire = wire().await;
    drop(wire.peer.input);
    let first = call(&wire.upstream, "{}", 60);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = call(&wire.upstream, "{}", 60);
    tokio::time::sleep(Duration::from_millis(20)).await;
    wire.peer.process.exit(Exit::Code(4));
    let lost = |sent: &str| format!("the server was lost: it ended with exit code 4; the call {sent}");
    assert_eq!(text(first.await), lost("may have run"));
    assert_eq!(text(second.await), lost("was not sent"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_delays_no_deadline_and_is_hung_in_the_end() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 64).await;
    let began = Instant::now();
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(5000));
    let blocked = call(&wire.upstream, &big, 2);
    let behind = call(&wire.upstream, "{}", 3);
    assert!(matches!(blocked.await, Ok(Err(CallError::TimedOut { .. }))));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert!(matches!(behind.await, Ok(Err(CallError::TimedOut { .. }))));
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    let fault = wire.upstream.closed().await;
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert_eq!((fault.class, fault.reason), (FaultClass::Hang, DeathReason::Hang));
    let seen = wire.peer.line().await.expect("a part of the first call");
    assert!(seen.len() <= 64 && wire.peer.line().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_before_its_turn_is_never_written() {
    let mut wire = wire_with(Limits::default(), NEWEST_LEGACY, 64).await;
    let blocked = call(&wire.upstream, &format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(5000)), 60);
    tokio::task::yield_now().await;
    assert!(matches!(call(&wire.upstream, r#"{"n":2}"#, 1).await, Ok(Err(CallError::TimedOut { .. }))));
    let third = call(&wire.upstream, r#"{"n":3}"#, 60);
    assert_eq!(wire.peer.expect("tools/call").await["params"]["n"], 1);
    assert_eq!(wire.peer.expect("tools/call").await["params"]["n"], 3);
    blocked.abort();
    third.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_blocked_write() {
    let wire = wire_with(Limits::default(), NEWEST_LEGACY, 64).await;
    let began = Instant::now();
    let blocked = call(&wire.upstream, &format!(r#"{{"text":"{}"}}"#, "x".repeat(5000)), 60);
    tokio::task::yield_now().await;
    let mut peer = wire.peer;
    let leave = async {
        while peer.line().await.is_some() {}
        peer.die(Exit::Code(0));
    };
    tokio::join!(wire.upstream.close(Duration::from_secs(5)), leave);
    let fault = wire.upstream.closed().await;
    assert_eq!((fault.class, fault.reason), (FaultClass::KilledByUs, DeathReason::Operator));
    assert!(matches!(blocked.await, Ok(Err(CallError::ServerLost { .. }))));
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_calls_in_flight_end_and_takes_no_new_ones() {
    let mut wire = wire().await;
    let running = call(&wire.upstream, "{}", 60);
    let request = wire.peer.expect("tools/call").await;
    let upstream = Arc::clone(&wire.upstream);
    let close = tokio::spawn(async move { upstream.close(Duration::from_secs(5)).await });
    assert_eq!(wire.peer.line().await, None, "its input is closed");
    let refused = wire.upstream.request(tool_call("{}", 60)).await;
    assert!(matches!(refused, Err(CallError::ServerLost { may_have_run: false, .. })));
    wire.peer.answer(&request, &json!({"done": true})).await;
    assert_eq!(text(running.await), r#"{"done":true}"#);
    wire.peer.die(Exit::Code(0));
    close.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_kills() {
    let wire = wire().await;
    drop(wire.upstream);
    assert!(wire.peer.process.kills.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_is_known_is_not_replaced_by_the_kill_after_it() {
    let wire = wire().await;
    wire.peer.process.exit(Exit::Code(3));
    drop(wire.upstream);
    assert!(wire.peer.process.kills.load(Ordering::Relaxed) > 0);
    assert_eq!(crate::transport::Process::exited(&*wire.peer.process).await, Exit::Code(3));
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_legacy_server_are_answered_eight_at_a_time() {
    let mut wire = wire().await;
    wire.peer.send(&json!({"id": 7, "method": "ping"})).await;
    assert_eq!(wire.peer.line().await.as_deref(), Some(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#));
    for id in 0..9 {
        wire.peer.send(&json!({"id": format!("s{id}"), "method": "roots/list"})).await;
    }
    let busy: Value = serde_json::from_str(&wire.peer.line().await.expect("a line")).expect("JSON");
    assert_eq!((&busy["id"], &busy["error"]["code"]), (&json!("s8"), &json!(-32000)));
    wire.peer.send(&json!({"method": "notifications/cancelled", "params": {"requestId": "s0"}})).await;
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    wire.ear.permits.add_permits(100);
    let mut answered = Vec::new();
    for _ in 1..8 {
        let line: Value = serde_json::from_str(&wire.peer.line().await.expect("a line")).expect("JSON");
        assert_eq!(line["error"]["message"], "no roots/list");
        answered.push(line["id"].as_str().expect("text").to_owned());
    }
    answered.sort();
    assert_eq!(answered, ["s1", "s2", "s3", "s4", "s5", "s6", "s7"], "what was taken back is not answered");
    wire.peer.send(&json!({"id": 8, "method": "roots/list"})).await;
    assert!(wire.peer.line().await.expect("a line").contains("\"id\":8"));
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_must_not_ask_and_gets_no_response() {
    let mut wire = wire_with(Limits::default(), NEWEST_MODERN, 1 << 20).await;
    wire.peer.send(&json!({"id": 1, "method": "ping"})).await;
    wire.peer.send(&json!({"id": 2, "method": "sampling/createMessage"})).await;
    let next = call(&wire.upstream, "{}", 60);
    wire.peer.serve("tools/call", &json!({"resultType": "complete"})).await;
    next.await.expect("no panic").expect("answered");
    assert_eq!(wire.counts.of("server_request"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_modern_call_carries_its_meta_and_every_other_byte_as_written() {
    let mut wire = wire_with(Limits::default(), NEWEST_MODERN, 1 << 20).await;
    let arguments = r#""arguments":{"z":1e3, "a":12345678901234567890123,"é":"\u00e9"}"#;
    let _call = call(&wire.upstream, &format!(r#"{{"name":"add",{arguments}}}"#), 60);
    let line = wire.peer.line().await.expect("a line");
    let (head, tail) = line.split_once(r#","method":"#).expect("a method");
    assert!(head.starts_with(r#"{"jsonrpc":"2.0","id":"1-1-"#), "{head}");
    let modern = meta::MODERN;
    assert_eq!(tail, format!(r#""tools/call","params":{{"_meta":{{{modern}}},"name":"add",{arguments}}}}}"#));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_waiting_calls_is_bounded() {
    let wire = wire_with(Limits { pending: 3, ..Limits::default() }, NEWEST_LEGACY, 1 << 20).await;
    let calls: Vec<_> = (0..3).map(|_| call(&wire.upstream, "{}", 5)).collect();
    tokio::task::yield_now().await;
    let refused = wire.upstream.request(tool_call("{}", 60)).await;
    assert!(matches!(refused, Err(CallError::Overloaded { .. })));
    for call in calls {
        assert!(matches!(call.await, Ok(Err(CallError::TimedOut { .. }))));
    }
    let again = wire.upstream.request(tool_call("{}", 1)).await;
    assert!(matches!(again, Err(CallError::TimedOut { .. })), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn parameters_that_are_no_object_are_refused_before_the_wire() {
    let mut wire = wire().await;
    let refused = wire.upstream.request(tool_call("[1]", 60)).await;
    assert!(matches!(refused, Err(CallError::Denied { .. })));
    let next = call(&wire.upstream, r#"{"n":2}"#, 60);
    assert_eq!(wire.peer.expect("tools/call").await["params"], json!({"n": 2}), "nothing was written before");
    next.abort();
}
