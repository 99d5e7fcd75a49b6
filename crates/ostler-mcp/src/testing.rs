//! What the tests of this crate share: a scripted server on in-memory pipes, a process that is none, and recorders.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{
    Attempt, BoxFuture, Caller, Inbound, Lease, Observer, Outcome, Reply, Request, ServerRequest, Upstream,
};
use ostler_core::status::{Exit, Fault};
use ostler_core::{CallError, Incarnation, ServerId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock;
use crate::meter::Meter;
use crate::transport::{Beyond, Pipes, Process, Spawner};

/// Counts by kind.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    fn add(&self, kind: &'static str) {
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
    }

    pub(crate) fn of(&self, kind: &str) -> u64 {
        self.0.lock().unwrap().get(kind).copied().unwrap_or(0)
    }
}

impl Meter for Counts {
    fn bytes_in(&self, _: u64) {}
    fn bytes_out(&self, _: u64) {}
    fn violation(&self, kind: &'static str) {
        self.add(kind);
    }
    fn operation(&self, method: &'static str, _: Duration) {
        self.add(method);
    }
    fn stderr_lines(&self, _: u64) {}
    fn dropped(&self) {
        self.add("dropped");
    }
}

/// Remembers what a server says by itself. Its requests are answered once there is a permit.
pub(crate) struct Ear {
    pub(crate) changes: Mutex<Vec<Kind>>,
    pub(crate) logs: Mutex<Vec<String>>,
    pub(crate) permits: Arc<Semaphore>,
}

impl Default for Ear {
    fn default() -> Self {
        Self { changes: Mutex::default(), logs: Mutex::default(), permits: Arc::new(Semaphore::new(0)) }
    }
}

impl Inbound for Ear {
    fn changed(&self, kind: Kind) {
        self.changes.lock().unwrap().push(kind);
    }

    fn log(&self, level: &str, data: &RawValue) {
        self.logs.lock().unwrap().push(format!("{level} {data}"));
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'static, Reply> {
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            permits.acquire().await.expect("never closed").forget();
            Reply::Error { code: -32601, message: format!("no {}", request.method) }
        })
    }

    fn activity(&self) {}
}

/// Remembers progress.
#[derive(Default)]
pub(crate) struct Eye(pub(crate) Mutex<Vec<String>>);

impl Observer for Eye {
    fn progress(&self, params: &RawValue) {
        self.0.lock().unwrap().push(params.get().to_owned());
    }
}

/// A process that lives as long as its test says so.
#[derive(Debug, Default)]
pub(crate) struct Puppet {
    end: watch::Sender<Option<Exit>>,
    stderr: Mutex<String>,
    pub(crate) kills: AtomicUsize,
}

impl Puppet {
    /// Ends it. Only the first end counts.
    pub(crate) fn exit(&self, exit: Exit) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(exit);
            }
            is_first
        });
    }

    pub(crate) fn say(&self, stderr: &str) {
        stderr.clone_into(&mut self.stderr.lock().unwrap());
    }
}

impl Process for Puppet {
    fn pid(&self) -> Option<u32> {
        Some(77)
    }

    fn beyond(&self) -> Option<Beyond> {
        None
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(async {
            let mut end = self.end.subscribe();
            let exit = end.wait_for(Option::is_some).await.expect("the sender lives");
            exit.expect("it was waited for")
        })
    }

    fn kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        self.exit(Exit::Signal(9));
    }

    fn stop(&self, _: Duration) -> BoxFuture<'_, ()> {
        self.released()
    }

    fn released(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.exited().await;
        })
    }

    fn stderr_tail(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    fn stderr_lines(&self) -> u64 {
        0
    }
}

/// The server's side of one spawn, played by the test.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) input: Lines<BufReader<DuplexStream>>,
    pub(crate) output: DuplexStream,
    pub(crate) process: Arc<Puppet>,
}

