//! The inventory: every metric's name, kind, unit, labels, buckets and help text, in one table.
//!
//! It emits nothing; `record` does, and a test compares the two. Where `OpenTelemetry` has a name for a thing (MCP
//! clients, generative models) that name is kept, dots turned into underscores and the unit appended.

use metrics::Unit;

/// What a metric is and how it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name, as Prometheus sees it: base unit and `_total` included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The unit, if it has one.
    pub unit: Option<Unit>,
    /// The labels, all of them, each always present.
    pub labels: &'static [&'static str],
    /// One sentence for whoever reads the scrape.
    pub help: &'static str,
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Is set.
    Gauge,
    /// Is observed, into buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// Calls: from a millisecond to a minute.
const CALLS: &[f64] = &[0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// Answers of a model, up to its time limit.
const ANSWERS: &[f64] = &[0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0];
/// From a death to being ready again: from 50 ms to ten minutes.
const RECOVERIES: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];
/// Lives of sessions: from a second to a week.
const LIVES: &[f64] = &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0];
/// Rounds of one turn.
const ROUNDS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];

macro_rules! inventory {
    ($($item:ident = $kind:expr, $name:literal, $unit:expr, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $item: Metric =
                Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };
        )+

        /// Every metric that this house can emit.
        pub const ALL: &[Metric] = &[$($item),+];
    };
}

inventory! {
    SERVER_UP = Kind::Gauge, "ostler_server_up", None, ["server"],
        "Whether the server serves calls: 1 if it is ready or degraded, else 0.";
    SERVER_STATE = Kind::Gauge, "ostler_server_state", None, ["server", "state"],
        "The state of the server: 1 for the state that it is in, 0 for every other.";
    SERVER_QUARANTINED = Kind::Gauge, "ostler_server_quarantined", None, ["server"],
        "Whether the server failed so often that it is only tried slowly.";
    SERVER_RESTARTS = Kind::Counter, "ostler_server_restarts_total", None, ["server", "reason"],
        "Starts after the first, by what ended the incarnation before.";
    SERVER_FAILURES = Kind::Gauge, "ostler_server_consecutive_failures", None, ["server"],
        "Failures in a row, cleared by a stable run.";
    SERVER_BACKOFF = Kind::Gauge, "ostler_server_backoff_seconds", Some(Unit::Seconds), ["server"],
        "The delay before the next start, 0 if none is waited for.";
    SERVER_START_TIME = Kind::Gauge, "ostler_server_start_time_seconds", Some(Unit::Seconds), ["server"],
        "When the incarnation became ready, in seconds since 1970; 0 if none lives.";
    SERVER_INFO = Kind::Gauge, "ostler_server_info", None, ["server", "version", "protocol", "transport"],
        "What the live incarnation said of itself; 1 for the current words, 0 for earlier ones.";
    SERVER_TOOLS = Kind::Gauge, "ostler_server_tools", None, ["server"],
        "Tools of the server in the namespace.";
    SERVER_IN_FLIGHT = Kind::Gauge, "ostler_server_in_flight", None, ["server"],
        "Calls that the server is working on.";
    SERVER_RECOVERY = Kind::Histogram(RECOVERIES), "ostler_server_recovery_seconds", Some(Unit::Seconds), [],
        "Time from the death of an incarnation to the next one being ready.";
    STALE_EVENTS = Kind::Counter, "ostler_stale_events_total", None, ["server"],
        "Messages of an earlier incarnation that were dropped.";

    QUEUE_WAITING = Kind::Gauge, "ostler_queue_waiting", None, ["server"],
        "Calls that wait for a place at the server.";
    QUEUE_REJECTED = Kind::Counter, "ostler_queue_rejected_total", None, ["server", "reason"],
        "Calls that were refused before they reached the server.";
    TOOL_CALLS = Kind::Counter, "ostler_tool_calls_total", None, ["server", "tool", "outcome"],
        "Tool calls by how they ended.";
    TOOL_CALL_DURATION = Kind::Histogram(CALLS), "ostler_tool_call_duration_seconds", Some(Unit::Seconds), ["server", "tool"],
        "Time of a tool call from admission to its end. Recorded only where it was asked for.";
    CATALOGUE_GENERATION = Kind::Gauge, "ostler_catalogue_generation", None, [],
        "The number of the published namespace.";
    CATALOGUE_CHANGES = Kind::Counter, "ostler_catalogue_changes_total", None, [],
        "How often a changed namespace was published.";

    SESSION_DURATION = Kind::Histogram(LIVES), "mcp_client_session_duration_seconds", Some(Unit::Seconds), ["network_transport", "error_type"],
        "How long sessions lived, by what ended them.";
    OPERATION_DURATION = Kind::Histogram(CALLS), "mcp_client_operation_duration_seconds", Some(Unit::Seconds), ["server", "mcp_method_name"],
        "Time from sending a request to its answer.";
    TRANSPORT_BYTES = Kind::Counter, "ostler_transport_bytes_total", Some(Unit::Bytes), ["server", "direction"],
        "Bytes read from and written to the server.";
    PROTOCOL_ERRORS = Kind::Counter, "ostler_transport_protocol_errors_total", None, ["server", "kind"],
        "Frames of the server that broke the protocol.";
    STDERR_LINES = Kind::Counter, "ostler_transport_stderr_lines_total", None, ["server"],
        "Lines that the server wrote to its standard error.";
    DROPPED_NOTIFICATIONS = Kind::Counter, "ostler_transport_dropped_notifications_total", None, ["server"],
        "Notifications of the server that nobody had room for.";
    REAPER_UP = Kind::Gauge, "ostler_reaper_up", None, [],
        "Whether the process that owns the children runs.";
    REAPER_RESTARTS = Kind::Counter, "ostler_reaper_restarts_total", None, [],
        "How often the process that owns the children had to be started again.";

    MODEL_DURATION = Kind::Histogram(ANSWERS), "gen_ai_client_operation_duration_seconds", Some(Unit::Seconds), ["gen_ai_provider_name", "gen_ai_request_model", "error_type"],
        "Time of one question to a model, retries included; the error type is empty on success.";
    MODEL_FIRST_CHUNK = Kind::Histogram(ANSWERS), "gen_ai_client_operation_time_to_first_chunk_seconds", Some(Unit::Seconds), ["gen_ai_provider_name", "gen_ai_request_model"],
        "Time from asking a model to the first piece of its answer.";
    MODEL_INPUT = Kind::Counter, "gen_ai_client_inference_usage_input_tokens_total", None, ["gen_ai_provider_name", "gen_ai_request_model"],
        "Tokens that models read, those of the prompt cache included.";
    MODEL_OUTPUT = Kind::Counter, "gen_ai_client_inference_usage_output_tokens_total", None, ["gen_ai_provider_name", "gen_ai_request_model"],
        "Tokens that models wrote.";
    MODEL_CACHE_READ = Kind::Counter, "gen_ai_client_inference_usage_cache_read_input_tokens_total", None, ["gen_ai_provider_name", "gen_ai_request_model"],
        "Tokens that models read from the prompt cache.";
    MODEL_CACHE_WRITE = Kind::Counter, "gen_ai_client_inference_usage_cache_write_input_tokens_total", None, ["gen_ai_provider_name", "gen_ai_request_model"],
        "Tokens that models wrote into the prompt cache.";
    MODEL_RETRIES = Kind::Counter, "ostler_llm_retries_total", None, ["provider", "reason"],
        "Questions to a model that were asked again.";
    CONVERSATIONS = Kind::Gauge, "ostler_conversations_active", None, [],
        "Conversations that are open.";
    TURNS = Kind::Counter, "ostler_turns_total", None, ["stop_reason"],
        "Turns by how they ended.";
    TOOL_ITERATIONS = Kind::Histogram(ROUNDS), "ostler_tool_iterations", None, [],
        "Rounds of tool calls in one turn.";

    CONFIG_RELOADS = Kind::Counter, "ostler_config_reloads_total", None, ["result"],
        "How often the configuration was read again, by whether it was taken.";
    CONFIG_RELOAD_SUCCESS = Kind::Gauge, "ostler_config_reload_success_timestamp_seconds", Some(Unit::Seconds), [],
        "When a configuration was last taken, in seconds since 1970.";
    BUILD_INFO = Kind::Gauge, "ostler_build_info", None, ["version"],
        "The version that runs; always 1.";
}

