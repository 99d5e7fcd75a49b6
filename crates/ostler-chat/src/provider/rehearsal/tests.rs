//! The shipped script, played against tools that compute for real, and scripts with mistakes.

use ostler_core::dialogue::Role;

use super::*;
use crate::history::History;
use crate::testing::{Heard, request, tool, tour};
use crate::turn::{Effect, Input, Turn};

const SHIPPED: &str = include_str!("../../../../../config/rehearsal.toml");

fn rehearsal(script: &str) -> Result<Rehearsal, ModelError> {
    Rehearsal::new(toml::from_str(script).expect("a script"), "config/rehearsal.toml", Reason::NoKey)
}

/// A conversation with the shipped script: the turn machine, the model, and tools as functions.
struct Stage {
    model: Rehearsal,
    history: History,
    /// The calls as they were made, one line a round.
    calls: Vec<String>,
    product: &'static str,
}

impl Stage {
    fn new(product: &'static str) -> Self {
        Self {
            model: rehearsal(SHIPPED).expect("it is valid"),
            history: History::default(),
            calls: Vec::new(),
            product,
        }
    }

    fn tool(&self, wish: &ToolUse) -> (String, bool) {
        match wish.name.as_str() {
            "math__multiply" => (self.product.to_owned(), false),
            "math__add" => ("5".to_owned(), false),
            "notes__save" => ("saved 3 chars under 'magic'".to_owned(), false),
            "notes__recall" => ("unavailable: server 'notes' is backoff".to_owned(), true),
            other => panic!("{other}"),
        }
    }

    async fn ask(&mut self, prompt: &str) -> String {
        let mut turn = Turn::new(8);
        let mut inputs = vec![Input::Say(prompt.to_owned())];
        while let Some(input) = inputs.pop() {
            for effect in turn.on(input) {
                match effect {
                    Effect::Append(message) => self.history.push(message),
                    Effect::AskModel { round } => {
                        let request = request(self.history.messages().to_vec(), tour());
                        let result = self.model.complete(request, &Heard::default()).await;
                        inputs.push(Input::Model { round, result });
                    }
                    Effect::CallTools(calls) => {
                        let line = |(_, wish): &(_, ToolUse)| format!("{} {}", wish.name, wish.input.get());
                        self.calls.push(calls.iter().map(line).collect::<Vec<_>>().join(" + "));
                        for (call, wish) in calls {
                            let (content, is_error) = self.tool(&wish);
                            inputs.push(Input::Tool { call, content, is_error });
                        }
                    }
                    Effect::Finish(Ok(answer)) => return answer.text,
                    Effect::Finish(Err(error)) => return error.to_string(),
                }
            }
        }
        panic!("the turn has no end");
    }
}

