//! A fleet that is made of data, for the tests of the routes and of the command line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ostler_core::ServerId;
use ostler_core::port::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};

use super::backend::{Backend, Events, Follow, Logs, Talk, Verb};
use super::dto::{
    AnswerDto, Approval, CallDto, LaunchDto, LogDto, ModelDto, ReloadDto, ServerDto, StatusDto, Subject, ToolDto,
    UsageDto, WhyDto,
};
use super::error::ErrorDto;
use super::event::{AskEvent, EventDto, WhatDto};

/// The fake. A call to `math__hang` never ends; `abandoned` counts how many of those were dropped.
pub(crate) struct Fake {
    pub(crate) servers: Mutex<Vec<ServerDto>>,
    pub(crate) tools: Mutex<Vec<ToolDto>>,
    pub(crate) orders: Mutex<Vec<(String, Verb)>>,
    pub(crate) reload: Mutex<ReloadDto>,
    /// The launch line of every server; approved once its digest was named.
    pub(crate) launch: Mutex<LaunchDto>,
    pub(crate) abandoned: Arc<AtomicUsize>,
    pub(crate) hanging: tokio::sync::Notify,
    pub(crate) dropped: Arc<tokio::sync::Notify>,
    log: broadcast::Sender<EventDto>,
    past: Mutex<Vec<EventDto>>,
}

fn has_settled(state: &str) -> bool {
    !matches!(state, "queued" | "starting" | "stopping")
}

pub(crate) fn server(name: &str, state: &str) -> ServerDto {
    ServerDto {
        server: name.to_owned(),
        group: None,
        state: state.to_owned(),
        settled: has_settled(state),
        since_ms: 0,
        incarnation: Some(1),
        pid: None,
        transport: None,
        revision: None,
        server_name: None,
        server_version: None,
        capabilities: None,
        tools: 0,
        refused_tools: 0,
        failures: 0,
        restarts: 0,
        next_try_in_ms: None,
        gives_up_in_ms: None,
        last_fault: None,
    }
}

pub(crate) fn tool(name: &str) -> ToolDto {
    let (server, tool) = name.split_once("__").expect("server__tool");
    ToolDto {
        name: name.to_owned(),
        server: server.to_owned(),
        tool: tool.to_owned(),
        title: None,
        description: Some(format!("Does {tool}.\nAt length.")),
        input_schema: raw(r#"{"type":"object"}"#),
    }
}

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    /// Two servers that are up, with three tools.
    pub(crate) fn new() -> Arc<Self> {
        let up = |name, tools, pid| ServerDto { tools, pid: Some(pid), ..server(name, "ready") };
        Arc::new(Self {
            servers: Mutex::new(vec![up("math", 2, 11), up("notes", 1, 12)]),
            tools: Mutex::new(vec![tool("math__add"), tool("math__multiply"), tool("notes__save")]),
            orders: Mutex::default(),
            reload: Mutex::default(),
            launch: Mutex::new(LaunchDto {
                server: "math".to_owned(),
                line: "npx -y thing@1.2.3 (program /usr/bin/npx)".to_owned(),
                digest: "d1".to_owned(),
                origin: "/code/site/.mcp.json".to_owned(),
                approval: Approval::Missing,
            }),
            abandoned: Arc::default(),
            hanging: tokio::sync::Notify::new(),
            dropped: Arc::default(),
            log: broadcast::channel(64).0,
            past: Mutex::default(),
        })
    }

    /// Changes a server's state and tells of it.
    pub(crate) fn enter(&self, name: &str, to: &str, at_ms: u64) {
        let mut from = String::new();
        for server in lock(&self.servers).iter_mut().filter(|server| server.server == name) {
            from = std::mem::replace(&mut server.state, to.to_owned());
            server.settled = has_settled(to);
        }
        let what = WhatDto::State { from, to: to.to_owned(), fault: None, next_try_in_ms: None };
        let server = Some(name.to_owned());
        let event = EventDto { sequence: Some(1), at_ms: Some(at_ms), server, incarnation: Some(1), what };
        lock(&self.past).push(event.clone());
        let _ = self.log.send(event);
    }
}

impl Backend for Fake {
    fn status(&self) -> StatusDto {
        StatusDto {
            version: "0.0.0".to_owned(),
            pid: 1,
            config: Some("/etc/ostler.toml".to_owned()),
            ops: None,
            uptime_ms: 1,
            model: self.model(),
            reload: lock(&self.reload).clone(),
        }
    }

    fn servers(&self) -> Vec<ServerDto> {
        lock(&self.servers).clone()
    }

    fn tools(&self) -> Vec<ToolDto> {
        lock(&self.tools).clone()
    }

    fn model(&self) -> ModelDto {
        ModelDto {
            provider: "rehearsal".to_owned(),
            model: "script".to_owned(),
            notice: Some("not a language model".to_owned()),
        }
    }