const HISTOGRAMS: usize = {
    let mut found = 0;
    let mut index = 0;
    while index < ALL.len() {
        if matches!(ALL[index].kind, Kind::Histogram(_)) {
            found += 1;
        }
        index += 1;
    }
    found
};

/// Every histogram with its upper bounds. An exporter that is not told them would render summaries.
pub const BUCKETS: &[(&str, &[f64])] = &{
    let mut table: [(&str, &[f64]); HISTOGRAMS] = [("", &[]); HISTOGRAMS];
    let mut filled = 0;
    let mut index = 0;
    while index < ALL.len() {
        if let Kind::Histogram(bounds) = ALL[index].kind {
            table[filled] = (ALL[index].name, bounds);
            filled += 1;
        }
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_declared_once() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn names_say_kind_and_unit_as_prometheus_wants_it() {
        for metric in ALL {
            let Metric { name, kind, unit, labels, help } = metric;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(*unit == Some(Unit::Seconds), stem.ends_with("_seconds"), "{name}");
            assert_eq!(*unit == Some(Unit::Bytes), stem.ends_with("_bytes"), "{name}");
            assert!(!labels.contains(&"le") && !labels.contains(&"quantile"), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn buckets_hold_every_histogram_with_rising_bounds() {
        let histograms = ALL.iter().filter(|metric| matches!(metric.kind, Kind::Histogram(_)));
        assert!(histograms.map(|metric| metric.name).eq(BUCKETS.iter().map(|(name, _)| *name)));
        for (name, bounds) in BUCKETS {
            assert!(!bounds.is_empty() && bounds.is_sorted_by(|a, b| a < b), "{name}");
        }
    }
}
