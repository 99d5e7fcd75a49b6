//! The requests that wait for an answer, and the graves of those that no longer do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ostler_core::CallError;
use ostler_core::port::Observer;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::envelope::RequestId;

/// How many abandoned requests are remembered, to know a late answer from an invented one.
const GRAVES: usize = 1024;

/// What a request ends with.
pub(crate) type Answer = Result<Box<RawValue>, CallError>;

/// A request that waits.
pub(crate) struct Slot {
    id: RequestId,
    /// Whether its writing has begun: from then on the server may have seen it.
    is_written: bool,
    reply: oneshot::Sender<Answer>,
    observer: Option<Arc<dyn Observer>>,
}

/// Why a request is not taken.
pub(crate) enum Refusal {
    /// Too many wait.
    Full,
    /// The session takes no more, for this reason.
    Closed(Arc<str>),
}

/// Whose an answer is.
pub(crate) enum Claim {
    /// This request's.
    Live(Slot),
    /// Of a request that was given up.
    Late,
    /// Nobody's.
    Unknown,
}

/// All requests of one session.
pub(crate) struct Pending {
    cap: usize,
    slots: HashMap<u64, Slot>,
    graves: VecDeque<RequestId>,
    closed: Option<Arc<str>>,
}

impl Pending {
    /// Room for `cap` requests.
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap, slots: HashMap::new(), graves: VecDeque::new(), closed: None }
    }

    /// Takes a request in. The receiver gets its one answer.
    pub(crate) fn open(
        &mut self,
        id: RequestId,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        if let Some(why) = &self.closed {
            return Err(Refusal::Closed(Arc::clone(why)));
        }
        if self.slots.len() >= self.cap {
            return Err(Refusal::Full);
        }
        let (reply, answer) = oneshot::channel();
        self.slots.insert(id.counter, Slot { id, is_written: false, reply, observer });
        Ok(answer)
    }

    /// Says that the writing of a request begins. False if nobody waits for it any more: then it need not be written.
    pub(crate) fn begin_write(&mut self, id: RequestId) -> bool {
        match self.slots.get_mut(&id.counter) {
            Some(slot) => {
                slot.is_written = true;
                true
            }
            None => false,
        }
    }

    /// Takes out whom an answer belongs to.
    pub(crate) fn claim(&mut self, id: RequestId) -> Claim {
        if self.slots.get(&id.counter).is_some_and(|slot| slot.id == id && slot.is_written) {
            return self.slots.remove(&id.counter).map_or(Claim::Unknown, Claim::Live);
        }
        match self.graves.iter().position(|grave| *grave == id) {
            Some(at) => {
                self.graves.remove(at);
                Claim::Late
            }
            None => Claim::Unknown,
        }
    }

    /// Who observes the request, if somebody does.
    pub(crate) fn observer(&self, id: RequestId) -> Option<Arc<dyn Observer>> {
        self.slots.get(&id.counter).filter(|slot| slot.id == id)?.observer.clone()
    }

    /// Gives a request up. True if the server may have seen it.
    pub(crate) fn abandon(&mut self, id: RequestId) -> bool {
        let was_written = self.slots.remove(&id.counter).is_some_and(|slot| slot.is_written);
        if was_written {
            if self.graves.len() == GRAVES {
                self.graves.pop_front();
            }
            self.graves.push_back(id);
        }
        was_written
    }

    /// Takes no more requests from now on; those that wait go on waiting.
    pub(crate) fn refuse(&mut self, why: &str) {
        self.closed.get_or_insert_with(|| why.into());
    }

    /// Whether no more requests are taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Ends all that wait, and takes no more.
    pub(crate) fn end(&mut self, why: &str) {
        self.closed = Some(why.into());
        for (_, slot) in self.slots.drain() {
            let may_have_run = slot.is_written;
            slot.answer(Err(CallError::ServerLost { why: why.to_owned(), may_have_run }));
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Slot {
    /// Hands the answer over. Nobody may be there to take it any more, which is fine.
    pub(crate) fn answer(self, answer: Answer) {
        drop(self.reply.send(answer));
    }
}
