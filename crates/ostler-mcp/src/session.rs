//! One JSON-RPC session over two byte streams: requests with deadlines, answers, cancelling, and the reasons why it ends.
//!
//! It does not know processes: whoever owns one tells the session with [`Shared::lose`] when all is over and why. One task
//! reads (`reader`), one writes (`writer`); what waits for an answer is in `pending`.

mod flow;
mod pending;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{BoxFuture, Inbound, Observer};
use ostler_core::status::Fault;
use ostler_core::{CallError, Incarnation, ServerId};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use self::pending::{Pending, Refusal};
use crate::clock;
use crate::envelope::{self, RequestId};
use crate::error;
use crate::limit::Limits;
use crate::meta::{self, Additions};
use crate::meter::Meter;
use crate::revision::{Feature, Revision};

/// How many messages wait for the writer. Whoever comes later waits with its own deadline.
const OUTBOUND: usize = 64;

/// How many odd lines are kept, to show them to a person.
const NOISE_LINES: usize = 5;

/// How many calls off the server can be waiting beside the queue.
const CANCELS: usize = 1024;

/// All that a session is made of.
pub(crate) struct Parts {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    /// What the server writes.
    pub(crate) output: Box<dyn AsyncRead + Send + Unpin>,
    /// What the server reads.
    pub(crate) input: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) limits: Limits,
}

/// Why the streams are of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server closed its output.
    Output,
    /// The server closed its input.
    Input,
    /// The server took no byte for this long.
    Stalled(Duration),
    /// A stream failed, with this error.
    Broken(String),
    /// A line without end.
    RunAway,
    /// Notifications without end.
    Flood,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) params: Option<&'a RawValue>,
    pub(crate) deadline: Instant,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// The revision that it is written in.
    pub(crate) revision: &'static Revision,
}

/// What the tasks of a session and its owner share.
pub(crate) struct Shared {
    server: ServerId,
    incarnation: Incarnation,
    limits: Limits,
    meter: Arc<dyn Meter>,
    revision: OnceLock<&'static Revision>,
    pending: Mutex<Pending>,
    counter: Mutex<Counter>,
    noise: Mutex<VecDeque<String>>,
    cancels: Cancels,
    /// The lists that a subscription has just been asked for, until it is acknowledged.
    subscribing: Mutex<Vec<Kind>>,
    ended: watch::Sender<Option<Ended>>,
    lost: watch::Sender<Option<Arc<Fault>>>,
}

struct Counter {
    last: u64,
    dice: fastrand::Rng,
}

/// What waits for the writer.
enum Outgoing {
    /// A request; it is not written if nobody waits for it any more.
    Request(RequestId, Vec<u8>),
    /// Anything else.
    Other(Vec<u8>),
}

/// A running session. Dropping it ends both tasks and closes both streams.
pub(crate) struct Session {
    shared: Arc<Shared>,
    outbound: mpsc::Sender<Outgoing>,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Session {
    /// Starts both tasks.
    pub(crate) fn start(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            server: parts.server,
            incarnation: parts.incarnation,
            limits: parts.limits,
            meter: parts.meter,
            revision: OnceLock::new(),
            pending: Mutex::new(Pending::new(parts.limits.pending)),
            counter: Mutex::new(Counter { last: 0, dice: fastrand::Rng::new() }),
            noise: Mutex::new(VecDeque::new()),
            cancels: Cancels::default(),
            subscribing: Mutex::new(Vec::new()),
            ended: watch::Sender::new(None),
            lost: watch::Sender::new(None),
        });
        let (outbound, queue) = mpsc::channel(OUTBOUND);
        let reader = reader::Reader::new(parts.output, Arc::clone(&shared), parts.inbound, &outbound);
        let reader = tokio::spawn(reader.run()).abort_handle();
        let writer = tokio::spawn(writer::run(parts.input, queue, Arc::clone(&shared))).abort_handle();
        Self { shared, outbound, reader, writer }
    }

    /// What is known of the session, for the one who watches it.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sends a request and waits for the answer, until the deadline. Dropping the future cancels it at the server.
    pub(crate) async fn call(&self, ask: Ask<'_>) -> Result<Box<RawValue>, CallError> {
        let started = clock::now();
        let method = ask.method;
        let answer = self.exchange(ask, started).await;
        self.shared.meter.operation(method, clock::now().saturating_duration_since(started));
        answer
    }

    async fn exchange(&self, ask: Ask<'_>, started: Instant) -> Result<Box<RawValue>, CallError> {
        let timed_out = CallError::TimedOut { after: ask.deadline.saturating_duration_since(started) };
        if ask.deadline <= started {
            return Err(timed_out);
        }
        let id = self.shared.next_id();
        let additions = Additions {
            standing: ask.revision.has(Feature::RequestMeta).then_some(meta::MODERN),
            token: ask.observer.is_some().then_some(id),
        };
        let line = envelope::request(id, ask.method, ask.params, &additions)
            .map_err(|_| CallError::Denied { why: "the parameters are not a JSON object".to_owned() })?;
        let answer = self.shared.pending().open(id, ask.observer).map_err(|refusal| match refusal {
            Refusal::Full => CallError::Overloaded { server: self.shared.server.to_string() },
            Refusal::Closed(why) => CallError::ServerLost { why: why.to_string(), may_have_run: false },
        })?;
        // The first request of a legacy session is the one that must not be cancelled.
        let ticket = Ticket { session: self, id, can_be_cancelled: ask.method != "initialize" };
        let exchange = async {
            let is_taken = self.outbound.send(Outgoing::Request(id, line)).await.is_ok();
            // The writer is gone for one of two reasons: a stop, or a death that will be told in a moment.
            if is_taken || !self.shared.pending().is_closed() { answer.await.ok() } else { None }
        };
        let outcome = timeout_at(ask.deadline.into(), exchange).await;
        match outcome {
            Ok(Some(answer)) => {
                std::mem::forget(ticket);
                answer
            }
            Ok(None) => Err(CallError::ServerLost { why: self.shared.why_lost(), may_have_run: ticket.end() }),
            Err(_) => Err(timed_out),
        }
    }

    /// Sends a notification without parameters. It waits for room in the queue until the deadline, not for the write.
    pub(crate) async fn notify(&self, method: &str, deadline: Instant) -> Result<(), CallError> {
        let line = Outgoing::Other(envelope::notification(method, None));
        match timeout_at(deadline.into(), self.outbound.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(CallError::ServerLost { why: self.shared.why_lost(), may_have_run: false }),
            Err(_) => Err(CallError::TimedOut { after: Duration::ZERO }),
        }
    }

    /// Takes no more requests and closes the server's input, even in the middle of a write.
    pub(crate) fn close_input(&self) {
        self.shared.pending().refuse("it is being stopped");
        self.writer.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        self.shared.pending().end("the connection was closed");
    }
}

