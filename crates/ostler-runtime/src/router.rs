//! The path of one call: look the name up, get a place in the lane, ask the server. Three rooms, no mailbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::{BoxFuture, Dispatch, Outcome, Request, ToolAnswer, ToolCall};
use ostler_core::tool::OfferedTool;
use ostler_core::{CallError, Incarnation, ServerId, ServerState};
use ostler_telemetry::record::{self, ToolCounters};
use serde_json::value::RawValue;
use tokio::time::timeout_at;
use tracing::Instrument;

use crate::clock;
use crate::house::House;
use crate::lane::Lane;
use crate::route::{Route, RouteTable};

/// How many names an error suggests.
const SUGGESTIONS: usize = 8;

/// The limit of a call to a name that no lane answers for.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(60);

/// Routes calls by the published snapshot.
#[derive(Debug, Clone)]
pub(crate) struct ToolRouter {
    pub(crate) house: Arc<House>,
}

impl Dispatch for ToolRouter {
    fn tools(&self) -> Arc<[OfferedTool]> {
        self.house.routes.load().tools()
    }

    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolAnswer> {
        Box::pin(self.route(call))
    }
}

impl ToolRouter {
    async fn route(&self, call: ToolCall) -> ToolAnswer {
        let asked = clock::now();
        let route = match self.find(&call.name, call.deadline, asked).await {
            Ok(route) => route,
            Err((server, error)) => {
                record::unknown_tool();
                let elapsed = clock::now().saturating_duration_since(asked);
                return ToolAnswer { server, incarnation: None, elapsed, result: Err(error) };
            }
        };
        let mut ending = Ending { counters: &route.counters, asked, outcome: "cancelled" };
        let deadline = deadline(&call, route.lane.limits().call_timeout, asked);
        let mut incarnation = None;
        let span = ostler_telemetry::span::call(route.lane.server(), route.raw.as_str(), self.house.next_call());
        let result = attempt(&route, &call, deadline, &mut incarnation).instrument(span).await;
        ending.outcome = outcome(&result);
        let server = Some(route.lane.server().clone());
        ToolAnswer { server, incarnation, elapsed: clock::now().saturating_duration_since(asked), result }
    }

    /// Finds the route of `name`; if its server is known but has not listed yet, waits for it as a call would.
    async fn find(
        &self,
        name: &str,
        wanted: Option<Instant>,
        asked: Instant,
    ) -> Result<Arc<Route>, (Option<ServerId>, CallError)> {
        let table = self.house.routes.load();
        if let Some(route) = table.routes.get(name) {
            return Ok(Arc::clone(route));
        }
        let Some((prefix, lane)) = table.lanes.longest_match(name) else {
            return Err((None, unknown(&table, name, "")));
        };
        let server = Some(lane.server().clone());
        if table.count(prefix) == 0 {
            let deadline = asked + lane.limits().call_timeout.min(ORPHAN_TIMEOUT);
            let deadline = wanted.map_or(deadline, |at| at.min(deadline));
            if let Err(error) = self.listed(lane, deadline).await {
                return Err((server, error));
            }
            let table = self.house.routes.load();
            return match table.routes.get(name) {
                Some(route) => Ok(Arc::clone(route)),
                None => Err((server, unknown(&table, name, prefix))),
            };
        }
        Err((server, unknown(&table, name, prefix)))
    }

    /// Waits until the server is ready: then the lane is open and the snapshot names its tools.
    async fn listed(&self, lane: &Lane, deadline: Instant) -> Result<(), CallError> {
        let mut changes = self.house.board.watch();
        loop {
            lane.until_open(deadline).await?;
            let state = self.house.board.get(lane.server()).map(|status| status.state);
            let starting = matches!(state, Some(ServerState::Starting | ServerState::Queued));
            if !starting || timeout_at(deadline.into(), changes.changed()).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Asks the server; once more if the first request provably never left.
async fn attempt(
    route: &Route,
    call: &ToolCall,
    deadline: Instant,
    incarnation: &mut Option<Incarnation>,
) -> Result<Outcome, CallError> {
    let mut retried = false;
    loop {
        let admission = route.lane.admit(deadline).await?;
        *incarnation = Some(admission.incarnation());
        let request = Request {
            method: "tools/call",
            params: Some(parameters(route.raw.as_str(), &call.arguments)),
            deadline,
            caller: call.caller,
            observer: call.observer.clone(),
        };
        match admission.request(request).await {
            Err(CallError::ServerLost { may_have_run: false, .. }) if !retried => retried = true,
            result => return result,
        }
    }
}

fn deadline(call: &ToolCall, limit: Duration, asked: Instant) -> Instant {
    let latest = asked + limit;
    call.deadline.map_or(latest, |wanted| wanted.min(latest))
}

/// `{"name":…,"arguments":…}` with the arguments byte for byte.
fn parameters(raw: &str, arguments: &RawValue) -> Box<RawValue> {
    // A raw name has no character that JSON escapes.
    let text = format!(r#"{{"name":"{raw}","arguments":{}}}"#, arguments.get());
    RawValue::from_string(text).expect("a name without escapes and a JSON value make an object")
}

/// The metric label of how a call ended.
fn outcome(result: &Result<Outcome, CallError>) -> &'static str {
    match result {
        Ok(Outcome::Raw(raw)) if is_tool_error(raw) => "tool_error",
        Ok(Outcome::Raw(_) | Outcome::InputRequired(_) | Outcome::Task(_)) => "ok",
        Err(error) => error.outcome(),
    }
}

fn is_tool_error(result: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Peek {
        #[serde(rename = "isError", default)]
        is_error: Option<bool>,
    }
    // The word is searched first: most results do not have it, and are not parsed for it.
    result.get().contains("\"isError\"")
        && serde_json::from_str::<Peek>(result.get()).is_ok_and(|peek| peek.is_error == Some(true))
}

fn unknown(table: &RouteTable, name: &str, prefix: &str) -> CallError {
    let names: Vec<String> = table.routes.under(prefix).into_iter().take(SUGGESTIONS).map(|(name, _)| name).collect();
    let total = table.count(prefix);
    let more = if total > names.len() { format!(" and {} more", total - names.len()) } else { String::new() };
    let hint = match (prefix, names.is_empty()) {
        ("", true) => "; no server offers any tool now, see `ostler servers`".to_owned(),
        ("", false) => format!("; there are {}{more}", names.join(", ")),
        (_, true) => "; its server offers no tools".to_owned(),
        (_, false) => format!("; its server offers {}{more}", names.join(", ")),
    };
    CallError::UnknownTool { name: name.to_owned(), hint }
}

/// Records a call when it ends, also when its future is dropped.
struct Ending<'a> {
    counters: &'a ToolCounters,
    asked: Instant,
    outcome: &'static str,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.counters.record(self.outcome, clock::now().saturating_duration_since(self.asked));
    }
}
