//! Reads what the server writes, in order, in one task. Nothing here waits for anybody: an answer is handed over, a
//! notification is passed on or dropped, a request of the server gets a task of its own, of which there are few.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::catalogue::Kind;
use ostler_core::port::{Inbound, Reply, ServerRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::flow::Bucket;
use super::pending::{Answer, Claim};
use super::{Ended, Outgoing, Shared};
use crate::clock;
use crate::envelope::{self, Malformed, Message, RequestId};
use crate::frame::{Decoder, Flaw, Frame};

/// How many requests of the server are answered at once.
const REQUESTS: usize = 8;

/// How long one of them may take: a person may have to be asked.
const REQUEST_PATIENCE: Duration = Duration::from_secs(600);

/// How soon a change that came too fast is looked at again.
const LATER: Duration = Duration::from_millis(50);

/// The reading side of a session.
pub(super) struct Reader {
    output: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
    shared: Arc<Shared>,
    inbound: Arc<dyn Inbound>,
    outbound: mpsc::WeakSender<Outgoing>,
    logs: Bucket,
    changes: Bucket,
    /// Changes that came too fast. They are told once there is room: the last one must not get lost.
    late_changes: Vec<Kind>,
    requests: JoinSet<()>,
    asked: Vec<(Box<RawValue>, AbortHandle)>,
}

impl Reader {
    /// A reader of `output`. It holds the queue weakly, so that it never keeps the server's input open.
    pub(super) fn new(
        output: Box<dyn AsyncRead + Send + Unpin>,
        shared: Arc<Shared>,
        inbound: Arc<dyn Inbound>,
        outbound: &mpsc::Sender<Outgoing>,
    ) -> Self {
        let now = clock::now();
        Self {
            output,
            decoder: Decoder::new(shared.limits.frame_cap()),
            shared,
            inbound,
            outbound: outbound.downgrade(),
            logs: Bucket::full(now),
            changes: Bucket::full(now),
            late_changes: Vec::new(),
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
            let space = self.decoder.space();
            let read = tokio::select! {
                biased;
                read = self.output.read_buf(space) => read,
                () = sleep(LATER), if !self.late_changes.is_empty() => {
                    self.tell_late_changes();
                    continue;
                }
            };
            match read {
                Ok(0) => return Ended::Output,
                Ok(count) => self.shared.meter.bytes_in(count as u64),
                Err(error) => return Ended::Broken(error.to_string()),
            }
            self.inbound.activity();
            self.take_frames();
            if self.decoder.has_run_away() {
                self.shared.meter.violation("run_away");
                return Ended::RunAway;
            }
            self.tell_late_changes();
            self.decoder.widen();
            // A flood must not keep the others of this thread waiting.
            tokio::task::consume_budget().await;
        }
    }

    fn take_frames(&mut self) {
        // The decoder is lent out, so that its frames can be read while the rest of the reader acts on them.
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::new(0));
        while let Some(frame) = decoder.next_frame() {
            match frame {
                Frame::Line(line) => self.take_line(line),
                Frame::Broken { flaw, head } => self.take_broken(flaw, head),
            }
        }
        self.decoder = decoder;
    }

    fn take_line(&mut self, line: &str) {
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
                    None if malformed != Malformed::Batch => self.shared.keep_noise(line),
                    None => {}
                }
            }
        }
    }

    fn take_broken(&mut self, flaw: Flaw, head: &[u8]) {
        self.shared.meter.violation(flaw.kind());
        let why = match flaw {
            Flaw::Oversize => {
                format!("its answer is larger than {} bytes (response_too_large)", self.shared.limits.frame_cap())
            }
            Flaw::Utf8 => "its answer is not UTF-8".to_owned(),
            Flaw::Depth => format!("its answer nests deeper than {} levels", crate::frame::MAX_DEPTH),
        };
        match envelope::salvage(head) {
            Some(id) => self.take_answer(id, Err(envelope::protocol(why))),
            None => self.shared.keep_noise(&String::from_utf8_lossy(head)),
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

    fn take_notification(&mut self, method: &str, params: Option<&RawValue>) {
        match method {
            "notifications/progress" => self.take_progress(params),
            "notifications/message" => self.take_log(params),
            "notifications/tools/list_changed" => self.take_change(Kind::Tools),
            "notifications/resources/list_changed" => self.take_change(Kind::Resources),
            "notifications/prompts/list_changed" => self.take_change(Kind::Prompts),
            "notifications/cancelled" => self.take_cancelled(params),
            _ => tracing::trace!(server.id = %self.shared.server, "a notification that we do not know"),
        }
    }

    fn take_progress(&mut self, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Progress<'a> {
            #[serde(borrow)]
            progress_token: &'a RawValue,
        }
        let Some(params) = params else { return };
        let token = serde_json::from_str::<Progress<'_>>(params.get()).ok().map(|progress| progress.progress_token);
        let Some(id) = token.and_then(RequestId::of) else { return };
        let observer = self.shared.pending().observer(id);
        if let Some(observer) = observer {
            observer.progress(params);
        }
    }

    fn take_log(&mut self, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Log<'a> {
            level: String,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        if !self.logs.take(clock::now()) {
            self.shared.meter.dropped();
            return;
        }
        if let Some(log) = params.and_then(|params| serde_json::from_str::<Log<'_>>(params.get()).ok()) {
            self.inbound.log(&log.level, log.data);
        }
    }

    fn take_change(&mut self, kind: Kind) {
        if self.changes.take(clock::now()) {
            self.inbound.changed(kind);
            return;
        }
        self.shared.meter.dropped();
        if !self.late_changes.contains(&kind) {
            self.late_changes.push(kind);
        }
    }

    fn tell_late_changes(&mut self) {
        while let Some(kind) = self.late_changes.last() {
            if !self.changes.take(clock::now()) {
                return;
            }
            self.inbound.changed(*kind);
            self.late_changes.pop();
        }
    }

    /// The server takes back a request of its own, or ends one of ours that has no other end.
    fn take_cancelled(&mut self, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cancelled<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        let Some(params) = params else { return };
        let Ok(Cancelled { request_id }) = serde_json::from_str(params.get()) else { return };
        if let Some((_, task)) = self.asked.iter().find(|(id, _)| id.get() == request_id.get()) {
            task.abort();
        } else if let Some(id) = RequestId::of(request_id) {
            let claim = self.shared.pending().claim(id);
            if let Claim::Live(slot) = claim {
                slot.answer(Err(envelope::protocol("the server cancelled the request")));
            }
        }
    }

    fn take_request(&mut self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        if self.shared.is_modern() {
            // This revision forbids the request, and forbids us to answer it.
            self.shared.meter.violation("server_request");
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
