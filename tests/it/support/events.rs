//! The daemon's event stream, kept as it comes: what happened, and when by the daemon's own clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client;
use serde_json::Value;

use super::wait;

const LIMIT: Duration = Duration::from_secs(20);

/// All events since the stream was joined.
pub(crate) struct Events {
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Events {
    /// Joins the stream; from here on nothing is missed.
    pub(crate) async fn follow(socket: Client) -> Self {
        let mut stream = socket.get("http://localhost/v1/events").send().await.expect("the daemon tells events");
        assert!(stream.status().is_success(), "{}", stream.status());
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Ok(Some(chunk)) = stream.chunk().await {
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if let Ok(event) = serde_json::from_slice(&line) {
                        kept.lock().expect("no holder panics").push(event);
                    }
                }
            }
        });
        Self { seen }
    }

    /// Those so far that fulfil `claim`.
    pub(crate) fn seen(&self, claim: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.seen.lock().expect("no holder panics").iter().filter(|event| claim(event)).cloned().collect()
    }

    /// Waits for number `index`, from 0, of those that fulfil `claim`.
    pub(crate) async fn nth(&self, index: usize, claim: impl Fn(&Value) -> bool) -> Value {
        wait::until("an event", LIMIT, async || self.seen(&claim).into_iter().nth(index)).await
    }
}

/// Whether `event` says that `server` went from one state to another.
pub(crate) fn is_change(event: &Value, server: &str, from: &[&str], to: &[&str]) -> bool {
    let among = |key: &str, states: &[&str]| event[key].as_str().is_some_and(|state| states.contains(&state));
    event["kind"] == "state" && event["server"] == server && among("from", from) && among("to", to)
}

/// Now, in the form of an event's `at_ms`.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(now.as_millis()).expect("milliseconds fit")
}
