//! What happens, as data: the events of servers, and the events of one `ask`.

use std::time::UNIX_EPOCH;

use ostler_core::status::{Notice, ServerEvent, What};
use serde::{Deserialize, Serialize};

use super::dto::{AnswerDto, FaultDto, ModelDto, millis};
use super::error::ErrorDto;

/// One entry of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDto {
    /// Its number; absent for a gap.
    pub sequence: Option<u64>,
    /// When, in milliseconds of Unix time; absent for a gap.
    pub at_ms: Option<u64>,
    /// Which server; absent for a gap.
    pub server: Option<String>,
    /// Which incarnation, if one is concerned.
    pub incarnation: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub what: WhatDto,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WhatDto {
    /// The state changed.
    State {
        /// Before.
        from: String,
        /// After.
        to: String,
        /// The fault that caused it.
        fault: Option<FaultDto>,
        /// How long until the next try.
        next_try_in_ms: Option<u64>,
    },
    /// The tools were published.
    Published {
        /// How many can be called.
        tools: usize,
        /// How many were refused.
        refused: usize,
    },
    /// Something that a person should know.
    Notice {
        /// Which notice.
        notice: String,
        /// In words.
        text: String,
    },
    /// The server logged something.
    Log {
        /// MCP's level.
        level: String,
        /// The text.
        text: String,
    },
    /// The reader was too slow.
    Gap {
        /// How many events are missing here.
        missed: u64,
    },
}

impl EventDto {
    /// A gap in the log.
    pub fn gap(missed: u64) -> Self {
        Self { sequence: None, at_ms: None, server: None, incarnation: None, what: WhatDto::Gap { missed } }
    }
}

impl From<&ServerEvent> for EventDto {
    fn from(event: &ServerEvent) -> Self {
        let what = match &event.what {
            What::State { from, to, fault, next_try_in } => WhatDto::State {
                from: from.as_str().to_owned(),
                to: to.as_str().to_owned(),
                fault: fault.as_deref().map(FaultDto::from),
                next_try_in_ms: next_try_in.map(millis),
            },
            What::Published { tools, refused } => WhatDto::Published { tools: *tools, refused: *refused },
            What::Notice(notice) => {
                WhatDto::Notice { notice: notice_code(notice).to_owned(), text: notice.to_string() }
            }
            What::Log { level, text } => WhatDto::Log { level: level.clone(), text: text.clone() },
        };
        Self {
            sequence: Some(event.sequence),
            at_ms: Some(event.at.duration_since(UNIX_EPOCH).map_or(0, millis)),
            server: Some(event.server.to_string()),
            incarnation: event.incarnation.map(ostler_core::Incarnation::get),
            what,
        }
    }
}

fn notice_code(notice: &Notice) -> &'static str {
    match notice {
        Notice::FailingRepeatedly { .. } => "failing_repeatedly",
        Notice::Recovered => "recovered",
        Notice::NeedsAction(_) => "needs_action",
        Notice::Quarantined { .. } => "quarantined",
        Notice::Catalogue(_) => "catalogue",
        Notice::Together(_) => "together",
        Notice::HostProblem => "host_problem",
    }
}

/// What happens while prompts are answered. The last one is `Done`, always; without it the stream broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AskEvent {
    /// A server came up.
    ServerUp {
        /// Which.
        server: String,
        /// Which life.
        incarnation: Option<u64>,
        /// How long the start took, if we saw it begin.
        elapsed_ms: Option<u64>,
        /// How many tools it lists.
        tools: usize,
        /// Its process.
        pid: Option<u32>,
    },
    /// A server is down.
    ServerDown {
        /// Which.
        server: String,
        /// Its state.
        state: String,
        /// Why, in one line.
        why: Option<String>,
        /// What a person can do.
        hint: Option<String>,
        /// When it is tried again.
        next_try_in_ms: Option<u64>,
    },
    /// Something that a person should know of a server.
    Notice {
        /// Which.
        server: String,
        /// In words.
        text: String,
    },
    /// The question goes ahead without these servers: they are still coming up.
    GoingAhead {
        /// Which.
        without: Vec<String>,
    },
    /// Which model answers.
    Model(ModelDto),
    /// A prompt is said.
    Prompt {
        /// Its number, from 1.
        number: usize,
        /// The prompt.
        text: String,
    },
    /// The model is asked.
    Asking {
        /// For which time in this answer, from 1.
        round: u32,
    },
    /// The model speaks; a piece of text.
    Text {
        /// The piece.
        text: String,
    },
    /// The model is asked again after a pause.
    Retrying {
        /// The pause.
        after_ms: u64,
        /// Why.
        why: String,
    },
    /// A tool is called.
    ToolStarted {
        /// The model's id of the call.
        id: String,
        /// The name in the namespace.
        name: String,
        /// The arguments, perhaps cut.
        arguments: String,
    },
    /// A tool call ended.
    ToolEnded {
        /// The model's id of the call.
        id: String,
        /// The name in the namespace.
        name: String,
        /// The server that was asked, if one was.
        server: Option<String>,
        /// Its incarnation.
        incarnation: Option<u64>,
        /// How long it took.
        elapsed_ms: u64,
        /// How it ended: a metric label.
        outcome: String,
        /// What the model reads.
        content: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// A prompt is answered.
    Answer(AnswerDto),
    /// A prompt has no answer; the prompts after it are not said.
    Failed {
        /// Why.
        error: ErrorDto,
    },
    /// Nothing follows.
    Done,
}