    fn call(
        &self,
        name: String,
        arguments: Box<RawValue>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'_, Result<CallDto, ErrorDto>> {
        struct Abandoned(Arc<AtomicUsize>, Arc<tokio::sync::Notify>);
        impl Drop for Abandoned {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
                self.1.notify_one();
            }
        }
        Box::pin(async move {
            match name.as_str() {
                "math__hang" => {
                    let _guard = Abandoned(Arc::clone(&self.abandoned), Arc::clone(&self.dropped));
                    self.hanging.notify_one();
                    match deadline {
                        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                        None => std::future::pending().await,
                    }
                    Err(ErrorDto::new("timed_out", "no answer"))
                }
                "math__add" => Ok(CallDto {
                    server: Some("math".to_owned()),
                    incarnation: Some(1),
                    elapsed_ms: 3,
                    is_error: arguments.get().contains("fail"),
                    result: raw(&format!(
                        r#"{{"content":[{{"type":"text","text":"got"}}],"echo":{}}}"#,
                        arguments.get()
                    )),
                }),
                "math__down" => {
                    let mut error =
                        ErrorDto::new("unavailable", "server 'math' is backoff").of_server(Some("math".to_owned()));
                    error.retry_after_ms = Some(1200);
                    Err(error)
                }
                other => Err(ErrorDto::new("unknown_tool", format!("no tool is called '{other}'"))),
            }
        })
    }

    fn converse(&self) -> BoxFuture<'_, Result<Box<dyn Talk>, ErrorDto>> {
        Box::pin(async { Ok(Box::new(Parrot) as Box<dyn Talk>) })
    }

    fn events(&self, recent: usize) -> Box<dyn Events> {
        let past = lock(&self.past);
        let skipped = past.len().saturating_sub(recent);
        Box::new(Log { past: past[skipped..].to_vec().into(), live: self.log.subscribe() })
    }

    fn control(&self, server: &ServerId, verb: Verb) -> Result<(), ErrorDto> {
        lock(&self.orders).push((server.to_string(), verb));
        Ok(())
    }

    fn why(&self, name: &str) -> WhyDto {
        let server = lock(&self.servers).iter().find(|server| server.server == name).cloned();
        WhyDto {
            name: name.to_owned(),
            subject: if server.is_some() { Subject::Server } else { Subject::Nothing },
            well: server.as_ref().is_some_and(|server| server.state == "ready"),
            verdict: format!("what is known of '{name}'"),
            server,
            advice: vec!["Do this.".to_owned(), "Or that.".to_owned()],
        }
    }

    fn logs(&self, _: &ServerId, follow: Follow) -> Box<dyn Logs> {
        let line = |number, text: &str| LogDto::Line { number, text: text.to_owned() };
        let mut pieces = vec![vec![line(1, "one"), line(4, "four")]];
        if follow == Follow::Yes {
            pieces.push(vec![LogDto::Began, line(1, "again")]);
        }
        Box::new(Pieces(pieces.into_iter()))
    }

    fn launch(&self, server: &ServerId) -> BoxFuture<'_, Result<LaunchDto, ErrorDto>> {
        let launch = LaunchDto { server: server.to_string(), ..lock(&self.launch).clone() };
        Box::pin(std::future::ready(Ok(launch)))
    }

    fn approve(&self, _: &ServerId, digest: String) -> BoxFuture<'_, Result<(), ErrorDto>> {
        let mut launch = lock(&self.launch);
        let approved = if launch.digest == digest {
            launch.approval = Approval::Given;
            Ok(())
        } else {
            Err(ErrorDto::new("launch_changed", "it has changed"))
        };
        Box::pin(std::future::ready(approved))
    }

    fn metrics(&self) -> String {
        "# TYPE ostler_up gauge\nostler_up 1\n".to_owned()
    }
}

/// Calls one tool and repeats what it hears; fails at `fail`, never ends at `hang`.
struct Parrot;

impl Talk for Parrot {
    fn say(&mut self, text: String, sink: mpsc::Sender<AskEvent>) -> BoxFuture<'_, Result<AnswerDto, ErrorDto>> {
        Box::pin(async move {
            let send = |event| async { drop(sink.send(event).await) };
            send(AskEvent::Asking { round: 1 }).await;
            match text.as_str() {
                "fail" => return Err(ErrorDto::new("unknown_prompt", "only parrots")),
                "hang" => std::future::pending().await,
                _ => {}
            }
            let (id, name) = ("c1".to_owned(), "math__add".to_owned());
            let arguments = r#"{"a":1,"b":2}"#.to_owned();
            send(AskEvent::ToolStarted { id: id.clone(), name: name.clone(), arguments }).await;
            let (server, outcome) = (Some("math".to_owned()), "ok".to_owned());
            send(AskEvent::ToolEnded {
                id,
                name,
                server,
                incarnation: Some(1),
                elapsed_ms: 3,
                outcome,
                content: "3".to_owned(),
                is_error: false,
            })
            .await;
            send(AskEvent::Text { text: text.clone() }).await;
            Ok(AnswerDto { text, stop: "end_turn".to_owned(), rounds: 2, usage: UsageDto::default() })
        })
    }
}

/// Ends after its pieces, also if somebody wants to stay.
struct Pieces(std::vec::IntoIter<Vec<LogDto>>);

impl Logs for Pieces {
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<LogDto>>> {
        Box::pin(std::future::ready(self.0.next()))
    }
}

struct Log {
    past: std::collections::VecDeque<EventDto>,
    live: broadcast::Receiver<EventDto>,
}

impl Events for Log {
    fn next(&mut self) -> BoxFuture<'_, Option<EventDto>> {
        Box::pin(async {
            if let Some(event) = self.past.pop_front() {
                return Some(event);
            }
            match self.live.recv().await {
                Ok(event) => Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => Some(EventDto::gap(missed)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }
}

/// How many servers there are in each state.
pub(crate) fn states(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
}
