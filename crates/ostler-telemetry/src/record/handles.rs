//! Cached handles for what is recorded on the hot path: one set a tool, a lane, a wire.
//!
//! A handle belongs to the recorder that was installed when it was first used. A series exists once something was
//! recorded in it, not before: a hundred servers with twenty tools each would otherwise be mostly zeros.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use ostler_core::ServerId;

use super::{label, memory, number};
use crate::metric;

/// How a tool call can end, as a label.
pub const OUTCOMES: [&str; 8] =
    ["ok", "tool_error", "error", "timeout", "cancelled", "rejected", "unavailable", "lost"];

static TOOL_DURATIONS: AtomicBool = AtomicBool::new(false);

/// Turns on the histogram of durations by tool, for counters made from now on. Off by default: 15 series a tool.
pub fn enable_tool_durations() {
    TOOL_DURATIONS.store(true, Ordering::Relaxed);
}

/// Counts the calls of one tool.
#[derive(Debug)]
pub struct ToolCounters {
    server: ServerId,
    tool: String,
    outcomes: [OnceLock<Counter>; OUTCOMES.len()],
    duration: Option<OnceLock<Histogram>>,
}

impl ToolCounters {
    /// Counters of `server`'s `tool`, by its own name. From the 201st name of a server on they are shared as `_other`.
    pub fn new(server: &ServerId, tool: &str) -> Self {
        Self {
            server: server.clone(),
            tool: memory::tool_label(server, tool),
            outcomes: Default::default(),
            duration: TOOL_DURATIONS.load(Ordering::Relaxed).then(OnceLock::new),
        }
    }

    /// A call ended as `outcome`, one of [`OUTCOMES`], `elapsed` after its admission.
    pub fn record(&self, outcome: &'static str, elapsed: Duration) {
        let known = OUTCOMES.iter().position(|&known| known == outcome);
        debug_assert!(known.is_some(), "'{outcome}' is not an outcome of a call");
        if let Some(index) = known {
            self.outcomes[index]
                .get_or_init(|| {
                    counter!(
                        metric::TOOL_CALLS.name,
                        "server" => label(&self.server),
                        "tool" => self.tool.clone(),
                        "outcome" => OUTCOMES[index],
                    )
                })
                .increment(1);
        }
        if let Some(duration) = &self.duration {
            duration
                .get_or_init(|| {
                    histogram!(
                        metric::TOOL_CALL_DURATION.name,
                        "server" => label(&self.server),
                        "tool" => self.tool.clone(),
                    )
                })
                .record(elapsed);
        }
    }
}

/// Shows how full the lane of one server is.
#[derive(Debug)]
pub struct LaneGauges {
    server: ServerId,
    in_flight: Gauge,
    waiting: Gauge,
}

impl LaneGauges {
    /// Gauges of `server`, both at zero.
    pub fn new(server: &ServerId) -> Self {
        let gauges = Self {
            server: server.clone(),
            in_flight: gauge!(metric::SERVER_IN_FLIGHT.name, "server" => label(server)),
            waiting: gauge!(metric::QUEUE_WAITING.name, "server" => label(server)),
        };
        gauges.in_flight(0);
        gauges.waiting(0);
        gauges
    }

    /// So many calls are at the server.
    pub fn in_flight(&self, n: usize) {
        self.in_flight.set(number(n));
    }

    /// So many calls wait for a place.
    pub fn waiting(&self, n: usize) {
        self.waiting.set(number(n));
    }

    /// A call was refused, for `reason`.
    pub fn rejected(&self, reason: &'static str) {
        counter!(metric::QUEUE_REJECTED.name, "server" => label(&self.server), "reason" => reason).increment(1);
    }
}

/// Counts what goes over the wire of one server.
#[derive(Debug)]
pub struct WireCounters {
    server: ServerId,
    bytes_in: Counter,
    bytes_out: Counter,
    stderr_lines: Counter,
    dropped: Counter,
    calls: OnceLock<Histogram>,
}

/// The method whose histogram is cached; the others are rare.
const CALL: &str = "tools/call";

impl WireCounters {
    /// Counters of `server`.
    pub fn new(server: &ServerId) -> Self {
        let bytes = |direction: &'static str| counter!(metric::TRANSPORT_BYTES.name, "server" => label(server), "direction" => direction);
        Self {
            server: server.clone(),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            stderr_lines: counter!(metric::STDERR_LINES.name, "server" => label(server)),
            dropped: counter!(metric::DROPPED_NOTIFICATIONS.name, "server" => label(server)),
            calls: OnceLock::new(),
        }
    }

    /// `n` bytes were read from the server.
    pub fn bytes_in(&self, n: u64) {
        self.bytes_in.increment(n);
    }

    /// `n` bytes were written to the server.
    pub fn bytes_out(&self, n: u64) {
        self.bytes_out.increment(n);
    }

    /// A frame of the server broke the protocol, in the way that `kind` names.
    pub fn protocol_error(&self, kind: &'static str) {
        counter!(metric::PROTOCOL_ERRORS.name, "server" => label(&self.server), "kind" => kind).increment(1);
    }

    /// A request of `method` was answered after `elapsed`.
    pub fn operation(&self, method: &'static str, elapsed: Duration) {
        if method == CALL {
            self.calls.get_or_init(|| self.histogram(CALL)).record(elapsed);
        } else {
            self.histogram(method).record(elapsed);
        }
    }

    /// The server wrote `n` more lines to its standard error.
    pub fn stderr_lines(&self, n: u64) {
        self.stderr_lines.increment(n);
    }

    /// A notification of the server was dropped, because its reader was full.
    pub fn dropped_notification(&self) {
        self.dropped.increment(1);
    }

    fn histogram(&self, method: &'static str) -> Histogram {
        histogram!(metric::OPERATION_DURATION.name, "server" => label(&self.server), "mcp_method_name" => method)
    }
}
