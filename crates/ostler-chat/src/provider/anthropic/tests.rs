//! The model against a scripted HTTP server: what is sent, what is tried again, what is reported.

use std::sync::{Arc, Mutex};

use ostler_core::dialogue::{Block, Message, Role, StopReason, ToolResult, ToolUse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{Heard, json, request, tool};

const KEY: &str = "sk-ant-test-0123456789";

const HELLO: &str = "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n";

const END: &str = "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n\
    event: message_stop\ndata: {}\n\n";

/// A server that answers each connection with the next of its answers and keeps what it was sent.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(answers: Vec<String>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let text = read_request(&mut stream).await;
            log.lock().expect("no panic").push(text);
            stream.write_all(answer.as_bytes()).await.expect("it is read");
            stream.shutdown().await.expect("it closes");
        }
    });
    Server { url, seen, task }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if length == Some(body.len()) {
                return text.into_owned();
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.expect("it sends");
        assert!(read > 0, "the request broke off: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn stream_of(events: &str) -> String {
    let length = events.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{events}"
    )
}

/// A stream that promises more than it sends.
fn cut_stream_of(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n{events}")
}

fn refusal(status: u16, headers: &str, kind: &str, message: &str) -> String {
    let body = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#);
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn config(url: &str) -> AnthropicConfig {
    AnthropicConfig { base_url: url.to_owned(), ..AnthropicConfig::new(Secret::new(KEY)) }
}

/// Asks once; the result, and the retries as they were told.
async fn ask(server: &Server) -> (Result<ModelReply, ModelError>, Vec<String>) {
    let model = Anthropic::new(config(&server.url)).expect("it is valid");
    let heard = Heard::default();
    let result = model.complete(request(vec![Message::user("hi")], [].into()), &heard).await;
    (result, heard.retries.into_inner().expect("no panic"))
}

fn said(result: Result<ModelReply, ModelError>) -> String {
    match result.expect("a reply").blocks.as_slice() {
        [Block::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_says_what_the_version_asks_for() {
    let server = serve(vec![stream_of(&format!("{HELLO}{END}")), stream_of(&format!("{HELLO}{END}"))]).await;
    assert_eq!(said(ask(&server).await.0), "hello");
    let old = AnthropicConfig { auth: AuthStyle::ApiKey, version: "2023-06-01".to_owned(), ..config(&server.url) };
    let model = Anthropic::new(old).expect("it is valid");
    model.complete(request(vec![Message::user("hi")], [].into()), &Heard::default()).await.expect("a reply");
    let seen = server.seen.lock().expect("no panic");
    let head = |index: usize| seen[index].split_once("\r\n\r\n").expect("a head").0.to_ascii_lowercase();
    assert!(head(0).starts_with("post /v1/messages http/1.1"), "{}", head(0));
    assert!(head(0).contains(&format!("authorization: bearer {KEY}")) && !head(0).contains("x-api-key"));
    assert!(head(0).contains("anthropic-version: 2026-10-21") && head(0).contains("content-type: application/json"));
    assert!(head(1).contains(&format!("x-api-key: {KEY}")) && !head(1).contains("authorization"));
    assert!(head(1).contains("anthropic-version: 2023-06-01"));
    let body = seen[0].split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(
        body,
        r#"{"model":"claude-sonnet-5-5","max_tokens":8192,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#
    );
}

#[test]
fn a_dialogue_is_written_with_its_raw_parts_unchanged() {
    let wish = |id: &str| {
        Block::ToolUse(ToolUse { id: id.to_owned(), name: "math__add".to_owned(), input: json(r#"{"b": 1e3,"a":1}"#) })
    };
    let result = |id: &str, is_error| {
        Block::ToolResult(ToolResult { tool_use_id: id.to_owned(), content: "5".to_owned(), is_error })
    };
    let messages = vec![
        Message::user("hi"),
        Message {
            role: Role::Assistant,
            blocks: vec![
                Block::Opaque(json(r#"{"type":"thinking", "thinking":"x","signature":"s"}"#)),
                Block::Text(" \n".to_owned()),
                wish("t1"),
                wish("t2"),
            ],
        },
        Message { role: Role::User, blocks: vec![result("t1", false), result("t2", true)] },
    ];
    let schema = r#"{"name":"add","description":"Adds.","inputSchema":{"type":"object", "z":1e2}}"#;
    let mut request = request(messages, [tool("math", schema)].into());
    request.system = Some("be brief".into());
    let body = wire::body(&config("http://localhost"), &request);
    assert_eq!(
        String::from_utf8(body).expect("text"),
        concat!(
            r#"{"model":"claude-sonnet-5-5","max_tokens":8192,"stream":true,"system":"be brief","messages":["#,
            r#"{"role":"user","content":[{"type":"text","text":"hi"}]},"#,
            r#"{"role":"assistant","content":[{"type":"thinking", "thinking":"x","signature":"s"},"#,
            r#"{"type":"tool_use","id":"t1","name":"math__add","input":{"b": 1e3,"a":1}},"#,
            r#"{"type":"tool_use","id":"t2","name":"math__add","input":{"b": 1e3,"a":1}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"5"},"#,
            r#"{"type":"tool_result","tool_use_id":"t2","content":"5","is_error":true}]}],"#,
            r#""tools":[{"name":"math__add","description":"Adds.","input_schema":{"type":"object", "z":1e2}}]}"#,
        )
    );
}

#[tokio::test]
async fn a_busy_server_is_asked_again_after_the_pause_it_wants() {
    let busy = refusal(429, "retry-after-ms: 3\r\nretry-after: 30\r\n", "rate_limit_error", "slow down");
    let overloaded = refusal(529, "retry-after-ms: 2\r\n", "overloaded_error", "Overloaded");
    let server = serve(vec![busy, overloaded, stream_of(&format!("{HELLO}{END}"))]).await;
    let (result, retries) = ask(&server).await;
    assert_eq!(said(result), "hello");
    assert_eq!(
        retries,
        [
            "3 ms: the provider is busy: HTTP 429: rate_limit_error: slow down",
            "2 ms: the provider is busy: HTTP 529: overloaded_error: Overloaded",
        ]
    );
}

#[tokio::test]
async fn the_tries_have_an_end() {
    let overloaded = || refusal(529, "retry-after-ms: 1\r\n", "overloaded_error", "Overloaded");
    let server = serve(vec![overloaded(), overloaded(), overloaded()]).await;
    let message = "HTTP 529: overloaded_error: Overloaded".to_owned();
    let busy = ModelError::Busy { message, retry_after: Some(Duration::from_millis(1)) };
    assert_eq!(ask(&server).await.0.map(|_| ()), Err(busy));
    assert_eq!(server.seen.lock().expect("no panic").len(), 3);
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_reported_instead_of_waited_for() {
    let server = serve(vec![refusal(429, "retry-after: 3600\r\n", "rate_limit_error", "tomorrow")]).await;
    let (result, retries) = ask(&server).await;
    let Err(ModelError::Busy { retry_after, .. }) = result else { panic!("{result:?}") };
    assert_eq!((retry_after, retries.len()), (Some(Duration::from_secs(3600)), 0));
}

#[tokio::test]
async fn a_refusal_is_typed_and_never_shows_the_key() {
    let check = async |status: u16, headers: &str, expected: ModelError| {
        let message = format!("no {KEY} here");
        let server = serve(vec![refusal(status, headers, "some_error", &message)]).await;
        let (result, retries) = ask(&server).await;
        assert_eq!(result.map(|_| ()), Err(expected));
        assert_eq!(retries, [""; 0]);
    };
    let said = |status: u16| format!("HTTP {status}: some_error: no [key] here");
    let auth = ModelError::Auth(format!("{}; check ANTHROPIC_API_KEY and the auth style", said(401)));
    check(401, "", auth).await;
    check(400, "", ModelError::Rejected(said(400))).await;
    let missing = format!("{}; check the model 'claude-sonnet-5-5' and the base URL", said(404));
    check(404, "", ModelError::Rejected(missing)).await;
    check(500, "x-should-retry: false\r\n", ModelError::Network(said(500))).await;
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_asked_for_once_more() {
    let server = serve(vec![cut_stream_of(HELLO), stream_of(&format!("{HELLO}{END}"))]).await;
    let (result, retries) = ask(&server).await;
    assert_eq!(said(result), "hello", "the first half is not in the reply");
    assert_eq!(retries.len(), 1);
    let server = serve(vec![cut_stream_of(HELLO), cut_stream_of(HELLO)]).await;
    let (result, retries) = ask(&server).await;
    assert!(matches!(result, Err(ModelError::Network(_))), "{result:?}");
    assert_eq!(retries.len(), 1, "once and not again");
}

#[tokio::test]
async fn an_error_inside_the_stream_is_told_apart_like_a_status() {
    let error = |kind: &str| format!("event: error\ndata: {{\"error\":{{\"type\":\"{kind}\",\"message\":\"m\"}}}}\n\n");
    let broken = stream_of(&format!("{HELLO}{}", error("overloaded_error")));
    let server = serve(vec![broken, stream_of(&format!("{HELLO}{END}"))]).await;
    assert_eq!(said(ask(&server).await.0), "hello");
    let server = serve(vec![stream_of(&error("invalid_request_error"))]).await;
    let rejected = ModelError::Rejected("invalid_request_error: m".to_owned());
    assert_eq!(ask(&server).await.0.map(|_| ()), Err(rejected));
}

#[tokio::test]
async fn an_answer_that_is_no_event_stream_is_named() {
    let server =
        serve(vec!["HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n".to_owned()]).await;
    let (result, _) = ask(&server).await;
    let expected = ModelError::Protocol("expected an event stream, got \"text/html\"".to_owned());
    assert_eq!(result.map(|_| ()), Err(expected));
}

#[tokio::test]
async fn an_oversized_event_ends_the_reply() {
    let server = serve(vec![stream_of(&format!("data: {}", "x".repeat(sse::MAX_EVENT)))]).await;
    let (result, _) = ask(&server).await;
    assert!(matches!(result, Err(ModelError::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn nobody_listening_is_a_network_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let model = Anthropic::new(AnthropicConfig { retries: 0, ..config(&url) }).expect("it is valid");
    let result = model.complete(request(vec![Message::user("hi")], [].into()), &Heard::default()).await;
    assert!(matches!(result, Err(ModelError::Network(_))), "{result:?}");
}

#[test]
fn settings_that_cannot_work_are_named() {
    let check = |config: AnthropicConfig, part: &str| {
        let Err(ModelError::Config(text)) = Anthropic::new(config) else { panic!("{part} is refused") };
        assert!(text.contains(part) && !text.contains(KEY), "{text}");
    };
    check(config("not a url"), "base_url");
    check(config("file:///etc"), "http://");
    check(AnthropicConfig { max_tokens: 0, ..config("http://x") }, "max_tokens");
    check(AnthropicConfig { model: String::new(), ..config("http://x") }, "model");
    check(AnthropicConfig { api_key: Secret::new("  "), ..config("http://x") }, "ANTHROPIC_API_KEY");
    check(AnthropicConfig { api_key: Secret::new(format!("{KEY}\n")), ..config("http://x") }, "line breaks");
    check(AnthropicConfig { version: "\n".to_owned(), ..config("http://x") }, "version");
    let model = Anthropic::new(config("http://x/")).expect("it is valid");
    assert!(!format!("{model:?}").contains(KEY));
    assert_eq!(model.url.as_str(), "http://x/v1/messages");
}

#[tokio::test]
async fn a_tool_call_comes_back_as_one() {
    let events = "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{}}}\n\n\
        event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"tool_use\"}}\n\nevent: message_stop\ndata: {}\n\n";
    let server = serve(vec![stream_of(events)]).await;
    let reply = ask(&server).await.0.expect("a reply");
    assert_eq!(reply.stop, StopReason::ToolUse);
    assert!(matches!(reply.blocks.as_slice(), [Block::ToolUse(_)]));
}
