//! The fake server on a pair of pipes, without the product: how its own behaviour is tested.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// The fake server's program.
pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake_server");

/// One fake server and our ends of its pipes.
pub(crate) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Peer {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(FAKE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the fake server starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        Self { child, stdin, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// Sends one message. Gives whether the pipe took it.
    pub(crate) async fn send(&mut self, message: &Value) -> bool {
        let stdin = self.stdin.as_mut().expect("stdin was not closed");
        stdin.write_all(format!("{message}\n").as_bytes()).await.is_ok()
    }

    pub(crate) async fn request(&mut self, id: u64, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
    }

    pub(crate) async fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        self.request(id, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    }

    /// The next line that it writes, or `None` when its output has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(LIMIT, self.stdout.next_line()).await.expect("it writes in time").expect("it writes text")
    }

    pub(crate) async fn message(&mut self) -> Value {
        let line = self.line().await.expect("its output has not ended");
        serde_json::from_str(&line).expect("it writes JSON")
    }

    pub(crate) async fn error_line(&mut self) -> Option<String> {
        timeout(LIMIT, self.stderr.next_line()).await.expect("it writes in time").expect("it writes text")
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) async fn exited(&mut self) -> ExitStatus {
        timeout(LIMIT, self.child.wait()).await.expect("it exits in time").expect("it can be waited for")
    }
}

/// The text of a tool's answer.
pub(crate) fn text(message: &Value) -> &str {
    message.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_else(|| panic!("no text in {message}"))
}