impl Shared {
    /// Says in which revision the session goes on. Only the first word counts.
    pub(crate) fn settle(&self, revision: &'static Revision) {
        let _ = self.revision.set(revision);
    }

    /// Ends the session: every request that waits fails at once, and [`Shared::lost`] resolves. Only the first fault counts.
    pub(crate) fn lose(&self, fault: Fault) {
        let why = fault.message.clone();
        let is_first = self.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            if is_first {
                *lost = Some(Arc::new(fault));
            }
            is_first
        });
        if is_first {
            self.pending().end(&why);
        }
    }

    /// Waits until the session is lost.
    pub(crate) fn lost(self: &Arc<Self>) -> BoxFuture<'static, Arc<Fault>> {
        let mut lost = self.lost.subscribe();
        let shared = Arc::clone(self);
        Box::pin(async move {
            let fault = lost.wait_for(Option::is_some).await.expect("the sender is in the shared part");
            let fault = fault.clone().expect("it was waited for");
            drop(shared);
            fault
        })
    }

    /// Waits until a stream is of no more use.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        let why = ended.wait_for(Option::is_some).await.expect("the sender is borrowed");
        why.clone().expect("it was waited for")
    }

    /// Says that a stream is of no more use. Only the first reason counts.
    fn end(&self, why: Ended) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(why);
            }
            is_first
        });
    }

    /// Says that a subscription to changes of these lists is about to be sent: once it is acknowledged, each of them
    /// counts as changed, for nobody has told what changed before.
    pub(crate) fn subscribe(&self, kinds: &[Kind]) {
        kinds.clone_into(&mut lock(&self.subscribing));
    }

    /// The first lines on standard output that were no messages, cut and sanitised.
    pub(crate) fn noise(&self) -> Vec<String> {
        lock(&self.noise).iter().cloned().collect()
    }

    /// What the session's counts go to.
    pub(crate) fn meter(&self) -> &dyn Meter {
        &*self.meter
    }

    /// Which server it is.
    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }

    fn keep_noise(&self, line: &str) {
        let mut noise = lock(&self.noise);
        if noise.len() < NOISE_LINES {
            noise.push_back(ostler_telemetry::log::line(line, error::QUOTE));
        }
    }

    fn next_id(&self) -> RequestId {
        let mut counter = lock(&self.counter);
        counter.last += 1;
        RequestId { incarnation: self.incarnation.get(), counter: counter.last, nonce: counter.dice.u32(..) }
    }

    fn why_lost(&self) -> String {
        self.lost.borrow().as_ref().map_or_else(|| "it is being stopped".to_owned(), |fault| fault.message.clone())
    }

    fn is_modern(&self) -> bool {
        self.revision.get().is_some_and(|revision| !revision.has(Feature::ServerRequests))
    }

    fn has(&self, feature: Feature) -> bool {
        self.revision.get().is_some_and(|revision| revision.has(feature))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }
}

/// Requests to be called off at the server, for which the queue had no room: live calls wait in it, and the server may
/// well read again. Whoever comes after [`CANCELS`] others is not told.
#[derive(Default)]
struct Cancels {
    ids: Mutex<VecDeque<RequestId>>,
    is_there: Notify,
}

impl Cancels {
    fn push(&self, id: RequestId) {
        let mut ids = lock(&self.ids);
        if ids.len() < CANCELS {
            ids.push_back(id);
            self.is_there.notify_one();
        }
    }

    /// Waits for the next one. Cancel-safe: one that is not taken is there for the next wait.
    async fn next(&self) -> RequestId {
        loop {
            if let Some(id) = lock(&self.ids).pop_front() {
                return id;
            }
            self.is_there.notified().await;
        }
    }
}

/// Locks; a panic elsewhere leaves nothing half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands for a request that waits. Dropped before the answer, it gives the request up and tells the server.
struct Ticket<'a> {
    session: &'a Session,
    id: RequestId,
    can_be_cancelled: bool,
}

impl Ticket<'_> {
    /// Gives the request up without telling the server. True if the server may have seen it.
    fn end(self) -> bool {
        let may_have_run = self.session.shared.pending().abandon(self.id);
        std::mem::forget(self);
        may_have_run
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let was_written = self.session.shared.pending().abandon(self.id);
        if was_written && self.can_be_cancelled {
            let cancel = Outgoing::Other(envelope::cancelled(self.id));
            if let Err(TrySendError::Full(_)) = self.session.outbound.try_send(cancel) {
                self.session.shared.cancels.push(self.id);
            }
        }
    }
}
