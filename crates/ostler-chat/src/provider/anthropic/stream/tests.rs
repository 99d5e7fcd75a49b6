//! Golden transcripts of the Messages API, cut at every byte.

use ostler_core::dialogue::{Block, StopReason, Usage};

use super::*;

/// Text, two calls at once, a ping and an event from the future.
const TOOLS: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"usage":{"input_tokens":25,"output_tokens":1,"cache_read_input_tokens":7,"cache_creation_input_tokens":3}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Ich rechne … "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"😀"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"math__add","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\": 12345678901234"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"567890, \"b\":1e3}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: future_event
data: not even JSON

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"notes__list"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

"#;

/// Thinking with its signature, a redacted block, a server's tool, a block from the future.
const THINKING: &str = r#"event: message_start
data: {"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"17 times "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"23"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCg=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking", "data":"z/1e3", "n":12345678901234567890123}}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"srv_1","name":"web_search","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"x\"}"}}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"compaction","content":null}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"compaction_delta","content":"so far"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"pause_turn"},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"#;

/// Plays chunks through parser and assembly; the text that was heard and the reply, or what broke.
fn play<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<(String, ModelReply), String> {
    let mut parser = sse::Parser::default();
    let mut assembly = Assembly::default();
    let mut heard = String::new();
    for chunk in chunks {
        for event in parser.push(chunk).expect("small") {
            match assembly.on(&event).map_err(|broken| format!("{broken:?}"))? {
                Step::Text(text) => heard.push_str(&text),
                Step::Stop => return assembly.finish().map(|reply| (heard, reply)).map_err(|error| error.to_string()),
                Step::Nothing | Step::Content => {}
            }
        }
    }
    Err("no end".to_owned())
}

/// A reply in lines that can be compared.
fn shown(reply: &ModelReply) -> Vec<String> {
    let block = |block: &Block| match block {
        Block::Text(text) => format!("text {text}"),
        Block::ToolUse(wish) => format!("tool {} {} {}", wish.id, wish.name, wish.input.get()),
        Block::Opaque(raw) => format!("opaque {}", raw.get()),
        Block::ToolResult(_) => "a result, which no model sends".to_owned(),
    };
    reply.blocks.iter().map(block).collect()
}

#[test]
fn text_and_two_calls_arrive_as_they_were_sent() {
    let (heard, reply) = play([TOOLS.as_bytes()]).expect("a reply");
    assert_eq!(heard, "Ich rechne … 😀");
    assert_eq!(
        shown(&reply),
        [
            "text Ich rechne … 😀",
            r#"tool toolu_1 math__add {"a": 12345678901234567890, "b":1e3}"#,
            "tool toolu_2 notes__list {}",
        ]
    );
    assert_eq!(reply.stop, StopReason::ToolUse);
    assert_eq!(reply.usage, Usage { input: 25, output: 89, cache_read: 7, cache_write: 3 });
}

#[test]
fn blocks_that_are_not_ours_are_kept_for_the_way_back() {
    let (heard, reply) = play([THINKING.as_bytes()]).expect("a reply");
    assert_eq!(heard, "");
    assert_eq!(
        shown(&reply),
        [
            r#"opaque {"signature":"EqQBCg==","thinking":"17 times 23","type":"thinking"}"#,
            r#"opaque {"type":"redacted_thinking", "data":"z/1e3", "n":12345678901234567890123}"#,
            r#"opaque {"id":"srv_1","input":{"query":"x"},"name":"web_search","type":"server_tool_use"}"#,
            r#"opaque {"content":"so far","type":"compaction"}"#,
        ]
    );
    assert_eq!(reply.stop, StopReason::Pause);
}

#[test]
fn where_a_transcript_is_cut_does_not_matter() {
    for transcript in [TOOLS, THINKING] {
        let whole = play([transcript.as_bytes()]).expect("a reply");
        for cut in 0..=transcript.len() {
            let (left, right) = transcript.as_bytes().split_at(cut);
            let (heard, reply) = play([left, right]).expect("a reply");
            assert_eq!((heard, shown(&reply)), (whole.0.clone(), shown(&whole.1)), "cut at {cut}");
        }
        let bytes = play(transcript.as_bytes().chunks(1)).expect("a reply");
        assert_eq!(shown(&bytes.1), shown(&whole.1));
    }
}

