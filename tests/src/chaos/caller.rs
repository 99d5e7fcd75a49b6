//! One caller: makes calls with a nonce each until it is told to stop, and keeps what came of every one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::port::{Caller, Dispatch, Outcome, ToolAnswer, ToolCall};
use serde_json::Value;
use serde_json::value::to_raw_value;
use tokio::time::{sleep, timeout};

use super::stable::Stable;

/// A call that has not ended so long after its deadline is lost: nobody will ever hear of it.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// The deadlines that callers bring, in milliseconds.
const DEADLINES: [u64; 4] = [500, 1000, 2000, 5000];

/// The longest that a call asks its server to wait, in milliseconds.
const LONGEST_WAIT: u64 = 1500;

/// What all callers share.
pub(super) struct Traffic {
    stable: Arc<Stable>,
    dispatch: Arc<dyn Dispatch>,
    /// The server that will be hurt next: it gets more calls, so that there is something to lose.
    pub(super) aim: AtomicUsize,
    pub(super) is_over: AtomicBool,
    next_nonce: AtomicU64,
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) nonce: String,
    /// The index of the server.
    pub(super) server: usize,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) deadline: Instant,
    pub(super) end: End,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With the answer that belongs to it.
    Good,
    /// With an answer that belongs to another call, or from another server.
    Misrouted(String),
    /// With an error.
    Failed { code: &'static str, may_have_run: bool },
    /// Not at all.
    Lost,
}

impl Traffic {
    pub(super) fn new(stable: Arc<Stable>, dispatch: Arc<dyn Dispatch>) -> Self {
        Self {
            stable,
            dispatch,
            aim: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            next_nonce: AtomicU64::new(0),
        }
    }

    /// Calls every server once, one after the other.
    pub(super) async fn call_everybody(&self) {
        for member in &self.stable.members {
            let (name, arguments) = member.call("first", None);
            let answer =
                self.dispatch.call(tool_call(name, &arguments, Instant::now() + Duration::from_secs(10))).await;
            drop(answer);
        }
    }

    /// Calls until the traffic is over. The last call ends by its own deadline.
    pub(super) async fn call_on(self: Arc<Self>, mut dice: fastrand::Rng) -> Vec<Record> {
        let mut records = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let record = self.call(&mut dice).await;
            records.push(record);
            sleep(Duration::from_millis(dice.u64(0..200))).await;
        }
        records
    }

    async fn call(&self, dice: &mut fastrand::Rng) -> Record {
        let is_aimed = dice.u8(0..4) == 0;
        let server = if is_aimed { self.aim.load(Ordering::Relaxed) } else { dice.usize(0..self.stable.members.len()) };
        let member = &self.stable.members[server];
        let nonce = format!("n{}", self.next_nonce.fetch_add(1, Ordering::Relaxed));
        let is_slow = is_aimed || dice.u8(0..4) == 0;
        let (name, arguments) = member.call(&nonce, is_slow.then(|| dice.u64(0..LONGEST_WAIT)));
        let patience = Duration::from_millis(DEADLINES[dice.usize(0..DEADLINES.len())]);
        let begun = Instant::now();
        let deadline = begun + patience;
        let call = tool_call(name, &arguments, deadline);
        let answer = timeout(patience + LOST_AFTER, self.dispatch.call(call)).await;
        let ended = Instant::now();
        let end = answer.map_or(End::Lost, |answer| self.judge(server, &nonce, answer));
        Record { nonce, server, begun, ended, deadline, end }
    }

    fn judge(&self, server: usize, nonce: &str, answer: ToolAnswer) -> End {
        let member = &self.stable.members[server];
        if answer.server.as_ref() != Some(&member.id) {
            return End::Misrouted(format!("asked {}, routed to {:?}", member.id, answer.server));
        }
        match answer.result {
            Ok(Outcome::Raw(raw) | Outcome::InputRequired(raw) | Outcome::Task(raw)) => {
                let is_ours =
                    serde_json::from_str(raw.get()).is_ok_and(|result: Value| member.has_answered(&result, nonce));
                if is_ours { End::Good } else { End::Misrouted(format!("{nonce} at {}: {raw}", member.id)) }
            }
            Err(error) => failed(&error),
        }
    }
}

fn tool_call(name: String, arguments: &Value, deadline: Instant) -> ToolCall {
    ToolCall {
        name,
        arguments: to_raw_value(arguments).expect("arguments are JSON"),
        deadline: Some(deadline),
        caller: Caller::Operator,
        observer: None,
    }
}

fn failed(error: &CallError) -> End {
    End::Failed { code: error.code(), may_have_run: error.may_have_run() }
}
