//! The one router. A surface is a list of routes; the guard stands before every one of them, also before what is not found.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::time::timeout;

use super::backend::Backend;
use super::error::ErrorDto;
use super::guard::{Guard, guard, json_only};
use super::{control, operate, ops};

/// How long a handler that only looks something up may take.
const QUICK: Duration = Duration::from_secs(10);

/// How long a call, a question or a subscription may last.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(3600);

/// Which door of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// TCP, for monitoring: metrics and health. Nothing here changes anything.
    Ops,
    /// The Unix socket: the command line's way in.
    Socket,
}

impl Surface {
    /// How long one connection may last.
    pub fn longest(self) -> Duration {
        match self {
            Self::Ops => Duration::from_secs(60),
            Self::Socket => STREAM_LIMIT + QUICK,
        }
    }
}

/// One route of a surface.
pub(super) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests that knock at every route"))]
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// How long until its response must have begun.
    limit: Duration,
    handler: MethodRouter<Shared>,
}

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    /// Whether the fleet has once been settled.
    pub(super) started: Arc<AtomicBool>,
}

/// The whole table of a surface: what is not here does not exist.
pub(super) fn routes(surface: Surface) -> Vec<Route> {
    let looks = |path, handler| Route { method: Method::GET, path, limit: QUICK, handler };
    // Its layer lies on the handler alone: a method that the route does not take is told before a body that it could not read.
    let does = |path, limit, handler: MethodRouter<Shared>| {
        let handler = handler.route_layer(from_fn(json_only));
        Route { method: Method::POST, path, limit, handler }
    };
    match surface {
        Surface::Ops => vec![
            looks("/healthz", get(ops::health)),
            looks("/readyz", get(ops::readiness)),
            looks("/metrics", get(ops::metrics)),
        ],
        Surface::Socket => vec![
            looks("/v1/status", get(control::status)),
            looks("/v1/servers", get(control::servers)),
            looks("/v1/tools", get(control::tools)),
            looks("/v1/events", get(control::events)),
            looks("/v1/why/{name}", get(operate::why)),
            looks("/v1/servers/{server}/logs", get(operate::logs)),
            looks("/v1/servers/{server}/launch", get(operate::launch)),
            does("/v1/servers/{server}/approve", QUICK, post(operate::approve)),
            does("/v1/call", STREAM_LIMIT, post(control::call)),
            does("/v1/ask", QUICK * 2, post(control::ask)),
            does("/v1/servers/{server}/{verb}", QUICK, post(control::order)),
        ],
    }
}

/// Builds the router of a surface behind its guard.
pub fn router(surface: Surface, backend: Arc<dyn Backend>, rules: Guard) -> Router {
    let shared = Shared { backend, started: Arc::default() };
    let mut router = Router::new();
    for route in routes(surface) {
        router = router.route(route.path, route.handler.layer(from_fn_with_state(route.limit, within)));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::new(rules), guard))
        .with_state(shared)
}

/// Gives up on a handler after its limit. Dropping it cancels what it does.
async fn within(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ErrorDto::new("timed_out", format!("no answer within {} s", limit.as_secs())).into_response(),
    }
}

async fn not_found(uri: Uri) -> ErrorDto {
    ErrorDto::new("not_found", format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ErrorDto {
    ErrorDto::new("method_not_allowed", format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests;
