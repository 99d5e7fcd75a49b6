//! The routes of the ops listener: metrics and health.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json as object;

use super::body::{json, response};
use super::dto::ReadinessDto;
use super::router::Shared;

/// Whoever can be answered is alive: a server that is down is no reason to restart all of them.
pub(super) async fn health() -> Response {
    json(StatusCode::OK, &object!({ "status": "alive" }))
}

/// Ready once every enabled server was up or has failed once. It stays so: a later crash is the metrics' to tell.
pub(super) async fn readiness(State(shared): State<Shared>) -> Response {
    let servers = shared.backend.servers();
    let mut states = BTreeMap::new();
    for server in &servers {
        *states.entry(server.state.clone()).or_insert(0) += 1;
    }
    let mut waiting_for: Vec<_> =
        servers.iter().filter(|server| !server.settled).map(|server| server.server.clone()).collect();
    if waiting_for.is_empty() {
        shared.started.store(true, Ordering::Relaxed);
    } else if shared.started.load(Ordering::Relaxed) {
        waiting_for.clear();
    }
    let ready = waiting_for.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &ReadinessDto { ready, states, waiting_for })
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Body::from(shared.backend.metrics()))
}
