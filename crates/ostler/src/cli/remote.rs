//! A daemon behind its socket: one connection a request, so that dropping a request is all that cancelling takes.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{Method, Request, Response, header};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::failure::Failure;
use crate::http::backend::{Follow, Verb};
use crate::http::dto::{
    ApproveRequest, AskRequest, CallDto, CallRequest, LaunchDto, LogDto, ServerDto, StatusDto, ToolDto, WhyDto,
};
use crate::http::error::ErrorBody;
use crate::http::event::AskEvent;
use crate::socket::{JoinError, join};

/// How long a daemon may take to answer what it knows by heart.
const QUICK: Duration = Duration::from_secs(15);

/// How long a call or an answer may take at most; the daemon gives up before.
const LONG: Duration = Duration::from_secs(3700);

/// The largest answer that is read: a hundred servers' tools with room to spare.
const ANSWER_CAP: usize = 64 * 1024 * 1024;

/// The longest line of a stream.
const LINE_CAP: usize = 16 * 1024 * 1024;

/// A daemon.
pub(crate) struct Remote {
    path: PathBuf,
}

impl Remote {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody is there.
    pub(crate) async fn knock(&self) -> Result<(), JoinError> {
        join(&self.path).await.map(drop)
    }

    pub(crate) async fn status(&self) -> Result<StatusDto, Failure> {
        self.get("/v1/status").await
    }

    pub(crate) async fn servers(&self) -> Result<Vec<ServerDto>, Failure> {
        self.get("/v1/servers").await
    }

    pub(crate) async fn tools(&self) -> Result<Vec<ToolDto>, Failure> {
        self.get("/v1/tools").await
    }

    pub(crate) async fn call(&self, request: &CallRequest) -> Result<CallDto, Failure> {
        self.exchange(Method::POST, "/v1/call", encode(request)?, LONG).await
    }

    pub(crate) async fn order(&self, server: &str, verb: Verb) -> Result<ServerDto, Failure> {
        let server = checked(server)?;
        let path = format!("/v1/servers/{server}/{}", verb.as_str());
        self.exchange(Method::POST, &path, encode(&json!({}))?, QUICK).await
    }

    pub(crate) async fn ask(&self, request: &AskRequest) -> Result<Lines<AskEvent>, Failure> {
        self.stream(Method::POST, "/v1/ask", encode(request)?).await
    }

    pub(crate) async fn why(&self, name: &str) -> Result<WhyDto, Failure> {
        self.get(&format!("/v1/why/{}", escaped(name))).await
    }

    pub(crate) async fn logs(&self, server: &str, follow: Follow) -> Result<Lines<LogDto>, Failure> {
        let query = match follow {
            Follow::Yes => "?follow=true",
            Follow::No => "",
        };
        let path = format!("/v1/servers/{}/logs{query}", checked(server)?);
        self.stream(Method::GET, &path, Vec::new()).await
    }

    pub(crate) async fn launch(&self, server: &str) -> Result<LaunchDto, Failure> {
        self.get(&format!("/v1/servers/{}/launch", checked(server)?)).await
    }

    pub(crate) async fn approve(&self, launch: &LaunchDto) -> Result<LaunchDto, Failure> {
        let path = format!("/v1/servers/{}/approve", checked(&launch.server)?);
        let request = ApproveRequest { digest: launch.digest.clone() };
        self.exchange(Method::POST, &path, encode(&request)?, QUICK).await
    }

    async fn stream<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Lines<T>, Failure> {
        let answer = timeout(QUICK, self.send(method, path, body)).await.map_err(|_| late())??;
        let answer = answer.checked(QUICK).await?;
        Ok(Lines {
            stream: answer.response.into_body().into_data_stream(),
            buffer: Vec::new(),
            _connection: answer.connection,
            kind: PhantomData,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.exchange(Method::GET, path, Vec::new(), QUICK).await
    }

    /// Sends a request and reads its whole answer within `limit`.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<T, Failure> {
        let answer = timeout(limit, self.send(method, path, body)).await.map_err(|_| late())??;
        let answer = answer.checked(QUICK).await?;
        let bytes = timeout(limit, to_bytes(answer.response.into_body(), ANSWER_CAP))
            .await
            .map_err(|_| late())?
            .map_err(|error| Failure::daemon(format!("the daemon's answer broke off: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|error| strange(&error))
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let stream = join(&self.path).await?;
        let failed = |error: hyper::Error| Failure::daemon(format!("the daemon does not answer: {error}"));
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let mut connection = JoinSet::new();
        // What becomes of the connection is seen by whoever reads the answer.
        connection.spawn(async move { drop(driver.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok(Answer { response: response.map(Body::new), connection })
    }
}

/// A response whose body comes as long as its connection is kept.
struct Answer {
    response: Response<Body>,
    connection: JoinSet<()>,
}

impl Answer {
    /// Turns an error of the daemon into ours.
    async fn checked(self, limit: Duration) -> Result<Self, Failure> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let bytes = timeout(limit, to_bytes(self.response.into_body(), ANSWER_CAP)).await.map_err(|_| late())?;
        let body = bytes.ok().and_then(|bytes| serde_json::from_slice::<ErrorBody>(&bytes).ok());
        Err(match body {
            Some(body) => body.error.into(),
            None => Failure::daemon(format!("the daemon answers with status {status}")),
        })
    }
}

/// A stream of JSON lines, as they come.
pub(crate) struct Lines<T> {
    stream: BodyDataStream,
    buffer: Vec<u8>,
    _connection: JoinSet<()>,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=searched + end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| strange(&error));
            }
            searched = self.buffer.len();
            if searched > LINE_CAP {
                return Err(Failure::daemon("the daemon sent a line without an end"));
            }
            match timeout(LONG, self.stream.next()).await.map_err(|_| late())? {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(Failure::daemon(format!("the daemon broke off: {error}"))),
                None => return Ok(None),
            }
        }
    }
}

/// The name of a server, as a part of a path. Whatever is not in its alphabet must not become another path.
fn checked(server: &str) -> Result<&str, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if server.is_empty() || !server.bytes().all(allowed) {
        return Err(Failure::usage(format!("'{server}' cannot be the name of a server")));
    }
    Ok(server)
}

/// Any text, as a part of a path.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            path.push(char::from(byte));
        } else {
            path.extend(["%", &format!("{byte:02X}")]);
        }
        path
    })
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::usage(error.to_string()))
}

fn late() -> Failure {
    Failure::daemon("the daemon did not answer in time")
}

fn strange(error: &serde_json::Error) -> Failure {
    Failure::daemon(format!("the daemon's answer cannot be understood: {error}"))
        .with_hint("it may be of another version; restart it")
}
