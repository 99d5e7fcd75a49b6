//! One question and everything that must happen until it is answered, as a pure machine.
//!
//! It is told what happened and says what to do next. It reads no clock, waits for nothing and touches no tool; the
//! conversation actor does. Its promises: every tool call of the dialogue it builds has exactly one result, the model
//! is asked at most `max_rounds` times, the turn finishes once, and what comes late or twice changes nothing.

use std::collections::HashSet;

use ostler_core::dialogue::{Block, Message, Role, StopReason, ToolResult, ToolUse, Usage};
use ostler_core::port::{ModelError, ModelReply};

use crate::error::TurnError;

/// How many tool calls of one reply are executed; the ones above it are answered with an error.
pub const MAX_CALLS_PER_ROUND: usize = 128;

/// The answer's `stop` when the rounds were used up.
pub const STOP_ROUNDS: &str = "rounds";

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The model's last words. Never empty: where the model said nothing, why it did not.
    pub text: String,
    /// Why it ended: a label of [`StopReason`], or [`STOP_ROUNDS`].
    pub stop: &'static str,
    /// How often the model was asked.
    pub rounds: u32,
    /// What all rounds cost together.
    pub usage: Usage,
}

/// Which call of a turn: the round, counted from 1, and the place in that round's reply, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// The round whose reply asked for it.
    pub round: u32,
    /// Its place among the calls of that reply.
    pub index: usize,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The user asks. Starts the turn.
    Say(String),
    /// The model answered, or failed to.
    Model {
        /// The round it was asked in.
        round: u32,
        /// Its answer.
        result: Result<ModelReply, ModelError>,
    },
    /// A tool call ended.
    Tool {
        /// Which.
        call: CallKey,
        /// The text for the model.
        content: String,
        /// Whether the call or the tool failed.
        is_error: bool,
    },
    /// Nobody wants the answer any more.
    Cancel,
}

/// What to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Add a message to the dialogue.
    Append(Message),
    /// Ask the model with the dialogue as it is now.
    AskModel {
        /// The round, counted from 1.
        round: u32,
    },
    /// Make these calls, all at once.
    CallTools(Vec<(CallKey, ToolUse)>),
    /// The turn is over.
    Finish(Result<Answer, TurnError>),
}

/// The machine.
#[derive(Debug)]
pub struct Turn {
    max_rounds: u32,
    round: u32,
    phase: Phase,
    /// What the model said before it paused: the beginning of its answer.
    carried: String,
    usage: Usage,
}

#[derive(Debug)]
enum Phase {
    New,
    Asking,
    Calling(Vec<Slot>),
    Done,
}

/// One tool call and, once it is in, its result.
#[derive(Debug)]
struct Slot {
    tool_use_id: String,
    /// The text for the model, and whether it is an error.
    result: Option<(String, bool)>,
}

impl Turn {
    /// A turn that asks the model at most `max_rounds` times, and once at least.
    pub fn new(max_rounds: u32) -> Self {
        Self {
            max_rounds: max_rounds.max(1),
            round: 0,
            phase: Phase::New,
            carried: String::new(),
            usage: Usage::default(),
        }
    }

    /// How often the model was asked so far.
    pub fn rounds(&self) -> u32 {
        self.round
    }

