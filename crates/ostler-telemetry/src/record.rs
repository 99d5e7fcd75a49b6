//! One function a fact: what happened goes in, metrics come out.
//!
//! The only place of the workspace that names the macros of `metrics`. Labels come from closed sets; the few that a
//! foreign server chooses are cleaned, cut and capped here. What is recorded often has cached handles.

mod handles;
mod memory;

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use ostler_core::dialogue::Usage;
use ostler_core::{DeathReason, ServerId, ServerState};

pub use self::handles::{LaneGauges, OUTCOMES, ToolCounters, WireCounters, enable_tool_durations};
pub use crate::metric::BUCKETS;
use crate::metric::{self, Kind};

/// Tells the recorder the help text and unit of every metric. Called once, after it is installed.
pub fn describe() {
    for metric in metric::ALL {
        let unit = metric.unit.unwrap_or(metrics::Unit::Count);
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// Says which version runs.
pub fn build(version: &str) {
    gauge!(metric::BUILD_INFO.name, "version" => version.to_owned()).set(1.0);
}

/// The configuration was read again: it was taken (`ok`), or it was wrong and changed nothing (`error`).
pub fn config_reload(result: &'static str) {
    counter!(metric::CONFIG_RELOADS.name, "result" => result).increment(1);
}

/// The configuration in use was taken at `unix_seconds`.
pub fn config_taken(unix_seconds: f64) {
    gauge!(metric::CONFIG_RELOAD_SUCCESS.name).set(unix_seconds);
}

// ---- The life of a server ------------------------------------------------------------------------------------------

/// The server is now in `to` and in no other state.
pub fn state(server: &ServerId, to: ServerState) {
    for &state in ServerState::ALL {
        gauge!(metric::SERVER_STATE.name, "server" => label(server), "state" => state.as_str()).set(flag(state == to));
    }
    let serves = matches!(to, ServerState::Ready | ServerState::Degraded);
    gauge!(metric::SERVER_UP.name, "server" => label(server)).set(flag(serves));
    gauge!(metric::SERVER_QUARANTINED.name, "server" => label(server)).set(flag(to == ServerState::Quarantined));
    if !serves {
        gauge!(metric::SERVER_START_TIME.name, "server" => label(server)).set(0.0);
    }
}

/// A new incarnation takes the place of one that ended for `reason`.
pub fn restart(server: &ServerId, reason: DeathReason) {
    counter!(metric::SERVER_RESTARTS.name, "server" => label(server), "reason" => reason.as_str()).increment(1);
}

/// The server failed `in_a_row` times since its last stable run.
pub fn failures(server: &ServerId, in_a_row: u32) {
    gauge!(metric::SERVER_FAILURES.name, "server" => label(server)).set(f64::from(in_a_row));
}

/// The next start is due after `delay`; zero says that none is waited for.
pub fn backoff(server: &ServerId, delay: Duration) {
    gauge!(metric::SERVER_BACKOFF.name, "server" => label(server)).set(delay.as_secs_f64());
}

/// The incarnation became ready at `unix_seconds`.
pub fn started(server: &ServerId, unix_seconds: f64) {
    gauge!(metric::SERVER_START_TIME.name, "server" => label(server)).set(unix_seconds);
}

/// What the incarnation said of itself. `version` is its own word: cleaned and cut to 64 bytes.
pub fn info(server: &ServerId, version: &str, revision: &str, transport: &'static str) {
    let now = memory::Info::new(version, revision, transport);
    if let Some(before) = memory::replace_info(server, Some(now.clone()))
        && before != now
    {
        set_info(server, before, 0.0);
    }
    set_info(server, now, 1.0);
}

fn set_info(server: &ServerId, info: memory::Info, value: f64) {
    gauge!(
        metric::SERVER_INFO.name,
        "server" => label(server),
        "version" => info.version,
        "protocol" => info.revision,
        "transport" => info.transport,
    )
    .set(value);
}

/// The server has `count` tools in the namespace.
pub fn tools(server: &ServerId, count: usize) {
    gauge!(metric::SERVER_TOOLS.name, "server" => label(server)).set(number(count));
}

/// A server was ready again `elapsed` after an incarnation died.
pub fn recovery(elapsed: Duration) {
    histogram!(metric::SERVER_RECOVERY.name).record(elapsed);
}

/// A session of `transport` (`stdio`, `http`) ended after it `lived`; `error_type` is empty for an orderly end.
pub fn session(transport: &'static str, error_type: &'static str, lived: Duration) {
    let network = match transport {
        "stdio" => "pipe",
        "http" => "tcp",
        other => other,
    };
    histogram!(metric::SESSION_DURATION.name, "network_transport" => network, "error_type" => error_type).record(lived);
}

/// A message of an earlier incarnation was dropped.
pub fn stale_event(server: &ServerId) {
    counter!(metric::STALE_EVENTS.name, "server" => label(server)).increment(1);
}

/// The server left the fleet: its gauges go to zero, its counters stay.
pub fn forget(server: &ServerId) {
    for &state in ServerState::ALL {
        gauge!(metric::SERVER_STATE.name, "server" => label(server), "state" => state.as_str()).set(0.0);
    }
    for gauge in [
        metric::SERVER_UP,
        metric::SERVER_QUARANTINED,
        metric::SERVER_FAILURES,
        metric::SERVER_BACKOFF,
        metric::SERVER_START_TIME,
        metric::SERVER_TOOLS,
        metric::SERVER_IN_FLIGHT,
        metric::QUEUE_WAITING,
    ] {
        gauge!(gauge.name, "server" => label(server)).set(0.0);
    }
    if let Some(before) = memory::replace_info(server, None) {
        set_info(server, before, 0.0);
    }
}

// ---- The namespace and calls ---------------------------------------------------------------------------------------

/// The namespace number `generation` was published.
pub fn generation(generation: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a generation stays far below 2^52")]
    gauge!(metric::CATALOGUE_GENERATION.name).set(generation as f64);
    counter!(metric::CATALOGUE_CHANGES.name).increment(1);
}

/// Somebody called a tool that is not listed, perhaps of a server that is. Its name is not a label: it is the caller's word.
pub fn unlisted_call(server: Option<&ServerId>, outcome: &'static str) {
    let server = server.map_or("", ServerId::as_str).to_owned();
    counter!(metric::TOOL_CALLS.name, "server" => server, "tool" => "_unknown", "outcome" => outcome).increment(1);
}

/// The process that owns the children runs, or does not.
pub fn reaper_up(up: bool) {
    gauge!(metric::REAPER_UP.name).set(flag(up));
}

/// The process that owns the children was started again.
pub fn reaper_restart() {
    counter!(metric::REAPER_RESTARTS.name).increment(1);
}

// ---- Models and conversations --------------------------------------------------------------------------------------

/// A question to a model ended after `elapsed`, retries included.
pub fn llm_operation(provider: &str, model: &str, error_type: Option<&'static str>, elapsed: Duration) {
    histogram!(
        metric::MODEL_DURATION.name,
        "gen_ai_provider_name" => provider.to_owned(),
        "gen_ai_request_model" => model.to_owned(),
        "error_type" => error_type.unwrap_or(""),
    )
    .record(elapsed);
}

/// The first piece of a model's answer came after `elapsed`.
pub fn llm_first_chunk(provider: &str, model: &str, elapsed: Duration) {
    histogram!(
        metric::MODEL_FIRST_CHUNK.name,
        "gen_ai_provider_name" => provider.to_owned(),
        "gen_ai_request_model" => model.to_owned(),
    )
    .record(elapsed);
}

/// A model's answer cost `usage`. The metric of input counts cached tokens too, as `OpenTelemetry` defines it.
pub fn llm_tokens(provider: &str, model: &str, usage: &Usage) {
    let input = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
    for (metric, tokens) in [
        (metric::MODEL_INPUT, input),
        (metric::MODEL_OUTPUT, usage.output),
        (metric::MODEL_CACHE_READ, usage.cache_read),
        (metric::MODEL_CACHE_WRITE, usage.cache_write),
    ] {
        counter!(
            metric.name,
            "gen_ai_provider_name" => provider.to_owned(),
            "gen_ai_request_model" => model.to_owned(),
        )
        .increment(tokens);
    }
}

/// A question to a model is asked again, for `reason`.
pub fn llm_retry(provider: &str, reason: &'static str) {
    counter!(metric::MODEL_RETRIES.name, "provider" => provider.to_owned(), "reason" => reason).increment(1);
}

/// So many conversations are open.
pub fn conversations(active: usize) {
    gauge!(metric::CONVERSATIONS.name).set(number(active));
}

/// A turn ended by `stop` after `rounds` rounds of tool calls.
pub fn turn(stop: &'static str, rounds: u32) {
    counter!(metric::TURNS.name, "stop_reason" => stop).increment(1);
    histogram!(metric::TOOL_ITERATIONS.name).record(rounds);
}

fn label(server: &ServerId) -> String {
    server.as_str().to_owned()
}

fn flag(claim: bool) -> f64 {
    f64::from(u8::from(claim))
}

#[expect(clippy::cast_precision_loss, reason = "counts of things in memory stay far below 2^52")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
