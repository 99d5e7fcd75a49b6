//! What the turn promises, by example and by property.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::history::History;

fn wish(id: &str) -> Block {
    let input = RawValue::from_string("{}".to_owned()).expect("JSON");
    Block::ToolUse(ToolUse { id: id.to_owned(), name: "math__add".to_owned(), input })
}

fn reply(blocks: Vec<Block>, stop: StopReason) -> ModelReply {
    ModelReply { blocks, stop, usage: Usage { input: 1, output: 2, cache_read: 3, cache_write: 4 } }
}

fn text(text: &str) -> Block {
    Block::Text(text.to_owned())
}

/// A turn with the dialogue that its effects build, and what else it asked for, in words.
struct Stage {
    turn: Turn,
    history: History,
    log: Vec<String>,
}

impl Stage {
    fn new(max_rounds: u32) -> Self {
        let mut stage = Self { turn: Turn::new(max_rounds), history: History::default(), log: Vec::new() };
        stage.give(Input::Say("question".to_owned()));
        stage
    }

    fn give(&mut self, input: Input) {
        for effect in self.turn.on(input) {
            match effect {
                Effect::Append(message) => self.history.push(message),
                Effect::AskModel { round } => self.log.push(format!("ask {round}")),
                Effect::CallTools(calls) => {
                    let ids: Vec<_> = calls.iter().map(|(key, wish)| format!("{}@{}", wish.id, key.index)).collect();
                    self.log.push(format!("call {}", ids.join(" ")));
                }
                Effect::Finish(Ok(answer)) => self.log.push(format!("{}: {}", answer.stop, answer.text)),
                Effect::Finish(Err(error)) => self.log.push(format!("failed: {error}")),
            }
        }
    }

    fn model(&mut self, round: u32, blocks: Vec<Block>, stop: StopReason) {
        self.give(Input::Model { round, result: Ok(reply(blocks, stop)) });
    }

    fn tool(&mut self, round: u32, index: usize, content: &str) {
        let content = content.to_owned();
        self.give(Input::Tool { call: CallKey { round, index }, content, is_error: false });
    }

    /// The dialogue in short: `u` user, `a` assistant; `t` text, `?id` tool use, `=id` or `!id` result.
    fn dialogue(&self) -> String {
        let block = |block: &Block| match block {
            Block::Text(_) => "t".to_owned(),
            Block::ToolUse(wish) => format!("?{}", wish.id),
            Block::ToolResult(result) => format!("{}{}", if result.is_error { "!" } else { "=" }, result.tool_use_id),
            Block::Opaque(_) => "o".to_owned(),
        };
        let message = |message: &Arc<Message>| {
            let role = if message.role == Role::User { "u" } else { "a" };
            format!("{role}({})", message.blocks.iter().map(block).collect::<Vec<_>>().join(" "))
        };
        self.history.messages().iter().map(message).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn an_answer_without_tools_takes_one_round() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![text("hello"), text(" you")], StopReason::EndTurn);
    assert_eq!(stage.log, ["ask 1", "end_turn: hello you"]);
    assert_eq!(stage.dialogue(), "u(t) a(t t)");
}

#[test]
fn results_come_in_any_order_and_go_back_in_one_message_in_the_order_of_the_calls() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![text("let me see"), wish("x"), wish("y"), wish("z")], StopReason::ToolUse);
    stage.tool(1, 2, "3");
    stage.tool(1, 0, "1");
    assert_eq!(stage.log, ["ask 1", "call x@0 y@1 z@2"]);
    stage.tool(1, 1, "2");
    stage.model(2, vec![text("done")], StopReason::EndTurn);
    assert_eq!(stage.log, ["ask 1", "call x@0 y@1 z@2", "ask 2", "end_turn: done"]);
    assert_eq!(stage.dialogue(), "u(t) a(t ?x ?y ?z) u(=x =y =z) a(t)");
    assert_eq!(stage.turn.usage, Usage { input: 2, output: 4, cache_read: 6, cache_write: 8 });
}

