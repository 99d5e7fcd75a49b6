//! One `ask`: waits for the servers, opens a conversation, says the prompts in order, and tells what happens meanwhile.
//!
//! The socket's handler and a one-shot command run this same function.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::backend::{Backend, Events};
use super::dto::AskRequest;
use super::event::{AskEvent, EventDto, WhatDto};
use super::settle::settled;

/// How many past events are told of when the request asks for it.
const REPLAY: usize = 4096;

/// How long a server may be waited for at most, whatever the request says.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Answers the request. The last event is [`AskEvent::Done`]. Dropping the future cancels whatever is going on.
pub async fn ask(backend: Arc<dyn Backend>, request: AskRequest, sink: mpsc::Sender<AskEvent>) {
    let mut watch = Some(Watch::new(backend.events(if request.replay { REPLAY } else { 0 })));
    {
        let talk = talk(&*backend, request, &sink);
        tokio::pin!(talk);
        loop {
            tokio::select! {
                biased;
                event = next(&mut watch, &*backend) => {
                    // A reader who has gone is noticed by the conversation.
                    let _ = sink.send(event).await;
                }
                () = &mut talk => break,
            }
        }
    }
    let _ = sink.send(AskEvent::Done).await;
}

async fn talk(backend: &dyn Backend, request: AskRequest, sink: &mpsc::Sender<AskEvent>) {
    let wait = Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
    let without = settled(backend, None, crate::clock::now() + wait).await;
    if !without.is_empty() && sink.send(AskEvent::GoingAhead { without }).await.is_err() {
        return;
    }
    if sink.send(AskEvent::Model(backend.model())).await.is_err() {
        return;
    }
    let mut conversation = match backend.converse().await {
        Ok(conversation) => conversation,
        Err(error) => {
            let _ = sink.send(AskEvent::Failed { error }).await;
            return;
        }
    };
    for (index, text) in request.prompts.into_iter().enumerate() {
        if sink.send(AskEvent::Prompt { number: index + 1, text: text.clone() }).await.is_err() {
            return;
        }
        let (event, failed) = match conversation.say(text, sink.clone()).await {
            Ok(answer) => (AskEvent::Answer(answer), false),
            Err(error) => (AskEvent::Failed { error }, true),
        };
        if sink.send(event).await.is_err() || failed {
            return;
        }
    }
}

/// The next event of a server that a person wants to see. Never ends; a log that ended is silence.
async fn next(watch: &mut Option<Watch>, backend: &dyn Backend) -> AskEvent {
    while let Some(watching) = watch {
        let Some(event) = watching.events.next().await else {
            *watch = None;
            break;
        };
        if let Some(event) = watching.translate(event, backend) {
            return event;
        }
    }
    pending().await
}

/// Turns the event log into what is worth a line.
struct Watch {
    events: Box<dyn Events>,
    /// When each server's current start began, by the events' own clock.
    started: HashMap<String, u64>,
}

impl Watch {
    fn new(events: Box<dyn Events>) -> Self {
        Self { events, started: HashMap::new() }
    }

    fn translate(&mut self, event: EventDto, backend: &dyn Backend) -> Option<AskEvent> {
        let server = event.server?;
        match event.what {
            WhatDto::State { to, .. } if to == "starting" => {
                self.started.insert(server, event.at_ms?);
                None
            }
            // Coming back from `degraded` is no start: nothing was said of it, so nothing is unsaid.
            WhatDto::State { from, to, .. } if to == "ready" && from != "degraded" => {
                let began = self.started.remove(&server);
                let now = backend.servers().into_iter().find(|known| known.server == server);
                Some(AskEvent::ServerUp {
                    incarnation: event.incarnation,
                    elapsed_ms: began.zip(event.at_ms).map(|(began, at)| at.saturating_sub(began)),
                    tools: now.as_ref().map_or(0, |now| now.tools),
                    pid: now.and_then(|now| now.pid),
                    server,
                })
            }
            WhatDto::State { to, fault, next_try_in_ms, .. }
                if matches!(to.as_str(), "backoff" | "quarantined" | "needs_action") =>
            {
                let (why, hint) = fault.map_or((None, None), |fault| (Some(fault.message), fault.hint));
                Some(AskEvent::ServerDown { server, state: to, why, hint, next_try_in_ms })
            }
            WhatDto::Notice { text, .. } => Some(AskEvent::Notice { server, text }),
            WhatDto::State { .. } | WhatDto::Published { .. } | WhatDto::Log { .. } | WhatDto::Gap { .. } => None,
        }
    }
}