    /// Takes in what happened and says what to do.
    pub fn on(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Say(text) => self.say(text),
            Input::Model { round, result } => self.model(round, result),
            Input::Tool { call, content, is_error } => self.tool(call, content, is_error),
            Input::Cancel => self.cancel(),
        }
    }

    fn say(&mut self, text: String) -> Vec<Effect> {
        if !matches!(self.phase, Phase::New) {
            return Vec::new();
        }
        let mut effects = vec![Effect::Append(Message::user(text))];
        effects.push(self.next_round());
        effects
    }

    fn model(&mut self, round: u32, result: Result<ModelReply, ModelError>) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Asking) || round != self.round {
            return Vec::new();
        }
        match result {
            Ok(reply) => self.replied(reply),
            Err(error) => vec![self.finish(Err(TurnError::Model(error)))],
        }
    }

    fn replied(&mut self, reply: ModelReply) -> Vec<Effect> {
        add(&mut self.usage, reply.usage);
        let text = text_of(&reply.blocks);
        let wishes: Vec<ToolUse> = reply.blocks.iter().filter_map(wish).cloned().collect();
        if let Some(id) = first_duplicate(&wishes) {
            let why = format!("two tool calls of one reply carry the id {id:?}");
            return vec![self.finish(Err(TurnError::Model(ModelError::Protocol(why))))];
        }
        let said = Message { role: Role::Assistant, blocks: reply.blocks };
        match &reply.stop {
            // A refused reply is not kept: providers go on refusing a dialogue that contains it.
            StopReason::Refusal(_) => vec![self.answer(&reply.stop, &text)],
            StopReason::MaxTokens | StopReason::ContextFull => {
                let mut effects = Vec::new();
                if !text.is_empty() || !wishes.is_empty() {
                    effects.push(Effect::Append(said));
                }
                if !wishes.is_empty() {
                    let results = wishes.into_iter().map(|wish| not_executed(wish.id, "the reply was cut off"));
                    effects.push(Effect::Append(Message { role: Role::User, blocks: results.collect() }));
                }
                effects.push(self.answer(&reply.stop, &text));
                effects
            }
            StopReason::EndTurn | StopReason::ToolUse | StopReason::Pause | StopReason::Other(_)
                if !wishes.is_empty() =>
            {
                vec![Effect::Append(said), self.call(wishes)]
            }
            StopReason::Pause => {
                self.carried.push_str(&text);
                vec![Effect::Append(said), self.next_round()]
            }
            StopReason::EndTurn | StopReason::ToolUse | StopReason::Other(_) => {
                let mut effects = Vec::new();
                if !text.is_empty() {
                    effects.push(Effect::Append(said));
                }
                effects.push(self.answer(&reply.stop, &text));
                effects
            }
        }
    }

    fn call(&mut self, wishes: Vec<ToolUse>) -> Effect {
        self.carried.clear();
        let round = self.round;
        let slot = |(index, wish): (usize, &ToolUse)| Slot {
            tool_use_id: wish.id.clone(),
            result: (index >= MAX_CALLS_PER_ROUND)
                .then(|| (format!("not executed: more than {MAX_CALLS_PER_ROUND} calls in one reply"), true)),
        };
        self.phase = Phase::Calling(wishes.iter().enumerate().map(slot).collect());
        let calls = wishes.into_iter().enumerate().take(MAX_CALLS_PER_ROUND);
        Effect::CallTools(calls.map(|(index, wish)| (CallKey { round, index }, wish)).collect())
    }

    fn tool(&mut self, call: CallKey, content: String, is_error: bool) -> Vec<Effect> {
        let Phase::Calling(slots) = &mut self.phase else { return Vec::new() };
        if call.round != self.round {
            return Vec::new();
        }
        let Some(slot) = slots.get_mut(call.index) else { return Vec::new() };
        if slot.result.is_some() {
            return Vec::new();
        }
        slot.result = Some((content, is_error));
        if slots.iter().any(|slot| slot.result.is_none()) {
            return Vec::new();
        }
        vec![Effect::Append(results(std::mem::take(slots))), self.next_round()]
    }

    fn cancel(&mut self) -> Vec<Effect> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::New | Phase::Done => Vec::new(),
            Phase::Asking => vec![self.finish(Err(TurnError::Cancelled))],
            Phase::Calling(slots) => {
                vec![Effect::Append(results(slots)), self.finish(Err(TurnError::Cancelled))]
            }
        }
    }

    fn next_round(&mut self) -> Effect {
        if self.round == self.max_rounds {
            let rounds = if self.round == 1 { "round" } else { "rounds" };
            let text = format!("gave up after {} {rounds}", self.round);
            return self.finish(Ok(Answer { text, stop: STOP_ROUNDS, rounds: self.round, usage: self.usage }));
        }
        self.round += 1;
        self.phase = Phase::Asking;
        Effect::AskModel { round: self.round }
    }

    fn answer(&mut self, stop: &StopReason, text: &str) -> Effect {
        let mut whole = std::mem::take(&mut self.carried);
        whole.push_str(text);
        let text = if whole.is_empty() { silence(stop) } else { whole };
        self.finish(Ok(Answer { text, stop: stop.label(), rounds: self.round, usage: self.usage }))
    }

    fn finish(&mut self, result: Result<Answer, TurnError>) -> Effect {
        self.phase = Phase::Done;
        Effect::Finish(result)
    }
}

/// What to tell the user when the model ended without a word.
fn silence(stop: &StopReason) -> String {
    match stop {
        StopReason::Refusal(Some(category)) => format!("the model refuses to answer ({category})"),
        StopReason::Refusal(None) => "the model refuses to answer".to_owned(),
        StopReason::MaxTokens => "the answer was cut off before its first word; raise max_tokens".to_owned(),
        StopReason::ContextFull => "the conversation no longer fits the model; open a new one".to_owned(),
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Pause => "(the model said nothing)".to_owned(),
        StopReason::Other(reason) => format!("(the model said nothing and stopped with {reason:?})"),
    }
}

fn results(slots: Vec<Slot>) -> Message {
    let block = |slot: Slot| match slot.result {
        Some((content, is_error)) => Block::ToolResult(ToolResult { tool_use_id: slot.tool_use_id, content, is_error }),
        None => Block::ToolResult(ToolResult {
            tool_use_id: slot.tool_use_id,
            content: "cancelled: the user ended the turn; the call may have run".to_owned(),
            is_error: true,
        }),
    };
    Message { role: Role::User, blocks: slots.into_iter().map(block).collect() }
}

fn not_executed(tool_use_id: String, why: &str) -> Block {
    Block::ToolResult(ToolResult { tool_use_id, content: format!("not executed: {why}"), is_error: true })
}

fn wish(block: &Block) -> Option<&ToolUse> {
    match block {
        Block::ToolUse(wish) => Some(wish),
        Block::Text(_) | Block::ToolResult(_) | Block::Opaque(_) => None,
    }
}

fn text_of(blocks: &[Block]) -> String {
    let text = |block: &Block| match block {
        Block::Text(text) => Some(text.clone()),
        Block::ToolUse(_) | Block::ToolResult(_) | Block::Opaque(_) => None,
    };
    blocks.iter().filter_map(text).collect()
}

fn first_duplicate(wishes: &[ToolUse]) -> Option<&str> {
    let mut seen = HashSet::new();
    wishes.iter().map(|wish| wish.id.as_str()).find(|id| !seen.insert(*id))
}

fn add(sum: &mut Usage, more: Usage) {
    sum.input = sum.input.saturating_add(more.input);
    sum.output = sum.output.saturating_add(more.output);
    sum.cache_read = sum.cache_read.saturating_add(more.cache_read);
    sum.cache_write = sum.cache_write.saturating_add(more.cache_write);
}

#[cfg(test)]
mod tests;
