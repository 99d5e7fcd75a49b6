//! The routes of an operator: why something is as it is, what a server says, what would be run for it, and approving that.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use ostler_core::ServerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::backend::{Backend, Follow};
use super::body::{json, lines, read};
use super::control::STREAM_BUFFER;
use super::dto::ApproveRequest;
use super::error::ErrorDto;
use super::near::suggestion;
use super::router::{STREAM_LIMIT, Shared};

/// The server that a path names, in whatever case. Errors: there is none, with the nearest names.
pub(super) fn known(backend: &dyn Backend, server: &str) -> Result<ServerId, ErrorDto> {
    let servers = backend.servers();
    let names = || servers.iter().map(|known| known.server.as_str());
    let Some(name) = names().find(|known| known.eq_ignore_ascii_case(server)) else {
        let mut error = ErrorDto::new("unknown_server", format!("no server is called '{server}'"));
        error.hint = suggestion(server, names());
        return Err(error);
    };
    ServerId::new(name).map_err(|error| ErrorDto::new("internal", error.to_string()))
}

/// A name that nobody knows is answered too, with the nearest ones.
pub(super) async fn why(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    json(StatusCode::OK, &shared.backend.why(&name))
}

pub(super) async fn logs(
    State(shared): State<Shared>,
    Path(server): Path<String>,
    uri: Uri,
) -> Result<Response, ErrorDto> {
    let follow = match uri.query() {
        None | Some("" | "follow=false") => Follow::No,
        Some("follow=true") => Follow::Yes,
        Some(_) => return Err(ErrorDto::new("bad_request", "the one parameter of this route is follow=true")),
    };
    let server = known(&*shared.backend, &server)?;
    let mut logs = shared.backend.logs(&server, follow);
    let (sink, receiver) = mpsc::channel(STREAM_BUFFER);
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(pieces) = logs.next().await {
            for piece in pieces {
                if sink.send(piece).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(lines(receiver, task, crate::clock::now() + STREAM_LIMIT))
}

pub(super) async fn launch(State(shared): State<Shared>, Path(server): Path<String>) -> Result<Response, ErrorDto> {
    let server = known(&*shared.backend, &server)?;
    Ok(json(StatusCode::OK, &shared.backend.launch(&server).await?))
}

pub(super) async fn approve(
    State(shared): State<Shared>,
    Path(server): Path<String>,
    body: Body,
) -> Result<Response, ErrorDto> {
    let server = known(&*shared.backend, &server)?;
    let request: ApproveRequest = read(body).await?;
    shared.backend.approve(&server, request.digest).await?;
    Ok(json(StatusCode::OK, &shared.backend.launch(&server).await?))
}
