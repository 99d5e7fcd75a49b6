//! The inventory and the recording functions say the same: nothing undeclared is emitted, nothing declared is missing.

use std::collections::{BTreeMap, BTreeSet};

use metrics::with_local_recorder;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;

/// A metric's name and labels, and its value: a counter's or gauge's number, a histogram's number of records.
type Scrape = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn scrape(facts: impl FnOnce()) -> Scrape {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    with_local_recorder(&recorder, facts);
    let mut scrape = Scrape::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        let metric = metric::ALL
            .iter()
            .find(|metric| metric.name == key.name())
            .unwrap_or_else(|| panic!("{} is not in the inventory", key.name()));
        let declared = match metric.kind {
            Kind::Counter => MetricKind::Counter,
            Kind::Gauge => MetricKind::Gauge,
            Kind::Histogram(_) => MetricKind::Histogram,
        };
        assert_eq!(kind, declared, "kind of {}", metric.name);
        let labels: BTreeMap<_, _> =
            key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        let expected: BTreeSet<_> = metric.labels.iter().map(ToString::to_string).collect();
        assert_eq!(labels.keys().cloned().collect::<BTreeSet<_>>(), expected, "labels of {}", metric.name);
        #[expect(clippy::cast_precision_loss, reason = "test values are small")]
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(records) => records.len() as f64,
        };
        scrape.insert((metric.name.to_owned(), labels), value);
    }
    scrape
}

fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    scrape.get(&(name.to_owned(), labels)).copied()
}

fn id(text: &str) -> ServerId {
    ServerId::new(text).expect("the test's id is well formed")
}

/// Every recording function, once.
fn everything() {
    let server = id("everything");
    let second = Duration::from_secs(1);
    build("1.2.3");
    config_reload("ok");
    config_taken(1.0);
    state(&server, ServerState::Ready);
    restart(&server, DeathReason::Signal);
    failures(&server, 2);
    backoff(&server, second);
    started(&server, 1.0);
    info(&server, "1", "2025-11-25", "stdio");
    tools(&server, 3);
    recovery(second);
    session("stdio", "", second);
    generation(7);
    stale_event(&server);
    unlisted_call(None, "rejected");
    reaper_up(true);
    reaper_restart();
    llm_operation("anthropic", "m", Some("timeout"), second);
    llm_first_chunk("anthropic", "m", second);
    llm_tokens("anthropic", "m", &Usage { input: 1, output: 2, cache_read: 3, cache_write: 4 });
    llm_retry("anthropic", "429");
    conversations(1);
    turn("end_turn", 2);
    enable_tool_durations();
    let tool = ToolCounters::new(&server, "add");
    for outcome in OUTCOMES {
        tool.record(outcome, second);
    }
    let lane = LaneGauges::new(&server);
    lane.in_flight(1);
    lane.waiting(2);
    lane.rejected("full");
    let wire = WireCounters::new(&server);
    wire.bytes_in(1);
    wire.bytes_out(2);
    wire.protocol_error("garbage");
    wire.operation("tools/call", second);
    wire.operation("initialize", second);
    wire.stderr_lines(1);
    wire.dropped_notification();
    forget(&server);
}

#[test]
fn what_is_emitted_is_declared_and_what_is_declared_is_emitted() {
    let scrape = scrape(everything);
    let emitted: BTreeSet<_> = scrape.keys().map(|(name, _)| name.as_str()).collect();
    let declared: BTreeSet<_> = metric::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(emitted, declared);
}

#[test]
#[should_panic(expected = "labels of ostler_reaper_up")]
fn a_label_that_is_not_declared_is_noticed() {
    scrape(|| gauge!(metric::REAPER_UP.name, "server" => "x").set(1.0));
}

#[test]
fn every_metric_has_its_help_text() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    with_local_recorder(&recorder, || {
        describe();
        everything();
    });
    for (key, unit, help, _) in snapshotter.snapshot().into_vec() {
        let metric = metric::ALL.iter().find(|metric| metric.name == key.key().name()).expect("it is declared");
        assert_eq!(help.as_deref(), Some(metric.help), "{}", metric.name);
        assert_eq!(unit, Some(metric.unit.unwrap_or(metrics::Unit::Count)), "{}", metric.name);
    }
}

