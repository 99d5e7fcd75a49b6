//! Bodies: JSON in with a cap and a deadline, JSON out, and streams of JSON lines whose task dies with the reader.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::error::ErrorDto;

/// The largest body that is read.
pub(super) const BODY_CAP: usize = 4 * 1024 * 1024;

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Reads a JSON body. Errors: `too_large`, `request_timeout`, `bad_request` with the place of the mistake.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ErrorDto> {
    let bytes = timeout(BODY_TIME, to_bytes(body, BODY_CAP))
        .await
        .map_err(|_| ErrorDto::new("request_timeout", "the body did not arrive in time"))?
        .map_err(|error| {
            if is_over_cap(&error) {
                ErrorDto::new("too_large", format!("a body has at most {BODY_CAP} bytes"))
            } else {
                ErrorDto::new("bad_request", format!("the body broke off: {error}"))
            }
        })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ErrorDto::new("bad_request", format!("the body is not what this route reads: {error}")))
}

fn is_over_cap(error: &axum::Error) -> bool {
    // The wrapped type belongs to a crate that we do not name; its text is stable and tested below.
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit exceeded"))
}

/// A JSON response.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, br#"{"error":{"code":"internal","message":"not JSON"}}"#.to_vec())
        }
    };
    response(status, "application/json", Body::from(body))
}

/// A response with a content type.
pub(super) fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A stream of JSON lines until the channel or the deadline ends. When the reader goes, `task` is aborted.
pub(super) fn lines<T: Serialize + Send + 'static>(
    receiver: mpsc::Receiver<T>,
    task: JoinSet<()>,
    deadline: Instant,
) -> Response {
    let stream = unfold((receiver, task), move |(mut receiver, task)| async move {
        let item = timeout_at(deadline.into(), receiver.recv()).await.ok()??;
        let mut line = serde_json::to_vec(&item).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(line), (receiver, task)))
    });
    response(StatusCode::OK, "application/x-ndjson", Body::from_stream(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_cap_is_too_large_and_not_a_broken_one() {
        let error = read::<Vec<u8>>(Body::from(vec![b' '; BODY_CAP + 1])).await.expect_err("refused");
        assert_eq!(error.code, "too_large");
    }
}
