//! `ostler up` for one test: started, watched through its socket and its ops listener, and gone when dropped.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use super::config::Config;
use super::events::Events;
use super::home::Home;
use super::{process, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) home: Arc<Home>,
    pub(crate) events: Events,
    child: Child,
    socket: Client,
    ops: String,
    tcp: Client,
    said: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts it and waits until its socket answers. The servers may not be up yet.
    pub(crate) async fn start(home: impl Into<Arc<Home>>, config: &Config) -> Self {
        let home = home.into();
        config.write(&home);
        let mut child = home
            .ostler()
            .arg("up")
            .args(home.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let said = Arc::default();
        gather(child.stdout.take().expect("stdout is piped"), &said);
        gather(child.stderr.take().expect("stderr is piped"), &said);
        let socket = Client::builder().unix_socket(home.socket()).build().expect("a client for the socket");
        let status = wait::until(("an answer of the daemon", &said), LIMIT, async || {
            get(&socket, "http://localhost/v1/status").await.filter(|(status, _)| *status == 200)
        })
        .await;
        let status: Value = serde_json::from_str(&status.1).expect("the status is JSON");
        let address = status["ops"].as_str().expect("the ops listener has an address");
        let ops = format!("http://{}", address.trim_start_matches("http://").trim_end_matches('/'));
        let events = Events::follow(socket.clone()).await;
        Self { home, events, child, socket, ops, tcp: Client::new(), said }
    }

    /// Starts it and waits until every server is up or has failed once.
    pub(crate) async fn settled(home: impl Into<Arc<Home>>, config: &Config) -> Self {
        let daemon = Self::start(home, config).await;
        wait::until("/readyz", LIMIT, async || {
            let (status, _) = daemon.ops("/readyz").await;
            (status == 200).then_some(())
        })
        .await;
        daemon
    }

    /// A home of its own with `config`, settled.
    pub(crate) async fn with(config: &Config) -> Self {
        Self::settled(Home::new(), config).await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Everything that it printed so far, both streams together.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.said.lock().expect("no reader panics").clone()
    }

    /// Status and body of a page of the ops listener.
    pub(crate) async fn ops(&self, path: &str) -> (u16, String) {
        get(&self.tcp, &format!("{}{path}", self.ops)).await.unwrap_or_else(|| panic!("no answer: {:#?}", self.lines()))
    }

    /// The sum of the series of `metric`, all of them whole numbers, that have all of `labels` (as `name="value"`).
    pub(crate) async fn count(&self, metric: &str, labels: &[&str]) -> u64 {
        let (_, page) = self.ops("/metrics").await;
        let series = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
            let is_wanted = name == metric && labels.iter().all(|label| pairs.contains(label));
            is_wanted.then(|| value.parse::<u64>().expect("it counts"))
        });
        series.sum()
    }

    /// All servers, as the socket tells.
    pub(crate) async fn servers(&self) -> Vec<Value> {
        let (_, body) = get(&self.socket, "http://localhost/v1/servers").await.expect("the socket answers");
        serde_json::from_str(&body).expect("the servers are a list")
    }

    /// One server, as the socket tells.
    pub(crate) async fn server(&self, name: &str) -> Value {
        let servers = self.servers().await;
        servers.into_iter().find(|server| server["server"] == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// Waits until there is a server `name` that fulfils `claim`, and gives it.
    pub(crate) async fn wait_for(&self, name: &str, claim: impl Fn(&Value) -> bool) -> Value {
        let is_it = |server: &Value| server["server"] == name && claim(server);
        wait::until((name, self.lines()), LIMIT, async || self.servers().await.into_iter().find(is_it)).await
    }

    /// Waits until `name` is ready and gives its process id.
    pub(crate) async fn ready_pid(&self, name: &str) -> u32 {
        let server = self.wait_for(name, |server| server["state"] == "ready").await;
        let pid = server["pid"].as_u64().expect("a ready child has a pid");
        u32::try_from(pid).expect("a pid fits")
    }

    /// The names of all tools.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let (_, body) = get(&self.socket, "http://localhost/v1/tools").await.expect("the socket answers");
        let tools: Vec<Value> = serde_json::from_str(&body).expect("the tools are a list");
        tools.iter().map(|tool| tool["name"].as_str().expect("a tool has a name").to_owned()).collect()
    }

    /// Calls a tool over the socket: the answer, or the error.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Value> {
        let body = json!({"name": tool, "arguments": arguments}).to_string();
        let answer = self
            .socket
            .post("http://localhost/v1/call")
            .header("content-type", "application/json")
            .timeout(LIMIT)
            .body(body)
            .send()
            .await
            .unwrap_or_else(|failure| panic!("no answer in {LIMIT:?}: {failure}"));
        let is_good = answer.status().is_success();
        let body: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("the body is JSON");
        if is_good { Ok(body) } else { Err(body["error"].clone()) }
    }

    /// Calls a tool until it answers well, and gives the text.
    pub(crate) async fn call_until_well(&self, tool: &str, arguments: &Value) -> String {
        wait::until((tool, self.lines()), LIMIT, async || {
            self.call(tool, arguments.clone()).await.ok().map(|answer| text(&answer))
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self, limit: Duration) -> ExitStatus {
        let ended = timeout(limit, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it did not end in {limit:?}: {:#?}", self.lines()));
        ended.expect("it can be waited for")
    }
}

/// The text of a call's answer.
pub(crate) fn text(answer: &Value) -> String {
    let text = answer.pointer("/result/content/0/text").and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text in {answer}")).to_owned()
}

async fn get(client: &Client, url: &str) -> Option<(u16, String)> {
    let answer = client.get(url).timeout(LIMIT).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

fn gather(stream: impl AsyncRead + Send + Unpin + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    let mut lines = BufReader::new(stream).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().expect("no reader panics").push(line);
        }
    });
}
