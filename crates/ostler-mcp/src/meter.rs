//! What a session counts. A trait, so that tests read the counts without a metrics recorder.

use std::time::Duration;

use ostler_telemetry::record::WireCounters;

/// Takes the counts of one server's wire.
pub(crate) trait Meter: Send + Sync {
    /// Bytes were read.
    fn bytes_in(&self, count: u64);
    /// Bytes were written.
    fn bytes_out(&self, count: u64);
    /// The server broke the protocol in this way; the kinds are a closed set.
    fn violation(&self, kind: &'static str);
    /// A request ended, after this long.
    fn operation(&self, method: &'static str, elapsed: Duration);
    /// Lines were written to standard error.
    fn stderr_lines(&self, count: u64);
    /// A notification was dropped for coming too fast.
    fn dropped(&self);
}

impl Meter for WireCounters {
    fn bytes_in(&self, count: u64) {
        self.bytes_in(count);
    }

    fn bytes_out(&self, count: u64) {
        self.bytes_out(count);
    }

    fn violation(&self, kind: &'static str) {
        self.protocol_error(kind);
    }

    fn operation(&self, method: &'static str, elapsed: Duration) {
        self.operation(method, elapsed);
    }

    fn stderr_lines(&self, count: u64) {
        self.stderr_lines(count);
    }

    fn dropped(&self) {
        self.dropped_notification();
    }
}
