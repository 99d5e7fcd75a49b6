//! What the reader does with notifications: few are passed on, none is waited for, and those that come too fast are
//! dropped before they are looked into. The news that a list has changed is never lost, only told later.

use std::sync::Arc;

use ostler_core::catalogue::Kind;
use ostler_core::port::Observer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Reader;
use crate::clock;
use crate::envelope::{self, RequestId};
use crate::session::lock;
use crate::session::pending::Claim;

/// The levels of MCP's log messages.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

const CANCELLED: &str = "notifications/cancelled";

impl Reader {
    pub(super) fn take_notification(&mut self, method: &str, params: Option<&RawValue>) {
        let now = clock::now();
        let changes = self.changes(method);
        let is_taken = if method == "notifications/progress"
            && let Some((observer, params)) = params.and_then(|params| Some((self.observer(params)?, params)))
        {
            let is_taken = self.flow.take_progress(now);
            if is_taken {
                observer.progress(params);
            }
            is_taken
        } else {
            self.flow.take(now)
        };
        if !is_taken {
            self.shared.meter.dropped();
        }
        match method {
            // What is called off is there only once, so that even a flood can be heeded.
            CANCELLED => self.take_cancelled(params),
            "notifications/message" if is_taken => self.take_log(params),
            _ if is_taken => {
                for kind in changes {
                    self.inbound.changed(kind);
                }
            }
            _ => self.late_changes.put(changes, now),
        }
    }

    /// Which lists the notification says have changed.
    fn changes(&self, method: &str) -> Vec<Kind> {
        match method {
            "notifications/tools/list_changed" => vec![Kind::Tools],
            "notifications/resources/list_changed" => vec![Kind::Resources],
            "notifications/prompts/list_changed" => vec![Kind::Prompts],
            // They may have changed before the subscription stood, and nobody told.
            "notifications/subscriptions/acknowledged" => std::mem::take(&mut *lock(&self.shared.subscribing)),
            _ => Vec::new(),
        }
    }

    /// Who observes the call that a progress is of.
    fn observer(&self, params: &RawValue) -> Option<Arc<dyn Observer>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Progress<'a> {
            #[serde(borrow)]
            progress_token: &'a RawValue,
        }
        let progress: Progress<'_> = serde_json::from_str(params.get()).ok()?;
        let id = RequestId::of(progress.progress_token)?;
        self.shared.pending().observer(id)
    }

    fn take_log(&self, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Log<'a> {
            #[serde(borrow)]
            level: &'a RawValue,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let Some(log) = params.and_then(|params| serde_json::from_str::<Log<'_>>(params.get()).ok()) else { return };
        match envelope::text(log.level) {
            Some(level) if LEVELS.contains(&&*level) => self.inbound.log(&level, log.data),
            Some(_) | None => self.shared.meter.violation("log_level"),
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
}
