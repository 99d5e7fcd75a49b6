//! One story, told in both ways.

use super::*;
use crate::http::dto::{AnswerDto, ModelDto, UsageDto};
use crate::render::Colour;

const BARE: Style = Style::Terminal { width: Some(80), colour: Colour::Off };

fn answer(text: &str) -> AskEvent {
    AskEvent::Answer(AnswerDto {
        text: text.to_owned(),
        stop: "end_turn".to_owned(),
        rounds: 2,
        usage: UsageDto::default(),
    })
}

fn text(text: &str) -> AskEvent {
    AskEvent::Text { text: text.to_owned() }
}

fn story() -> Vec<AskEvent> {
    let own = str::to_owned;
    vec![
        AskEvent::ServerUp {
            server: own("math"),
            incarnation: Some(1),
            elapsed_ms: Some(41),
            tools: 2,
            pid: Some(123),
        },
        AskEvent::ServerDown {
            server: own("bad"),
            state: own("backoff"),
            why: Some(own("command not found: nosuch")),
            hint: Some(own("check the path")),
            next_try_in_ms: Some(1_000),
        },
        AskEvent::Notice { server: own("bad"), text: own("failed 3 times in a row") },
        AskEvent::GoingAhead { without: vec![own("slow")] },
        AskEvent::Model(ModelDto {
            provider: own("rehearsal"),
            model: own("default"),
            notice: Some(own("follows a script")),
        }),
        AskEvent::Prompt { number: 1, text: own("multiply") },
        AskEvent::Asking { round: 1 },
        text("Let me "),
        text("see."),
        AskEvent::ToolStarted { id: own("1"), name: own("math__multiply"), arguments: own(r#"{"a":17,"b":23}"#) },
        AskEvent::ToolEnded {
            id: own("1"),
            name: own("math__multiply"),
            server: Some(own("math")),
            incarnation: Some(1),
            elapsed_ms: 3,
            outcome: own("ok"),
            content: own("391\x1b[2J"),
            is_error: false,
        },
        AskEvent::Retrying { after_ms: 2_000, why: own("busy") },
        AskEvent::Asking { round: 2 },
        text("It is "),
        text("391."),
        answer("It is 391."),
        AskEvent::Done,
    ]
}

fn told(style: Style, prompts: usize, events: &[AskEvent]) -> String {
    let mut teller = Teller::new(style, prompts);
    events.iter().map(|event| teller.tell(event)).collect()
}

#[test]
fn a_pipe_gets_plain_lines() {
    insta::assert_snapshot!(told(Style::Plain, 1, &story()), @r#"
server math ready in 41 ms, 2 tools (pid 123)
server bad backoff: command not found: nosuch; next try in 1.0 s
  hint: check the path
notice bad failed 3 times in a row
going ahead without slow
model rehearsal default: follows a script
prompt 1 multiply
Let me see.
call math__multiply {"a":17,"b":23}
result math__multiply ok math 3 ms: 391�[2J
retry in 2.0 s busy
It is 391.
"#);
}

#[test]
fn a_terminal_gets_signs_and_the_answer_once() {
    insta::assert_snapshot!(told(BARE, 1, &story()), @r#"
▲ math ready in 41 ms, 2 tools (pid 123)
▼ bad backoff: command not found: nosuch; next try in 1.0 s
  hint: check the path
! bad failed 3 times in a row
… going ahead without slow: still coming up
◆ rehearsal default: follows a script
Let me see.
→ math__multiply {"a":17,"b":23}
← 391�[2J  math 3 ms
… again in 2.0 s: busy
It is 391.
"#);
}

#[test]
fn an_answer_that_was_not_streamed_is_shown_whole() {
    assert_eq!(told(BARE, 1, &[answer("one\ntwo")]), "one\ntwo\n");
    assert_eq!(told(BARE, 1, &[text("half"), answer("whole")]), "half\nwhole\n");
}

#[test]
fn several_prompts_are_repeated_on_a_terminal() {
    let prompt = AskEvent::Prompt { number: 2, text: "again".to_owned() };
    assert_eq!(told(BARE, 2, std::slice::from_ref(&prompt)), "> again\n");
    assert_eq!(told(BARE, 1, &[prompt]), "");
}

#[test]
fn colours_come_only_when_they_are_wanted() {
    let coloured = Style::Terminal { width: None, colour: Colour::On };
    assert!(told(coloured, 1, &story()).contains("\x1b[32m▲\x1b[0m math"));
    assert!(!told(BARE, 1, &story()).contains('\x1b'));
    assert!(!told(Style::Plain, 1, &story()).contains('\x1b'));
}
