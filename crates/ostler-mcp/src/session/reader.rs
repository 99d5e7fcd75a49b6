//! Reads what the server writes, in order, in one task. Nothing here waits for anybody: an answer is handed over, a
//! notification is passed on or dropped (`notification`), a request of the server gets a task of its own, of which there
//! are few. Only a flood is made to wait: see `flow`.

mod notification;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{Inbound, Reply, ServerRequest};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::flow::{self, Flow, Pressure};
use super::pending::{Answer, Claim};
use super::{Ended, Outgoing, Shared};
use crate::clock;
use crate::envelope::{self, Malformed, Message, RequestId};
use crate::frame::{Decoder, Flaw, Frame};
use crate::revision::Feature;

/// How many requests of the server are answered at once.
const REQUESTS: usize = 8;

/// How long one of them may take: a person may have to be asked.
const REQUEST_PATIENCE: Duration = Duration::from_secs(600);

/// The longest id of a request that is answered, and the longest method, in bytes: both stand in the answer.
const NAME_BYTES: usize = 256;

/// How many members of a batch are read.
const BATCH: usize = 64;

/// How much of a broken line is looked at to show it to a person.
const GLANCE: usize = 512;

/// How soon a change that came too fast is told. It waits for no token: a flood would never leave one.
const LATER: Duration = Duration::from_millis(50);

/// How long one line may go on that is longer than the cap already.
const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// The reading side of a session.
pub(super) struct Reader {
    output: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
    shared: Arc<Shared>,
    inbound: Arc<dyn Inbound>,
    outbound: mpsc::WeakSender<Outgoing>,
    flow: Flow,
    late_changes: LateChanges,
    /// The line that is being skipped, by its number, and since when.
    skipping: Option<(u64, Instant)>,
    requests: JoinSet<()>,
    asked: Vec<(Box<RawValue>, AbortHandle)>,
}

/// Changes that came too fast. They are told a little later, each once: the last one must not get lost.
#[derive(Default)]
struct LateChanges {
    kinds: Vec<Kind>,
    due: Option<Instant>,
}

impl LateChanges {
    fn put(&mut self, kinds: Vec<Kind>, now: Instant) {
        for kind in kinds {
            if !self.kinds.contains(&kind) {
                self.kinds.push(kind);
            }
            self.due.get_or_insert(now + LATER);
        }
    }

    /// Takes all out, if it is time.
    fn take(&mut self, now: Instant) -> Vec<Kind> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.kinds)
    }
}

impl Reader {
    /// A reader of `output`. It holds the queue weakly, so that it never keeps the server's input open.
    pub(super) fn new(
        output: Box<dyn AsyncRead + Send + Unpin>,
        shared: Arc<Shared>,
        inbound: Arc<dyn Inbound>,
        outbound: &mpsc::Sender<Outgoing>,
    ) -> Self {
        Self {
            output,
            decoder: Decoder::new(shared.limits.frame_cap()),
            shared,
            inbound,
            outbound: outbound.downgrade(),
            flow: Flow::new(clock::now()),
            late_changes: LateChanges::default(),
            skipping: None,
            requests: JoinSet::new(),
            asked: Vec::new(),
        }
    }

    /// Reads until the stream ends.
    pub(super) async fn run(mut self) {
        let why = self.read().await;
        tracing::debug!(server.id = %self.shared.server, error = ?why, "the server's output ended");
        self.shared.end(why);
    }

    async fn read(&mut self) -> Ended {
        loop {
            let wake_at = self.wake_at();
            let space = self.decoder.space();
            let read = tokio::select! {
                biased;
                read = self.output.read_buf(space) => Some(read),
                () = sleep_until(wake_at.unwrap_or_else(clock::now).into()), if wake_at.is_some() => None,
            };
            match read {
                Some(Ok(0)) => return Ended::Output,
                Some(Ok(count)) => {
                    self.shared.meter.bytes_in(count as u64);
                    self.inbound.activity();
                    self.take_frames();
                }
                Some(Err(error)) => return Ended::Broken(error.to_string()),
                None => {}
            }
            let now = clock::now();
            if self.decoder.has_run_away() || self.goes_on_too_long(now) {
                self.shared.meter.violation("run_away");
                return Ended::RunAway;
            }
            for kind in self.late_changes.take(now) {
                self.inbound.changed(kind);
            }
            match self.flow.pressure() {
                Pressure::Free => {}
                Pressure::Rest => sleep(flow::SLICE).await,
                Pressure::End => {
                    self.shared.meter.violation("flood");
                    return Ended::Flood;
                }
            }
            self.decoder.widen();
            // A flood must not keep the others of this thread waiting.
            tokio::task::consume_budget().await;
        }
    }

    /// When there is something to do even if nothing comes.
    fn wake_at(&self) -> Option<Instant> {
        let line = self.skipping.map(|(_, since)| since + LINE_PATIENCE);
        self.late_changes.due.into_iter().chain(line).min()
    }

    /// Whether one line has been skipped for too long and is still without its end.
    fn goes_on_too_long(&mut self, now: Instant) -> bool {
        self.skipping = match (self.decoder.skipping(), self.skipping) {
            (None, _) => None,
            (Some(line), Some((before, since))) if line == before => Some((line, since)),
            (Some(line), _) => Some((line, now)),
        };
        self.skipping.is_some_and(|(_, since)| now >= since + LINE_PATIENCE)
    }