#[test]
fn a_transcript_without_its_end_is_no_reply() {
    let end = TOOLS.rfind("event: message_stop").expect("it is there");
    for cut in 0..end {
        assert_eq!(play([&TOOLS.as_bytes()[..cut]]).map(|_| ()), Err("no end".to_owned()), "cut at {cut}");
    }
}

#[test]
fn an_error_event_ends_the_stream() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let half = &TOOLS[..TOOLS.find("event: content_block_stop").expect("it is there")];
    let broken = play([half.as_bytes(), error.as_bytes()]).expect_err("broken");
    assert!(broken.contains("overloaded_error") && broken.contains("Overloaded"), "{broken}");
}

#[test]
fn the_reasons_to_stop_are_told_apart() {
    let check = |delta: &str, expected: StopReason| {
        let stream =
            format!("event: message_delta\ndata: {{\"delta\":{delta}}}\n\nevent: message_stop\ndata: {{}}\n\n");
        assert_eq!(play([stream.as_bytes()]).expect("a reply").1.stop, expected, "{delta}");
    };
    check(r#"{"stop_reason":"end_turn"}"#, StopReason::EndTurn);
    check(r#"{"stop_reason":"stop_sequence"}"#, StopReason::EndTurn);
    check(r#"{"stop_reason":"max_tokens"}"#, StopReason::MaxTokens);
    check(
        r#"{"stop_reason":"refusal","stop_details":{"category":"cyber"}}"#,
        StopReason::Refusal(Some("cyber".into())),
    );
    check(r#"{"stop_reason":"refusal","stop_details":null}"#, StopReason::Refusal(None));
    check(r#"{"stop_reason":"model_context_window_exceeded"}"#, StopReason::ContextFull);
    check(r#"{"stop_reason":"compaction"}"#, StopReason::Other("compaction".into()));
    check("{}", StopReason::EndTurn);
}

/// A stream with one tool call whose arguments arrive as `pieces`.
fn one_call(pieces: &[&str], stop: &str) -> String {
    let start = String::from(
        "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{}}}\n\n",
    );
    let delta = |piece: &&str| {
        let delta = serde_json::json!({"index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}});
        format!("event: content_block_delta\ndata: {delta}\n\n")
    };
    let stream: String = [start].into_iter().chain(pieces.iter().map(delta)).collect();
    let end = serde_json::json!({"delta": {"stop_reason": stop}});
    format!("{stream}event: message_delta\ndata: {end}\n\nevent: message_stop\ndata: {{}}\n\n")
}

#[test]
fn arguments_are_an_object_or_the_reply_is_refused() {
    let check = |pieces: &[&str], stop: &str, expected: Result<&[&str], &str>| {
        let got = play([one_call(pieces, stop).as_bytes()]).map(|(_, reply)| shown(&reply));
        match (got, expected) {
            (Ok(blocks), Ok(expected)) => assert_eq!(blocks, expected, "{pieces:?}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{pieces:?}: {got:?}, expected {expected:?}"),
        }
    };
    check(&["{\"a\"", ":1}"], "tool_use", Ok(&[r#"tool t n {"a":1}"#]));
    check(&[], "tool_use", Ok(&["tool t n {}"]));
    check(&["", ""], "tool_use", Ok(&["tool t n {}"]));
    check(&["{\"a\""], "tool_use", Err("not a JSON object"));
    check(&["[1]"], "tool_use", Err("not a JSON object"));
    check(&["{\"a\""], "max_tokens", Ok(&[]));
    check(&[], "max_tokens", Ok(&[]));
    check(&["{\"a\":1}"], "max_tokens", Ok(&[r#"tool t n {"a":1}"#]));
}

#[test]
fn events_that_make_no_sense_are_named() {
    let check = |stream: &str, part: &str| {
        let error = play([stream.as_bytes()]).expect_err("refused");
        assert!(error.contains(part), "{error}");
    };
    check("event: message_delta\ndata: {\n\n", "message_delta");
    check("event: content_block_delta\ndata: {\"index\":3,\"delta\":{}}\n\n", "block 3");
    check(
        "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"tool_use\"}}\n\n",
        "without id",
    );
    let start = "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"text\"}}\n\n";
    check(&format!("{start}{start}"), "starts twice");
}
