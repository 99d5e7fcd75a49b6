//! The fake server's side of MCP, in both eras: requests in, answers and notifications out, mischief where asked for.
//!
//! One thread reads and answers in order; only the tool `slow` waits on a thread of its own and can be cancelled.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::process::{self, Child, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::era::{self, INVALID_PARAMS, META};
use super::mischief;
use super::options::Options;
use super::orders;
use super::tools::{ToolResult, Tools};
use super::wire::{Input, Output, append_to};

const METHOD_NOT_FOUND: i64 = -32601;

struct Session {
    options: Arc<Options>,
    output: Arc<Output>,
    tools: Tools,
    calls: u64,
    /// An unknown request came, and the next message ends us.
    doomed: bool,
    /// The id of the listen request, in the modern era.
    listening: Option<Value>,
    /// The slow calls that can still be cancelled, by their id as text.
    slow: Arc<Mutex<BTreeMap<String, Sender<()>>>>,
    /// Where the nonces of calls go.
    executed: Option<File>,
}

enum Next {
    Read,
    /// Standard input is closed, and the process lives on.
    Deaf,
}

/// Does what is asked for at the start, then serves until the input ends.
pub(super) fn run(options: Options) -> ExitCode {
    if options.has("ignore-sigterm") {
        mischief::ignore_sigterm();
    }
    let mut input = match prepare(&options) {
        Ok(input) => input,
        Err(failure) => {
            drop(writeln!(io::stderr(), "fake_server: {failure}"));
            return ExitCode::from(70);
        }
    };
    // The grandchild is kept, never waited for: that it outlives us is the point of it.
    let _grandchild: Option<Child> = match start_others(&options) {
        Ok(child) => child,
        Err(failure) => {
            drop(writeln!(io::stderr(), "fake_server: {failure}"));
            return ExitCode::from(71);
        }
    };
    if let Some(code) = options.exit_code("crash-at-start") {
        drop(writeln!(io::stderr(), "fake_server: crashing at the start, as told"));
        process::exit(code);
    }
    let once = options.text("slow-once").and_then(take_number).map(Duration::from_millis);
    for delay in [options.millis("start-delay-ms"), once].into_iter().flatten() {
        mischief::pause(delay);
    }
    if let Some(time) = options.millis("cpu-ms") {
        mischief::burn(time);
    }

    let ignores_eof = options.has("ignore-eof");
    let mut session = match Session::new(options) {
        Ok(session) => session,
        Err(failure) => {
            drop(writeln!(io::stderr(), "fake_server: {failure}"));
            return ExitCode::from(72);
        }
    };
    while let Some(line) = input.next() {
        match session.on_line(&line) {
            Next::Read => {}
            Next::Deaf => mischief::live_for_ever(),
        }
    }
    if ignores_eof {
        mischief::live_for_ever();
    }
    ExitCode::SUCCESS
}

fn prepare(options: &Options) -> io::Result<Input> {
    if let Some(file) = options.text("pids") {
        mischief::note_pid(file, process::id())?;
    }
    for number in 1..=options.number("stderr").unwrap_or(0) {
        writeln!(io::stderr(), "fake_server says line {number}")?;
    }
    Input::new(options.text("record"))
}

/// The number that `file` holds, once: the file is gone afterwards.
fn take_number(file: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    fs::remove_file(file).ok()?;
    text.trim().parse().ok()
}

fn start_others(options: &Options) -> io::Result<Option<Child>> {
    if let Some(file) = options.text("daemonise") {
        mischief::daemonise(file)?;
    }
    if !options.has("grandchild") {
        return Ok(None);
    }
    let child = mischief::grandchild()?;
    if let Some(file) = options.text("pids") {
        mischief::note_pid(file, child.id())?;
    }
    Ok(Some(child))
}

impl Session {
    /// Errors: the log of nonces or the socket for orders cannot be opened.
    fn new(options: Options) -> io::Result<Self> {
        let output: Arc<Output> = Arc::default();
        if let Some(socket) = options.text("orders") {
            orders::listen(socket, Arc::clone(&output))?;
        }
        Ok(Self {
            executed: options.text("executed").map(append_to).transpose()?,
            options: Arc::new(options),
            output,
            tools: Tools::default(),
            calls: 0,
            doomed: false,
            listening: None,
            slow: Arc::default(),
        })
    }