#[tokio::test]
async fn the_first_prompt_of_a_newcomer_is_answered_by_two_servers() {
    let mut stage = Stage::new("391");
    let answer = stage.ask("Multiply 17 by 23, then save the answer under the key 'magic'.").await;
    assert_eq!(answer, "math says 17 × 23 = 391; notes says: saved 3 chars under 'magic'.");
    assert_eq!(
        stage.calls,
        [r#"math__multiply {"a":17,"b":23}"#, r#"notes__save {"key":"magic","value":"391"}"#],
        "numbers where the schema wants them, texts elsewhere"
    );
}

#[tokio::test]
async fn what_the_tools_say_is_what_is_answered() {
    let mut stage = Stage::new("392");
    let answer = stage.ask("multiply 17 by 23, THEN save the answer under the key 'magic'").await;
    assert_eq!(answer, "math says 17 × 23 = 392; notes says: saved 3 chars under 'magic'.");
}

#[tokio::test]
async fn one_conversation_can_have_many_prompts() {
    let mut stage = Stage::new("20");
    assert_eq!(stage.ask("add 2 and 3").await, "math says 2 + 3 = 5.");
    assert_eq!(stage.ask("Add 2 and 3 and multiply 4 by 5").await, "math says 2 + 3 = 5 and 4 × 5 = 20.");
    let recalled = stage.ask("what is stored under 'magic'?").await;
    assert_eq!(recalled, "The call to notes__recall failed: unavailable: server 'notes' is backoff");
    assert!(stage.ask("what is the weather?").await.contains("does not know this prompt"));
    assert_eq!(stage.ask("add 2 and 3").await, "math says 2 + 3 = 5.", "an unknown prompt does no harm");
    assert_eq!(
        stage.calls,
        [
            r#"math__add {"a":2,"b":3}"#,
            r#"math__add {"a":2,"b":3} + math__multiply {"a":4,"b":5}"#,
            r#"notes__recall {"key":"magic"}"#,
            r#"math__add {"a":2,"b":3}"#,
        ]
    );
    let ids: Vec<_> = stage
        .history
        .messages()
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .flat_map(|message| &message.blocks)
        .filter_map(|block| match block {
            Block::ToolUse(wish) => Some(wish.id.clone()),
            Block::Text(_) | Block::ToolResult(_) | Block::Opaque(_) => None,
        })
        .collect();
    assert_eq!(
        ids,
        ["rehearsal_1_1_sum", "rehearsal_2_1_sum", "rehearsal_2_1_product", "rehearsal_3_1_value", "rehearsal_5_1_sum"]
    );
}

#[tokio::test]
async fn two_servers_are_called_in_one_turn() {
    let mut stage = Stage::new("42");
    stage.ask("Multiply 6 by 7 and recall 'magic'").await;
    assert_eq!(stage.calls, [r#"math__multiply {"a":6,"b":7} + notes__recall {"key":"magic"}"#]);
}

#[tokio::test]
async fn an_unknown_prompt_says_what_is_known_and_how_to_get_a_model() {
    let model = rehearsal(SHIPPED).expect("it is valid");
    let asked = model.complete(request(vec![Message::user("hello")], tour()), &Heard::default()).await;
    let Err(ModelError::UnknownPrompt(text)) = asked else { panic!("{asked:?}") };
    for part in ["config/rehearsal.toml", "Multiply {a} by {b}, then save", "ANTHROPIC_API_KEY"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_missing_tool_is_named_before_anything_is_called() {
    let model = rehearsal(SHIPPED).expect("it is valid");
    let prompt = "Multiply 17 by 23, then save the answer under the key 'magic'.";
    let only_math = request(vec![Message::user(prompt)], tour()[..2].into());
    let asked = model.complete(only_math, &Heard::default()).await;
    let Err(ModelError::Config(text)) = asked else { panic!("{asked:?}") };
    assert!(text.contains("'notes__save'") && text.contains("math__add, math__multiply"), "{text}");
    let nothing = request(vec![Message::user(prompt)], [].into());
    let error = model.complete(nothing, &Heard::default()).await.expect_err("refused").to_string();
    assert!(error.ends_with("on offer: none"), "{error}");
}

#[test]
fn the_notice_says_that_it_is_no_language_model() {
    let notice = rehearsal(SHIPPED).expect("it is valid").info().notice;
    let expected = "no ANTHROPIC_API_KEY: answers come from a script, not from a language model: config/rehearsal.toml";
    assert_eq!(notice.as_deref(), Some(expected));
}

#[test]
fn a_reference_becomes_what_the_schema_wants() {
    let schema = r#"{"name":"t","inputSchema":{"type":"object","properties":{"n":{"type":"number"},
        "i":{"type":["integer","null"]},"s":{"type":"string"}}}}"#;
    let tool = tool("x", schema);
    let check = |argument: &str, value: &str, expected: Value| {
        let template = Template::parse("{v}").expect("a template");
        let call = CheckedCall {
            id: "id".to_owned(),
            tool: "x__t".to_owned(),
            arguments: [(argument.to_owned(), Argument::Text(template))].into(),
        };
        let values = Bindings::from([("v".to_owned(), value.to_owned())]);
        assert_eq!(arguments(&call, &tool, &values)[argument], expected, "{argument} {value}");
    };
    check("n", "17", 17.into());
    check("n", "-2.5", (-2.5).into());
    check("n", "+3", 3.into());
    check("n", "not found", "not found".into());
    check("i", "17", 17.into());
    check("i", "1.5", "1.5".into());
    check("s", "17", "17".into());
    check("other", "17", "17".into());
}

#[tokio::test]
async fn on_error_and_nested_arguments_are_filled_in() {
    let script = r#"
        [[scene]]
        prompt = "do {what}"
        answer = "{r}"
        on_error = "{what} with {tool} went wrong: {error}"
        [[scene.step]]
        calls = [{ id = "r", tool = "math__add", arguments = { list = ["{what}", 1, { deep = "<{what}>" }] } }]
    "#;
    let model = rehearsal(script).expect("it is valid");
    let mut history = History::default();
    history.push(Message::user("do it"));
    let ask = |history: &History| model.play(&request(history.messages().to_vec(), tour())).expect("a reply");
    let reply = ask(&history);
    let Some(Block::ToolUse(wish)) = reply.blocks.first() else { panic!("a call") };
    assert_eq!(wish.input.get(), r#"{"list":["it",1,{"deep":"<it>"}]}"#);
    let result = ToolResult { tool_use_id: wish.id.clone(), content: "no".to_owned(), is_error: true };
    history.push(Message { role: Role::Assistant, blocks: reply.blocks });
    history.push(Message { role: Role::User, blocks: vec![Block::ToolResult(result)] });
    let Some(Block::Text(text)) = ask(&history).blocks.pop() else { panic!("a text") };
    assert_eq!(text, "it with math__add went wrong: no");
}

#[test]
fn every_mistake_of_a_script_is_named_at_once() {
    let script = r#"
        [[scene]]
        prompt = "a {x} {x} {"
        answer = "{y}"
        [[scene]]
        prompt = "b {x}"
        answer = "{one}"
        on_error = "{one}"
        [[scene.step]]
        calls = [{ id = "one", tool = "t", arguments = { a = "{one}" } }, { id = "x", tool = "t" }, { id = "No", tool = "t" }]
        [[scene.step]]
        calls = []
    "#;
    let Err(ModelError::Config(text)) = rehearsal(script) else { panic!("it has mistakes") };
    let parts = [
        "scene 1: a single '{'",
        "scene 1: the answer refers to 'y'",
        "scene 2: the call 'one' refers to 'one'",
        "scene 2: the name 'x' is used twice",
        "scene 2: 'No' cannot be a call's id",
        "scene 2: a step has no calls",
        "scene 2: on_error refers to 'one'",
    ];
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    let Err(ModelError::Config(text)) = rehearsal("") else { panic!("it is empty") };
    assert!(text.contains("no scene"), "{text}");
    assert!(toml::from_str::<Script>("[[scene]]\nprompt = \"a\"\nanswer = \"b\"\nresult = \"391\"").is_err());
}