#[test]
fn the_first_result_of_a_call_stands() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![wish("x"), wish("y")], StopReason::ToolUse);
    stage.tool(1, 0, "first");
    stage.tool(1, 0, "second");
    stage.tool(1, 1, "other");
    let Some(Block::ToolResult(result)) = stage.history.messages()[2].blocks.first() else { panic!("a result") };
    assert_eq!(result.content, "first");
}

#[test]
fn a_model_that_never_stops_calling_is_given_up_after_the_last_results() {
    let mut stage = Stage::new(2);
    for round in 1..=2 {
        stage.model(round, vec![wish(&format!("r{round}"))], StopReason::ToolUse);
        stage.tool(round, 0, "again");
    }
    assert_eq!(stage.log, ["ask 1", "call r1@0", "ask 2", "call r2@0", "rounds: gave up after 2 rounds"]);
    assert_eq!(stage.dialogue(), "u(t) a(?r1) u(=r1) a(?r2) u(=r2)");
}

#[test]
fn a_pause_lets_the_model_go_on_and_joins_what_it_said() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![text("one, ")], StopReason::Pause);
    stage.model(2, vec![text("two")], StopReason::EndTurn);
    assert_eq!(stage.log, ["ask 1", "ask 2", "end_turn: one, two"]);
    let mut endless = Stage::new(3);
    (1..=3).for_each(|round| endless.model(round, Vec::new(), StopReason::Pause));
    assert_eq!(endless.log.last().map(String::as_str), Some("rounds: gave up after 3 rounds"));
}

#[test]
fn calls_of_a_reply_that_was_cut_off_are_not_made_but_have_results() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![text("half"), wish("x")], StopReason::MaxTokens);
    assert_eq!(stage.log, ["ask 1", "max_tokens: half"]);
    assert_eq!(stage.dialogue(), "u(t) a(t ?x) u(!x)");
}

#[test]
fn a_model_that_says_nothing_is_explained() {
    let check = |stop: StopReason, expected: &str| {
        let mut stage = Stage::new(8);
        stage.model(1, Vec::new(), stop);
        assert_eq!(stage.log.last().expect("an end"), expected);
        assert_eq!(stage.dialogue(), "u(t)");
    };
    check(StopReason::Refusal(Some("cyber".into())), "refusal: the model refuses to answer (cyber)");
    check(StopReason::MaxTokens, "max_tokens: the answer was cut off before its first word; raise max_tokens");
    check(StopReason::ContextFull, "context_full: the conversation no longer fits the model; open a new one");
    check(StopReason::EndTurn, "end_turn: (the model said nothing)");
}

#[test]
fn a_refused_reply_stays_out_of_the_dialogue() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![text("I"), wish("x")], StopReason::Refusal(None));
    assert_eq!(stage.log, ["ask 1", "refusal: I"]);
    assert_eq!(stage.dialogue(), "u(t)");
}

#[test]
fn a_cancelled_turn_leaves_every_call_with_a_result() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![wish("x"), wish("y")], StopReason::ToolUse);
    stage.tool(1, 1, "2");
    stage.give(Input::Cancel);
    stage.tool(1, 0, "late");
    stage.give(Input::Cancel);
    assert_eq!(stage.log, ["ask 1", "call x@0 y@1", "failed: the turn was cancelled"]);
    assert_eq!(stage.dialogue(), "u(t) a(?x ?y) u(!x =y)");
}

#[test]
fn one_id_for_two_calls_ends_the_turn() {
    let mut stage = Stage::new(8);
    stage.model(1, vec![wish("x"), wish("x")], StopReason::ToolUse);
    assert!(stage.log[1].starts_with("failed: ") && stage.log[1].contains("\"x\""), "{:?}", stage.log);
    assert_eq!(stage.dialogue(), "u(t)");
}

#[test]
fn a_flood_of_calls_is_cut_and_the_rest_answered() {
    let mut stage = Stage::new(8);
    let wishes = (0..=MAX_CALLS_PER_ROUND).map(|index| wish(&format!("w{index}"))).collect();
    stage.model(1, wishes, StopReason::ToolUse);
    (0..MAX_CALLS_PER_ROUND).for_each(|index| stage.tool(1, index, "ok"));
    assert_eq!(stage.log.last().map(String::as_str), Some("ask 2"));
    assert!(stage.dialogue().ends_with(&format!("!w{MAX_CALLS_PER_ROUND})")));
}

