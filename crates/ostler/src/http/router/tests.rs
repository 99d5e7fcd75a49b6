//! The routes through the router, and over a real socket where the connection itself matters.

use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::*;
use crate::http::backend::Verb;
use crate::http::event::AskEvent;
use crate::http::fake::{Fake, server, states};
use crate::http::serve::serve;
use crate::socket::{Bound, join};

async fn send(fake: &Arc<Fake>, surface: Surface, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let rules = match surface {
        Surface::Ops => Guard::tcp(([127, 0, 0, 1], 1).into()),
        Surface::Socket => Guard::socket(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let backend: Arc<dyn Backend> = fake.clone();
    let response = router(surface, backend, rules).oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn post(fake: &Arc<Fake>, path: &str, body: &Value) -> (StatusCode, Value) {
    let (status, body) = send(fake, Surface::Socket, "POST", path, &body.to_string()).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test]
async fn a_call_hands_arguments_and_result_on_byte_for_byte() {
    let body = r#"{"name":"math__add","arguments":{"z":1e3, "a":12345678901234567890}}"#;
    let (status, answer) = send(&Fake::new(), Surface::Socket, "POST", "/v1/call", body).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.contains(r#""echo":{"z":1e3, "a":12345678901234567890}}"#), "{answer}");
}

#[tokio::test]
async fn a_failed_call_has_the_code_and_the_status_of_its_error() {
    let fake = Fake::new();
    let check = async |name: &str, status: StatusCode, error: Value| {
        let answer = post(&fake, "/v1/call", &json!({ "name": name, "arguments": {} })).await;
        assert_eq!(answer, (status, json!({ "error": error })));
    };
    check(
        "math__sub",
        StatusCode::NOT_FOUND,
        json!({ "code": "unknown_tool", "message": "no tool is called 'math__sub'" }),
    )
    .await;
    let message = "server 'math' is backoff";
    check(
        "math__down",
        StatusCode::SERVICE_UNAVAILABLE,
        json!({ "code": "unavailable", "message": message, "server": "math", "retry_after_ms": 1200 }),
    )
    .await;
}

#[tokio::test]
async fn a_bad_body_is_answered_with_what_is_wrong() {
    let fake = Fake::new();
    let check = async |path: &str, body: &str, status: StatusCode, part: &str| {
        let (got, text) = send(&fake, Surface::Socket, "POST", path, body).await;
        assert_eq!(got, status, "{text}");
        assert!(text.contains(part), "{text}");
    };
    check("/v1/call", "{", StatusCode::BAD_REQUEST, "EOF while parsing").await;
    check("/v1/call", r#"{"name":"a","arguments":[1]}"#, StatusCode::BAD_REQUEST, "must be a JSON object").await;
    check("/v1/call", r#"{"name":"a","arguments":{},"x":1}"#, StatusCode::BAD_REQUEST, "unknown field").await;
    check("/v1/ask", r#"{"prompts":[]}"#, StatusCode::BAD_REQUEST, "1 to 256").await;
    let huge = format!(r#"{{"prompts":["{}"]}}"#, "x".repeat(crate::http::body::BODY_CAP));
    check("/v1/ask", &huge, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_by_the_deadline_that_it_names() {
    let body = json!({ "name": "math__hang", "arguments": {}, "timeout_ms": 250 });
    let began = tokio::time::Instant::now();
    let (status, _) = post(&Fake::new(), "/v1/call", &body).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(began.elapsed(), Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_an_end_is_dropped_at_its_limit() {
    let fake = Fake::new();
    let (status, answer) = post(&fake, "/v1/call", &json!({ "name": "math__hang", "arguments": {} })).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("timed_out")));
    assert_eq!(fake.abandoned.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_order_reaches_the_server_and_a_wrong_name_gets_advice() {
    let fake = Fake::new();
    let (status, answer) = post(&fake, "/v1/servers/MATH/restart", &json!({})).await;
    assert_eq!((status, &answer["server"]), (StatusCode::ACCEPTED, &json!("math")));
    assert_eq!(*fake.orders.lock().expect("unpoisoned"), [("math".to_owned(), Verb::Restart)]);
    let (status, answer) = post(&fake, "/v1/servers/mth/stop", &json!({})).await;
    assert_eq!((status, &answer["error"]["hint"]), (StatusCode::NOT_FOUND, &json!("did you mean 'math'?")));
    let (status, _) = post(&fake, "/v1/servers/math/explode", &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_operator_is_answered_and_approves_only_what_was_shown() {
    let fake = Fake::new();
    let get = async |path: &str| send(&fake, Surface::Socket, "GET", path, "").await;
    let (status, answer) = get("/v1/why/math").await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.contains(r#""subject":"server""#), "{answer}");
    let (_, answer) = get("/v1/why/no%20such%2Fthing").await;
    assert!(answer.contains(r#""name":"no such/thing""#), "{answer}");
    let line = r#"{"kind":"line","number":1,"text":"one"}"#;
    let (_, answer) = get("/v1/servers/MATH/logs").await;
    assert_eq!((answer.lines().count(), answer.lines().next()), (2, Some(line)));
    let (_, answer) = get("/v1/servers/math/logs?follow=true").await;
    assert_eq!(answer.lines().nth(2), Some(r#"{"kind":"began"}"#));
    assert_eq!(get("/v1/servers/math/logs?folow=true").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get("/v1/servers/mth/logs").await.0, StatusCode::NOT_FOUND);
    let (_, answer) = get("/v1/servers/math/launch").await;
    assert!(answer.contains(r#""approval":"missing""#), "{answer}");
    let (status, answer) = post(&fake, "/v1/servers/math/approve", &json!({ "digest": "d0" })).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("launch_changed")));
    let (status, answer) = post(&fake, "/v1/servers/math/approve", &json!({ "digest": "d1" })).await;
    assert_eq!((status, &answer["approval"]), (StatusCode::OK, &json!("given")));
}

#[tokio::test]
async fn what_is_not_in_the_table_is_a_json_error() {
    let fake = Fake::new();
    let check = async |surface, method: &str, path: &str, status: StatusCode, code: &str| {
        let (got, body) = send(&fake, surface, method, path, "{}").await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((got, &body["error"]["code"]), (status, &json!(code)), "{method} {path}");
    };
    check(Surface::Ops, "GET", "/", StatusCode::NOT_FOUND, "not_found").await;
    check(Surface::Ops, "GET", "/v1/servers", StatusCode::NOT_FOUND, "not_found").await;
    check(Surface::Ops, "POST", "/metrics", StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    check(Surface::Socket, "GET", "/v1/call", StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    check(Surface::Socket, "GET", "/metrics", StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn readiness_comes_with_the_last_server_and_stays() {
    let fake = Fake::new();
    let check = async |surface_router: &Router, status: StatusCode, body: Value| {
        let request = Request::builder().uri("/readyz").header(header::HOST, "localhost");
        let request = request.body(Body::empty()).expect("a request");
        let response = surface_router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), status);
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), body);
    };
    fake.servers.lock().expect("unpoisoned").push(server("slow", "starting"));
    let app = router(Surface::Ops, fake.clone(), Guard::tcp(([127, 0, 0, 1], 1).into()));
    let all = states(&[("ready", 2), ("starting", 1)]);
    let waiting = json!({ "ready": false, "states": all, "waiting_for": ["slow"] });
    check(&app, StatusCode::SERVICE_UNAVAILABLE, waiting).await;
    fake.enter("slow", "backoff", 1);
    let all = states(&[("ready", 2), ("backoff", 1)]);
    check(&app, StatusCode::OK, json!({ "ready": true, "states": all, "waiting_for": [] })).await;
    fake.enter("slow", "starting", 2);
    let all = states(&[("ready", 2), ("starting", 1)]);
    check(&app, StatusCode::OK, json!({ "ready": true, "states": all, "waiting_for": [] })).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_is_a_stream_of_lines_that_ends_with_done() {
    let fake = Fake::new();
    fake.servers.lock().expect("unpoisoned").push(server("slow", "starting"));
    fake.enter("math", "starting", 100);
    fake.enter("math", "ready", 141);
    let body = json!({ "prompts": ["hello", "fail", "never said"], "wait_ms": 500, "replay": true });
    let (status, text) = send(&fake, Surface::Socket, "POST", "/v1/ask", &body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let events: Vec<AskEvent> = text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let math = || "math".to_owned();
    assert_eq!(
        events[..4],
        [
            AskEvent::ServerUp { server: math(), incarnation: Some(1), elapsed_ms: Some(41), tools: 2, pid: Some(11) },
            AskEvent::GoingAhead { without: vec!["slow".to_owned()] },
            AskEvent::Model(fake.model()),
            AskEvent::Prompt { number: 1, text: "hello".to_owned() },
        ]
    );
    let kinds: Vec<_> = text
        .lines()
        .skip(4)
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].as_str().expect("a kind").to_owned())
        .collect();
    let expected = ["asking", "tool_started", "tool_ended", "text", "answer", "prompt", "asking", "failed", "done"];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_with_it() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("ostler.sock");
    let bound = Bound::bind(&path).expect("it binds");
    let fake = Fake::new();
    let app = router(Surface::Socket, fake.clone(), Guard::socket());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        tokio::spawn(serve(bound, app, Duration::from_secs(60), async { drop(stopped.await) }, Duration::from_secs(1)));

    let mut client = join(&path).await.expect("a daemon");
    let body = r#"{"name":"math__hang","arguments":{}}"#;
    let head = format!(
        "POST /v1/call HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
    fake.hanging.notified().await;
    assert_eq!(fake.abandoned.load(Ordering::SeqCst), 0);
    drop(client);
    fake.dropped.notified().await;
    assert_eq!(fake.abandoned.load(Ordering::SeqCst), 1);

    drop(stop);
    server.await.expect("it ends");
    assert!(!path.exists());
}

#[tokio::test]
async fn an_end_does_not_wait_for_a_stream_beyond_its_grace() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("ostler.sock");
    let bound = Bound::bind(&path).expect("it binds");
    let app = router(Surface::Socket, Fake::new(), Guard::socket());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        bound,
        app,
        Duration::from_secs(60),
        async { drop(stopped.await) },
        Duration::from_millis(20),
    ));
    let mut client = join(&path).await.expect("a daemon");
    client.write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut first = [0; 12];
    client.read_exact(&mut first).await.expect("a head");
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(stop);
    server.await.expect("it ends");
}
