//! The path of one call: look the name up, get a place in the lane, ask the server. Three rooms, no mailbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::{BoxFuture, Dispatch, Outcome, Request, ToolAnswer, ToolCall};
use ostler_core::tool::OfferedTool;
use ostler_core::{CallError, Incarnation, ServerId};
use ostler_policy::machine::OnRestart;
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
        let mut ending =
            Ending { server: None, stateful: false, counters: None, asked: clock::now(), outcome: "cancelled" };
        let mut incarnation = None;
        let result = match self.pass(&call, &mut ending, &mut incarnation).await {
            // The caller counts from its own asking, waiting for a place or for a restart included.
            Err(CallError::TimedOut { .. }) => Err(CallError::TimedOut { after: ending.elapsed() }),
            result => result,
        };
        ending.outcome = outcome(&result);
        ToolAnswer {
            server: ending.server.clone(),
            incarnation,
            stateful: ending.stateful,
            elapsed: ending.elapsed(),
            result,
        }
    }

    async fn pass(
        &self,
        call: &ToolCall,
        ending: &mut Ending,
        incarnation: &mut Option<Incarnation>,
    ) -> Result<Outcome, CallError> {
        let table = self.house.routes.load();
        let route = match table.routes.get(&call.name) {
            Some(route) => Arc::clone(route),
            None => self.find(call, &table, ending).await?,
        };
        ending.server = Some(route.lane.server().clone());
        ending.counters = Some(Arc::clone(&route.counters));
        ending.stateful = route.lane.limits().on_restart == OnRestart::Surface;
        let deadline = deadline(call, &route.lane, ending.asked);
        let span = ostler_telemetry::span::call(route.lane.server(), route.raw.as_str(), self.house.next_call());
        attempt(&route, call, deadline, incarnation).instrument(span).await
    }

    /// Finds a route that is not in the table: a server that is known but has not listed yet is waited for, as a call
    /// would wait for its restart.
    async fn find(&self, call: &ToolCall, table: &RouteTable, ending: &mut Ending) -> Result<Arc<Route>, CallError> {
        let Some((prefix, lane)) = table.lanes.longest_match(&call.name) else {
            return Err(unknown(table, &call.name, ""));
        };
        ending.server = Some(lane.server().clone());
        if table.count(prefix) > 0 {
            return Err(unknown(table, &call.name, prefix));
        }
        self.listed(lane, deadline(call, lane, ending.asked)).await?;
        let table = self.house.routes.load();
        table.routes.get(&call.name).map(Arc::clone).ok_or_else(|| unknown(&table, &call.name, prefix))
    }

    /// Waits until the server is ready: then the snapshot names its tools. Errors: as for a call that waits in vain.
    async fn listed(&self, lane: &Lane, deadline: Instant) -> Result<(), CallError> {
        let mut changes = self.house.board.watch();
        loop {
            lane.until_open(deadline).await?;
            let state = self.house.board.get(lane.server()).map(|status| status.state);
            match state.filter(|state| state.is_on_its_way()) {
                None => return Ok(()),
                Some(state) if timeout_at(deadline.into(), changes.changed()).await.is_err() => {
                    return Err(lane.not_yet(state));
                }
                Some(_) => {}
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

fn deadline(call: &ToolCall, lane: &Lane, asked: Instant) -> Instant {
    let latest = asked + lane.limits().call_timeout;
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

/// Records a call when it ends, also when its future is dropped. One record a call.
struct Ending {
    /// Who owns the name, if somebody does.
    server: Option<ServerId>,
    stateful: bool,
    /// The tool's counters, once its route is known.
    counters: Option<Arc<ToolCounters>>,
    asked: Instant,
    outcome: &'static str,
}

impl Ending {
    fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.asked)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        match &self.counters {
            Some(counters) => counters.record(self.outcome, self.elapsed()),
            None => record::unlisted_call(self.server.as_ref(), self.outcome),
        }
    }
}