#[test]
fn a_server_is_in_one_state_at_a_time() {
    let server = id("one-state");
    let scrape = scrape(|| {
        state(&server, ServerState::Ready);
        started(&server, 5.0);
        state(&server, ServerState::Quarantined);
    });
    for &state in ServerState::ALL {
        let expected = flag(state == ServerState::Quarantined);
        let labels = [("server", "one-state"), ("state", state.as_str())];
        assert_eq!(value(&scrape, "ostler_server_state", &labels), Some(expected), "{state}");
    }
    let labels = [("server", "one-state")];
    assert_eq!(value(&scrape, "ostler_server_up", &labels), Some(0.0));
    assert_eq!(value(&scrape, "ostler_server_quarantined", &labels), Some(1.0));
    assert_eq!(value(&scrape, "ostler_server_start_time_seconds", &labels), Some(0.0));
}

#[test]
fn reloads_are_counted_by_what_came_of_them() {
    let scrape = scrape(|| {
        config_reload("ok");
        config_reload("error");
        config_reload("error");
        config_taken(5.0);
    });
    let reloads = |result| value(&scrape, "ostler_config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("ok"), reloads("error")), (Some(1.0), Some(2.0)));
    assert_eq!(value(&scrape, "ostler_config_reload_success_timestamp_seconds", &[]), Some(5.0));
}

#[test]
fn words_that_changed_go_to_zero() {
    let server = id("words");
    let words =
        |version| [("server", "words"), ("version", version), ("protocol", "2025-06-18"), ("transport", "stdio")];
    let scrape = scrape(|| {
        info(&server, "1", "2025-06-18", "stdio");
        info(&server, "2", "2025-06-18", "stdio");
    });
    assert_eq!(value(&scrape, "ostler_server_info", &words("1")), Some(0.0));
    assert_eq!(value(&scrape, "ostler_server_info", &words("2")), Some(1.0));
}

#[test]
fn a_forgotten_server_leaves_no_gauge_above_zero() {
    let server = id("forgotten");
    let scrape = scrape(|| {
        state(&server, ServerState::Ready);
        failures(&server, 2);
        backoff(&server, Duration::from_secs(9));
        started(&server, 5.0);
        info(&server, "1", "2025-06-18", "stdio");
        tools(&server, 4);
        let lane = LaneGauges::new(&server);
        lane.in_flight(1);
        lane.waiting(1);
        forget(&server);
    });
    for ((name, labels), value) in &scrape {
        assert!(*value == 0.0, "{name} {labels:?} is {value}");
    }
}

#[test]
fn only_outcomes_that_happened_have_series() {
    let server = id("sparse");
    let scrape = scrape(|| {
        let tool = ToolCounters::new(&server, "add");
        tool.record("ok", Duration::ZERO);
        tool.record("ok", Duration::ZERO);
    });
    let series = scrape.keys().filter(|(name, _)| name == "ostler_tool_calls_total").count();
    assert_eq!(series, 1);
    let labels = [("server", "sparse"), ("tool", "add"), ("outcome", "ok")];
    assert_eq!(value(&scrape, "ostler_tool_calls_total", &labels), Some(2.0));
}

#[test]
fn a_server_that_invents_tools_fills_one_series_more_than_the_cap() {
    let server = id("inventor");
    let scrape = scrape(|| {
        for number in 0..1000 {
            ToolCounters::new(&server, &format!("tool{number}")).record("ok", Duration::ZERO);
        }
    });
    let calls = |scrape: &Scrape| scrape.keys().filter(|(name, _)| name == "ostler_tool_calls_total").count();
    assert_eq!(calls(&scrape), memory::TOOLS_BY_NAME + 1);
    let labels = [("server", "inventor"), ("tool", "_other"), ("outcome", "ok")];
    assert_eq!(value(&scrape, "ostler_tool_calls_total", &labels), Some(800.0));
}

#[test]
fn input_counts_cached_tokens_too() {
    let scrape = scrape(|| llm_tokens("p", "m", &Usage { input: 1, output: 2, cache_read: 30, cache_write: 400 }));
    let labels = [("gen_ai_provider_name", "p"), ("gen_ai_request_model", "m")];
    let input = value(&scrape, "gen_ai_client_inference_usage_input_tokens_total", &labels);
    assert_eq!(input, Some(431.0));
}
