//! Bounded waiting for things that send no event: files, processes, other people's servers.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a state outside this process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `probe` gives a value. Panics with `what` after `limit`.
pub(crate) async fn until<T>(what: impl Debug, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what:?}");
    }
}

/// Runs a scenario that measures a short time, up to three times: a busy machine may spoil a run, not three.
pub(crate) async fn within_three_runs(mut scenario: impl AsyncFnMut() -> Result<(), String>) {
    let mut failures = Vec::new();
    for _ in 0..3 {
        match scenario().await {
            Ok(()) => return,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("missed its bound in three runs: {failures:#?}");
}
