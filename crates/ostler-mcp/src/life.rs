//! One incarnation: a session, the process behind it, and the guard that says when and why both are over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::status::{Exit, Fault};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{self, Phase, Words};
use crate::revision::Revision;
use crate::session::{Ask, Ended, Parts, Session, Shared};
use crate::transport::Process;

/// How long one sign of death waits for the other: an exit for the last answers, a closed pipe for the exit status.
const SECOND_SIGN: Duration = Duration::from_millis(50);

/// How much longer than its grace a stop may take.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// A living or dead incarnation. Dropping it kills the process.
pub(crate) struct Life {
    session: Session,
    body: Arc<Body>,
    guard: AbortHandle,
}

/// What the guard knows, too.
struct Body {
    process: Arc<dyn Process>,
    phase: AtomicU8,
    /// How many lines of standard error are counted already.
    counted: AtomicU64,
}

impl Life {
    /// Starts a session over the parts, and watches the process.
    pub(crate) fn start(parts: Parts, process: Arc<dyn Process>) -> Self {
        let session = Session::start(parts);
        let phase = AtomicU8::new(code(Phase::Starting));
        let body = Arc::new(Body { process, phase, counted: AtomicU64::new(0) });
        let guard = tokio::spawn(guard(Arc::clone(session.shared()), Arc::clone(&body))).abort_handle();
        Self { session, body, guard }
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The process.
    pub(crate) fn process(&self) -> &dyn Process {
        &*self.body.process
    }

    /// Says that the start is over.
    pub(crate) fn is_up(&self) {
        self.body.phase.store(code(Phase::Serving), Ordering::Relaxed);
        self.count_stderr();
    }

    /// Counts what was written to standard error since the last time.
    pub(crate) fn count_stderr(&self) {
        self.body.count_stderr(self.session.shared());
    }

    /// Sends a request of our own; `params` is a JSON object.
    pub(crate) async fn ask(
        &self,
        method: &'static str,
        params: Option<String>,
        revision: &'static Revision,
        deadline: Instant,
    ) -> Result<Box<RawValue>, CallError> {
        let params = params.map(|text| RawValue::from_string(text).expect("parameters of ours are JSON"));
        self.session.call(Ask { method, params: params.as_deref(), deadline, observer: None, revision }).await
    }

    /// Waits for the end, and says why.
    pub(crate) async fn fault(&self) -> Fault {
        (*self.session.shared().lost().await).clone()
    }

    /// What it said that was no message.
    pub(crate) fn words(&self) -> Words {
        self.body.words(self.session.shared())
    }

    /// Kills it and waits until nothing is left, at most for `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        self.body.process.kill();
        if timeout(limit, self.body.process.released()).await.is_err() {
            tracing::warn!(server.id = %self.session.shared().server(), "a killed process is still there");
        }
    }

    /// Closes its input and climbs the ladder. Resolves when nothing is left, or soon after the grace.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.body.phase.store(code(Phase::Stopping), Ordering::Relaxed);
        self.session.close_input();
        if timeout(grace + STOP_SLACK, self.body.process.stop(grace)).await.is_err() {
            self.body.process.kill();
            tracing::warn!(server.id = %self.session.shared().server(), "a stopped process is still there");
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.guard.abort();
        self.body.process.kill();
    }
}

/// Waits for the first sign of death, shortly for the second, and ends the session with a fault that knows both.
async fn guard(shared: Arc<Shared>, body: Arc<Body>) {
    let process = &body.process;
    let (exit, ended): (Option<Exit>, Option<Ended>) = tokio::select! {
        biased;
        exit = process.exited() => (Some(exit), timeout(SECOND_SIGN, shared.ended()).await.ok()),
        ended = shared.ended() => {
            let exit = match ended {
                Ended::Output | Ended::Input | Ended::Broken(_) => timeout(SECOND_SIGN, process.exited()).await.ok(),
                Ended::Stalled(_) | Ended::RunAway | Ended::Flood => None,
            };
            (exit, Some(ended))
        }
    };
    let phase = decode(body.phase.load(Ordering::Relaxed));
    let fault = error::death(phase, exit, ended.as_ref(), body.words(&shared));
    body.count_stderr(&shared);
    shared.lose(fault);
}

impl Body {
    fn words(&self, shared: &Shared) -> Words {
        Words { stderr_tail: self.process.stderr_tail(), noise: shared.noise(), beyond: self.process.beyond() }
    }

    fn count_stderr(&self, shared: &Shared) {
        let lines = self.process.stderr_lines();
        let before = self.counted.fetch_max(lines, Ordering::Relaxed);
        if lines > before {
            shared.meter().stderr_lines(lines - before);
        }
    }
}

fn code(phase: Phase) -> u8 {
    match phase {
        Phase::Starting => 0,
        Phase::Serving => 1,
        Phase::Stopping => 2,
    }
}

fn decode(code: u8) -> Phase {
    match code {
        0 => Phase::Starting,
        1 => Phase::Serving,
        _ => Phase::Stopping,
    }
}