/// A step of a random life: what a model, tools, users and late messages may do in any order.
#[derive(Debug, Clone)]
enum Move {
    Reply { round_off: u32, calls: usize, with_text: bool, stop: StopReason },
    Fail,
    Tool { round_off: u32, index: usize, is_error: bool },
    Cancel,
    SayAgain,
}

fn any_move() -> impl Strategy<Value = Move> {
    let stop = prop_oneof![
        4 => Just(StopReason::ToolUse),
        2 => Just(StopReason::EndTurn),
        1 => Just(StopReason::Pause),
        1 => Just(StopReason::MaxTokens),
        1 => Just(StopReason::Refusal(None)),
        1 => Just(StopReason::Other("new".to_owned())),
    ];
    let off = prop_oneof![6 => Just(0_u32), 1 => Just(1_u32)];
    prop_oneof![
        6 => (off.clone(), 0..4_usize, any::<bool>(), stop)
            .prop_map(|(round_off, calls, with_text, stop)| Move::Reply { round_off, calls, with_text, stop }),
        12 => (off, 0..4_usize, any::<bool>())
            .prop_map(|(round_off, index, is_error)| Move::Tool { round_off, index, is_error }),
        1 => Just(Move::Fail),
        1 => Just(Move::Cancel),
        1 => Just(Move::SayAgain),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_call_is_answered_once_and_the_rounds_are_kept(
        max_rounds in 0..4_u32,
        moves in prop::collection::vec(any_move(), 0..60),
    ) {
        let mut stage = Stage::new(max_rounds);
        for step in moves {
            let (round, over) = (stage.turn.rounds(), stage.log.len());
            let finished = matches!(stage.turn.phase, Phase::Done);
            let stale = match step {
                Move::Reply { round_off, calls, with_text, stop } => {
                    let mut blocks: Vec<Block> = (0..calls).map(|index| wish(&format!("r{round}c{index}"))).collect();
                    blocks.extend(with_text.then(|| text("t")));
                    stage.model(round - round_off, blocks, stop);
                    round_off > 0
                }
                Move::Tool { round_off, index, is_error } => {
                    let call = CallKey { round: round - round_off, index };
                    stage.give(Input::Tool { call, content: "c".to_owned(), is_error });
                    round_off > 0
                }
                Move::Fail => {
                    stage.give(Input::Model { round, result: Err(ModelError::TimedOut) });
                    false
                }
                Move::Cancel => {
                    stage.give(Input::Cancel);
                    false
                }
                Move::SayAgain => {
                    stage.give(Input::Say("again".to_owned()));
                    true
                }
            };
            if stale || finished {
                prop_assert_eq!(stage.log.len(), over, "a stale input has no effect");
            }
            // While calls are out, the dialogue waits for their results; at every other moment it is whole.
            let calling = matches!(stage.turn.phase, Phase::Calling(_));
            check_pairs(stage.history.messages(), calling)?;
        }
        let asked = stage.log.iter().filter(|line| line.starts_with("ask ")).count();
        prop_assert!(asked <= max_rounds.max(1) as usize);
        let ends = stage.log.iter().filter(|line| !line.starts_with("ask ") && !line.starts_with("call ")).count();
        prop_assert_eq!(ends, usize::from(matches!(stage.turn.phase, Phase::Done)));
    }
}

/// The uses of each assistant message are answered, in order, at the head of the message after it, and nowhere else.
fn check_pairs(messages: &[Arc<Message>], open_end: bool) -> Result<(), TestCaseError> {
    let mut wanted: Vec<String> = Vec::new();
    for message in messages {
        let results: Vec<String> = message
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::ToolResult(result) => Some(result.tool_use_id.clone()),
                Block::Text(_) | Block::ToolUse(_) | Block::Opaque(_) => None,
            })
            .collect();
        prop_assert_eq!(&results, &wanted);
        wanted = message.blocks.iter().filter_map(super::wish).map(|wish| wish.id.clone()).collect();
    }
    prop_assert!(wanted.is_empty() || open_end, "no result for {:?}", wanted);
    Ok(())
}
