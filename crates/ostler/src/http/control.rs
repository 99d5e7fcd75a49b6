//! The routes of the socket: servers, tools, calls, questions, orders, events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::asking;
use super::backend::Verb;
use super::body::{json, lines, read};
use super::dto::{AskRequest, CallRequest};
use super::error::ErrorDto;
use super::operate::known;
use super::router::{STREAM_LIMIT, Shared};

/// How many events wait for a slow reader before its source waits too.
pub(super) const STREAM_BUFFER: usize = 64;

/// The most prompts in one question.
const MAX_PROMPTS: usize = 256;

pub(super) async fn status(State(shared): State<Shared>) -> Response {
    json(StatusCode::OK, &shared.backend.status())
}

pub(super) async fn servers(State(shared): State<Shared>) -> Response {
    json(StatusCode::OK, &shared.backend.servers())
}

pub(super) async fn tools(State(shared): State<Shared>) -> Response {
    json(StatusCode::OK, &shared.backend.tools())
}

pub(super) async fn call(State(shared): State<Shared>, body: Body) -> Result<Response, ErrorDto> {
    let request: CallRequest = read(body).await?;
    if !request.arguments.get().starts_with('{') {
        return Err(ErrorDto::new("bad_request", "arguments must be a JSON object"));
    }
    let deadline = request.timeout_ms.map(|ms| crate::clock::now() + Duration::from_millis(ms).min(STREAM_LIMIT));
    let answer = shared.backend.call(request.name, request.arguments, deadline).await?;
    Ok(json(StatusCode::OK, &answer))
}

pub(super) async fn ask(State(shared): State<Shared>, body: Body) -> Result<Response, ErrorDto> {
    let request: AskRequest = read(body).await?;
    if request.prompts.is_empty() || request.prompts.len() > MAX_PROMPTS {
        return Err(ErrorDto::new("bad_request", format!("prompts must hold 1 to {MAX_PROMPTS} texts")));
    }
    let (sink, receiver) = mpsc::channel(STREAM_BUFFER);
    let mut task = JoinSet::new();
    task.spawn(asking::ask(Arc::clone(&shared.backend), request, sink));
    Ok(lines(receiver, task, crate::clock::now() + STREAM_LIMIT))
}

pub(super) async fn events(State(shared): State<Shared>) -> Response {
    let mut events = shared.backend.events(0);
    let (sink, receiver) = mpsc::channel(STREAM_BUFFER);
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(event) = events.next().await {
            if sink.send(event).await.is_err() {
                return;
            }
        }
    });
    lines(receiver, task, crate::clock::now() + STREAM_LIMIT)
}

pub(super) async fn order(
    State(shared): State<Shared>,
    Path((server, verb)): Path<(String, String)>,
) -> Result<Response, ErrorDto> {
    let Some(verb) = Verb::parse(&verb) else {
        return Err(ErrorDto::new("not_found", format!("a server cannot be told to '{verb}'"))
            .with_hint("the orders are restart, stop and start"));
    };
    let id = known(&*shared.backend, &server)?;
    shared.backend.control(&id, verb)?;
    let server = shared.backend.servers().into_iter().find(|known| known.server == id.as_str());
    Ok(match server {
        Some(server) => json(StatusCode::ACCEPTED, &server),
        None => ErrorDto::new("unknown_server", format!("server '{id}' has just been removed")).into_response(),
    })
}