impl Peer {
    /// The next line that it gets, byte for byte.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.input.next_line().await.expect("in-memory pipes do not fail")
    }

    /// The next message that it gets, which must have this method.
    pub(crate) async fn expect(&mut self, method: &str) -> Value {
        let line = self.line().await.unwrap_or_else(|| panic!("the input ended before {method}"));
        let message: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(message["method"], method, "{line}");
        message
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).await.expect("somebody reads");
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.write(&format!("{message}\n")).await;
    }

    pub(crate) async fn answer(&mut self, request: &Value, result: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
    }

    pub(crate) async fn refuse(&mut self, request: &Value, code: i64) {
        self.send(&json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}})).await;
    }

    /// Answers the next request, which must have this method.
    pub(crate) async fn serve(&mut self, method: &str, result: &Value) {
        let request = self.expect(method).await;
        self.answer(&request, result).await;
    }

    /// Greets in the legacy way, with tools that change.
    pub(crate) async fn greet(&mut self) {
        self.serve("initialize", &initialized("2025-11-25")).await;
        self.expect("notifications/initialized").await;
        self.serve("tools/list", &json!({"tools": [{"name": "add", "inputSchema": {}}]})).await;
    }

    /// Refuses the probe and greets in the legacy way.
    pub(crate) async fn start_legacy(&mut self) {
        let probe = self.expect("server/discover").await;
        self.refuse(&probe, -32601).await;
        self.greet().await;
    }

    /// Greets in the modern way, with tools that do not change.
    pub(crate) async fn start_modern(&mut self) {
        self.serve("server/discover", &discovered(&["2026-07-28"], &json!({"tools": {}}))).await;
        self.serve("tools/list", &json!({"resultType": "complete", "tools": [{"name": "add", "inputSchema": {}}]}))
            .await;
    }

    /// Dies: both pipes close, and the process is gone.
    pub(crate) fn die(self, exit: Exit) {
        self.process.exit(exit);
    }
}

pub(crate) fn initialized(version: &str) -> Value {
    json!({"protocolVersion": version, "capabilities": {"tools": {"listChanged": true}}, "serverInfo": {"name": "fake", "version": "1"}})
}

pub(crate) fn discovered(versions: &[&str], capabilities: &Value) -> Value {
    json!({"resultType": "complete", "supportedVersions": versions, "capabilities": capabilities})
}

/// Hands the server's side of each spawn to the test.
pub(crate) struct Stage {
    peers: mpsc::Sender<Peer>,
    pipe: usize,
}

impl Stage {
    /// A stage whose pipes hold `pipe` bytes, and where its peers appear.
    pub(crate) fn new(pipe: usize) -> (Self, mpsc::Receiver<Peer>) {
        let (peers, receiver) = mpsc::channel(8);
        (Self { peers, pipe }, receiver)
    }
}

impl Spawner for Stage {
    fn spawn(&self, _: Incarnation, _: Lease) -> BoxFuture<'_, Result<Pipes, Fault>> {
        let (input, their_input) = tokio::io::duplex(self.pipe);
        let (output, their_output) = tokio::io::duplex(self.pipe);
        let process = Arc::new(Puppet::default());
        let input_lines = BufReader::new(their_input).lines();
        let peer = Peer { input: input_lines, output: their_output, process: Arc::clone(&process) };
        self.peers.try_send(peer).expect("the test takes its peers");
        Box::pin(async move { Ok(Pipes { output: Box::new(output), input: Box::new(input), process }) })
    }
}

pub(crate) fn attempt(ear: &Arc<Ear>, limit: Duration) -> Attempt {
    Attempt {
        server: ServerId::new("fake").expect("an id"),
        incarnation: Incarnation::FIRST,
        deadline: clock::now() + limit,
        inbound: Arc::clone(ear) as Arc<dyn Inbound>,
        lease: Lease::new(()),
    }
}

pub(crate) fn seconds(count: u64) -> Instant {
    clock::now() + Duration::from_secs(count)
}

/// A `tools/call` that ends within `limit` seconds, with `params` as they are.
pub(crate) fn tool_call(params: &str, limit: u64) -> Request {
    Request {
        method: "tools/call",
        params: Some(RawValue::from_string(params.to_owned()).expect("JSON")),
        deadline: seconds(limit),
        caller: Caller::Operator,
        observer: None,
    }
}

/// Calls in the background, so that the test can play the server meanwhile.
pub(crate) fn call(
    upstream: &Arc<dyn Upstream>,
    params: &str,
    limit: u64,
) -> tokio::task::JoinHandle<Result<String, CallError>> {
    let upstream = Arc::clone(upstream);
    let request = tool_call(params, limit);
    tokio::spawn(async move {
        upstream.request(request).await.map(|outcome| match outcome {
            Outcome::Raw(raw) => raw.get().to_owned(),
            other @ (Outcome::InputRequired(_) | Outcome::Task(_)) => format!("{other:?}"),
        })
    })
}