    fn is_modern(&self) -> bool {
        self.options.text("era") == Some("modern")
    }

    fn on_line(&mut self, line: &[u8]) -> Next {
        if self.doomed {
            drop(writeln!(io::stderr(), "fake_server: did not get over an unknown request"));
            process::exit(1);
        }
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return Next::Read;
        };
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            return Next::Read;
        };
        let empty = json!({});
        let params = message.get("params").unwrap_or(&empty);
        let Some(id) = message.get("id") else {
            self.on_notification(method, params);
            return Next::Read;
        };
        self.on_request(id, method, params)
    }

    fn on_notification(&mut self, method: &str, params: &Value) {
        if method != "notifications/cancelled" {
            return;
        }
        let Some(id) = params.get("requestId") else { return };
        if self.listening.as_ref() == Some(id) {
            self.listening = None;
        }
        // Dropping the sender wakes the call, which then says nothing.
        self.slow.lock().expect("no holder panics").remove(&id.to_string());
    }

    fn on_request(&mut self, id: &Value, method: &str, params: &Value) -> Next {
        let is_opening = matches!(method, "initialize" | "server/discover");
        if is_opening && self.options.has("hang-initialize") {
            return Next::Read;
        }
        if self.is_modern()
            && let Err((code, why, data)) = era::check_meta(params)
        {
            self.refuse(id, code, why, data);
            return Next::Read;
        }
        match (method, self.is_modern()) {
            ("initialize", false) => self.answer(id, era::initialized(&self.options, params)),
            ("ping", false) => self.answer(id, json!({})),
            ("server/discover", true) => self.answer(id, era::discovered()),
            ("subscriptions/listen", true) => self.listen(id, params),
            ("tools/list", _) => {
                let tools = self.tools.list(&self.options);
                self.answer(id, json!({"tools": tools}));
            }
            ("tools/call", _) => return self.call(id, params),
            _ if self.options.has("die-on-unknown") => self.doomed = true,
            _ => self.refuse(id, METHOD_NOT_FOUND, "this method is not known here", Value::Null),
        }
        Next::Read
    }

    fn listen(&mut self, id: &Value, params: &Value) {
        let Some(wanted) = params.get("notifications").and_then(Value::as_object) else {
            self.refuse(id, INVALID_PARAMS, "a listen request says which notifications it wants", Value::Null);
            return;
        };
        let mut accepted = json!({});
        if wanted.get("toolsListChanged") == Some(&Value::Bool(true)) {
            accepted["toolsListChanged"] = Value::Bool(true);
            self.listening = Some(id.clone());
        }
        self.notify(
            "notifications/subscriptions/acknowledged",
            &json!({"notifications": accepted, "_meta": {format!("{META}/subscriptionId"): id}}),
        );
    }

    fn call(&mut self, id: &Value, params: &Value) -> Next {
        self.calls += 1;
        if self.options.number("crash-on-call") == Some(self.calls) && self.not_yet_done() {
            process::exit(self.options.exit_code("exit-code").unwrap_or(1));
        }
        self.note_executed(params);
        let strikes = self.strikes();
        if strikes && self.options.has("close-stdout") {
            mischief::close_stdout();
            return Next::Read;
        }
        self.chatter(params);
        if strikes {
            for number in 0..self.options.number("garbage").unwrap_or(0) {
                self.output.line(format!("}}this is not JSON, line {number}{{").as_bytes());
            }
            if self.options.has("broken") {
                self.output.line(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"#).as_bytes());
                return Next::Read;
            }
        }

        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        let empty = json!({});
        let arguments = params.get("arguments").unwrap_or(&empty);
        if name == "slow" {
            self.call_slowly(id, arguments);
            return Next::Read;
        }
        let Some(mut result) = self.tools.call(name, arguments, &self.options) else {
            self.refuse(id, INVALID_PARAMS, "there is no such tool", Value::Null);
            return Next::Read;
        };
        if let (true, Some(bytes)) = (strikes, self.options.number("oversize")) {
            result.text = "x".repeat(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        self.answer(id, self.content(&result, arguments));
        if self.options.has("duplicate") {
            self.answer(id, self.content(&result, arguments));
        }
        if strikes && self.options.has("close-stdin") {
            mischief::close_stdin();
            return Next::Deaf;
        }
        Next::Read
    }

    /// One write a call, so that servers can share a log.
    fn note_executed(&mut self, params: &Value) {
        let nonce = params.pointer("/arguments/nonce").and_then(Value::as_str);
        if let (Some(log), Some(nonce)) = (&mut self.executed, nonce) {
            log.write_all(format!("{nonce}\n").as_bytes()).expect("the log of nonces can be written");
        }
    }

    /// Whether this call is the one at which something bound to a call happens.
    fn strikes(&self) -> bool {
        let bound = ["close-stdout", "close-stdin", "garbage", "broken", "oversize"];
        bound.iter().any(|name| self.options.has(name))
            && self.calls == self.options.number("on-call").unwrap_or(1)
            && self.not_yet_done()
    }

    /// Claims the mark of `--once`. Without it, always true.
    fn not_yet_done(&self) -> bool {
        match self.options.text("once") {
            Some(mark) => OpenOptions::new().write(true).create_new(true).open(mark).is_ok(),
            None => true,
        }
    }

    /// What is sent before every answer to a call.
    fn chatter(&mut self, params: &Value) {
        for number in 0..self.options.number("flood").unwrap_or(0) {
            match number % 3 {
                0 => self.notify("notifications/message", &json!({"level": "info", "data": format!("line {number}")})),
                1 => self.notify("notifications/fake/unheard_of", &json!({"number": number})),
                _ => self.notify("notifications/progress", &json!({"progressToken": "nobody's", "progress": number})),
            }
        }
        if let (true, Some(token)) = (self.options.has("progress"), params.pointer("/_meta/progressToken")) {
            for step in 1..=3 {
                self.notify("notifications/progress", &json!({"progressToken": token, "progress": step, "total": 3}));
            }
        }
        if self.options.has("wrong-id") {
            self.answer(&json!(987_654_321), json!({"content": [{"type": "text", "text": "for nobody"}]}));
        }
        if self.options.has("list-changed") {
            self.tools.add_one();
            match (self.is_modern(), &self.listening) {
                (false, _) => self.notify("notifications/tools/list_changed", &json!({})),
                (true, Some(id)) => self.notify(
                    "notifications/tools/list_changed",
                    &json!({"_meta": {format!("{META}/subscriptionId"): id}}),
                ),
                (true, None) => {}
            }
        }
    }

    fn call_slowly(&self, id: &Value, arguments: &Value) {
        let wait = Duration::from_millis(arguments.get("ms").and_then(Value::as_u64).unwrap_or(1000));
        let (sender, cancelled) = mpsc::channel();
        self.slow.lock().expect("no holder panics").insert(id.to_string(), sender);
        let result = ToolResult { text: format!("answered after {} ms", wait.as_millis()), is_error: false };
        let answer = envelope(id, &self.complete(self.content(&result, arguments)));
        let (slow, output, key) = (Arc::clone(&self.slow), Arc::clone(&self.output), id.to_string());
        thread::spawn(move || {
            if cancelled.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                slow.lock().expect("no holder panics").remove(&key);
                output.send(&answer);
            }
        });
    }

    fn content(&self, result: &ToolResult, arguments: &Value) -> Value {
        let mut content = json!({"content": [{"type": "text", "text": result.text}], "isError": result.is_error});
        if let (true, Some(nonce)) = (self.options.has("nonce"), arguments.get("nonce")) {
            content["structuredContent"]["nonce"] = nonce.clone();
        }
        if let Some(name) = self.options.text("name") {
            content["structuredContent"]["server"] = json!(name);
        }
        content
    }

    fn answer(&self, id: &Value, result: Value) {
        self.output.send(&envelope(id, &self.complete(result)));
    }

    fn complete(&self, result: Value) -> Value {
        if self.is_modern() { era::completed(result) } else { result }
    }

    fn refuse(&self, id: &Value, code: i64, why: &str, data: Value) {
        let mut error = json!({"code": code, "message": why});
        if !data.is_null() {
            error["data"] = data;
        }
        self.output.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    fn notify(&self, method: &str, params: &Value) {
        self.output.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }
}

fn envelope(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}