    fn take_frames(&mut self) {
        // The decoder is lent out, so that its frames can be read while the rest of the reader acts on them.
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::new(0));
        while let Some(frame) = decoder.next_frame() {
            match frame {
                Frame::Line(line) => self.take_line(line),
                Frame::Broken { flaw, head, tail } => self.take_broken(flaw, head, tail),
            }
        }
        self.decoder = decoder;
    }

    fn take_line(&mut self, line: &str) {
        if line.starts_with('[') {
            self.take_batch(line);
        } else {
            self.take_message(line);
        }
    }

    /// Takes the first members of a batch one by one. Only one revision lets a server send batches; in the others it is
    /// a violation, but no reason to let a call wait for an answer that is there.
    fn take_batch(&mut self, line: &str) {
        let Some((members, has_more)) = envelope::batch(line, BATCH) else {
            self.shared.meter.violation(Malformed::NotJson.kind());
            self.shared.keep_noise(line);
            return;
        };
        if has_more {
            self.shared.meter.violation("batch_too_long");
        }
        if members.is_empty() || !self.shared.has(Feature::Batches) {
            self.shared.meter.violation(Malformed::Batch.kind());
        }
        for member in members {
            self.take_message(member.get());
        }
    }

    fn take_message(&mut self, line: &str) {
        match envelope::parse(line) {
            Ok(Message::Response { id, answer }) => match id {
                Some(id) => self.take_answer(id, answer.map(ToOwned::to_owned)),
                None => self.shared.meter.violation("unknown_id"),
            },
            Ok(Message::Notification { method, params }) => self.take_notification(&method, params),
            Ok(Message::Request { id, method, params }) => self.take_request(id, &method, params),
            Err(malformed) => {
                self.shared.meter.violation(malformed.kind());
                match envelope::salvage(line.as_bytes()) {
                    Some(id) => self.take_answer(id, Err(envelope::protocol("its answer is not a JSON-RPC message"))),
                    None => self.shared.keep_noise(line),
                }
            }
        }
    }

    fn take_broken(&mut self, flaw: Flaw, head: &[u8], tail: &[u8]) {
        self.shared.meter.violation(flaw.kind());
        let why = match flaw {
            Flaw::Oversize => {
                format!("its answer is larger than {} bytes (response_too_large)", self.shared.limits.frame_cap())
            }
            Flaw::Utf8 => "its answer is not UTF-8".to_owned(),
            Flaw::Depth => format!("its answer nests deeper than {} levels", crate::frame::MAX_DEPTH),
        };
        match envelope::salvage(head).or_else(|| envelope::salvage_end(tail)) {
            Some(id) => self.take_answer(id, Err(envelope::protocol(why))),
            None => self.shared.keep_noise(&String::from_utf8_lossy(&head[..head.len().min(GLANCE)])),
        }
    }

    fn take_answer(&mut self, id: RequestId, answer: Answer) {
        let claim = self.shared.pending().claim(id);
        match claim {
            Claim::Live(slot) => slot.answer(answer),
            Claim::Late => tracing::trace!(server.id = %self.shared.server, "an answer came too late"),
            Claim::Unknown => self.shared.meter.violation("unknown_id"),
        }
    }

    fn take_request(&mut self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        if id.get().len() > NAME_BYTES {
            self.shared.meter.violation("id_too_long");
            return;
        }
        if self.shared.is_modern() {
            // This revision forbids the request, and forbids us to answer it.
            self.shared.meter.violation("server_request");
            return;
        }
        if method.len() > NAME_BYTES {
            self.shared.meter.violation("method_too_long");
            self.reply(envelope::error(id, -32601, "no such method"));
            return;
        }
        if method == "ping" {
            self.reply(envelope::result(id, "{}"));
            return;
        }
        while self.requests.try_join_next().is_some() {}
        self.asked.retain(|(_, task)| !task.is_finished());
        if self.requests.len() >= REQUESTS {
            self.shared.meter.violation("too_many_requests");
            self.reply(envelope::error(id, -32000, "busy: too many requests at once"));
            return;
        }
        let Some(outbound) = self.outbound.upgrade() else { return };
        let answer =
            self.inbound.request(ServerRequest { method: method.to_owned(), params: params.map(ToOwned::to_owned) });
        let id = id.to_owned();
        let asked = id.clone();
        let stall = self.shared.limits.write_stall;
        // The queue is held weakly while the answer is made: a stop must not wait for it.
        let outbound = outbound.downgrade();
        let task = self.requests.spawn(async move {
            let line = match timeout(REQUEST_PATIENCE, answer).await {
                Ok(Reply::Result(result)) => envelope::result(&id, result.get()),
                Ok(Reply::Error { code, message }) => envelope::error(&id, code, &message),
                Err(_) => envelope::error(&id, -32000, "no answer in time"),
            };
            if let Some(outbound) = outbound.upgrade() {
                drop(timeout(stall, outbound.send(Outgoing::Other(line))).await);
            }
        });
        self.asked.push((asked, task));
    }

    /// Queues a reply if there is room. If not, the server reads nothing, and the writer will end it for that.
    fn reply(&self, line: Vec<u8>) {
        if let Some(outbound) = self.outbound.upgrade() {
            drop(outbound.try_send(Outgoing::Other(line)));
        }
    }
}
