//! Servers and a model that nobody here wrote: two on Python's SDK, one on npm, driven by an emulated Messages API.

use serde_json::Value;

use crate::support::cli;
use crate::support::config::Config;
use crate::support::emulator::Emulator;
use crate::support::foreign::{Foreign, foreign};
use crate::support::home::Home;

const PROMPT: &str = "Multiply 17 by 23 while you echo 'side by side', then save it under magic.";

/// The two Python servers and server-everything.
fn fleet(foreign: &Foreign) -> Config {
    let (python, everything) = (foreign.python(), foreign.everything());
    let path = |path: &std::path::Path| path.to_str().expect("the checkout's path is UTF-8").to_owned();
    Config::new()
        .server("math", &path(&python), &[&Foreign::file("math_server.py")])
        .server("notes", &path(&python), &[&Foreign::file("notes_server.py")])
        .server("everything", "node", &[&path(&everything), "stdio"])
}

#[tokio::test]
async fn one_assistant_turn_calls_two_foreign_servers_and_every_id_is_paired() {
    let Some(foreign) = foreign("one_assistant_turn_calls_two_foreign_servers_and_every_id_is_paired") else { return };
    let emulator = Emulator::start(&foreign).await;
    let home = Home::new();
    fleet(&foreign).write(&home);
    let mut command = home.ostler();
    command
        .args(["ask", PROMPT])
        .args(home.config())
        .env("ANTHROPIC_API_KEY", "not-a-key")
        .env("ANTHROPIC_BASE_URL", emulator.base());
    let ran = cli::run(command).await.succeeded();
    ran.says(&["math", "everything", "notes", "The emulator says: 391 is kept under magic."]);

    let journal = emulator.journal().await;
    assert_eq!(journal.len(), 3, "{journal:#?}");
    for request in &journal {
        assert_eq!(
            (&request["path"], &request["response"]["status"]),
            (&Value::from("/v1/messages"), &Value::from(200))
        );
    }
    let second = answered_calls(&journal[1]["body"]);
    assert_eq!(
        second,
        [("toolu_product".to_owned(), "391".to_owned()), ("toolu_echo".to_owned(), "Echo: side by side".to_owned())]
    );
    let third = answered_calls(&journal[2]["body"]);
    assert_eq!(third[2], ("toolu_save".to_owned(), "kept '391' under 'magic'".to_owned()));
}

/// The tool calls of a request's history with what was answered to each, in the order of the calls.
fn answered_calls(body: &Value) -> Vec<(String, String)> {
    let messages = body["messages"].as_array().expect("a request has messages");
    let calls = messages.iter().filter_map(|message| message["tool_calls"].as_array()).flatten();
    let answer = |id: &str| {
        let mut answers = messages.iter().filter(|message| message["role"] == "tool" && message["tool_call_id"] == id);
        let answer = answers.next().unwrap_or_else(|| panic!("no answer to {id}"));
        assert!(answers.next().is_none(), "two answers to {id}");
        answer["content"].as_str().expect("an answer is a text").to_owned()
    };
    let ids = calls.map(|call| call["id"].as_str().expect("a call has an id"));
    let paired: Vec<_> = ids.map(|id| (id.to_owned(), answer(id))).collect();
    let answers = messages.iter().filter(|message| message["role"] == "tool").count();
    assert_eq!(answers, paired.len(), "an answer without a call: {messages:#?}");
    paired
}

#[tokio::test]
async fn foreign_servers_answer_calls_of_the_command_line() {
    let Some(foreign) = foreign("foreign_servers_answer_calls_of_the_command_line") else { return };
    let home = Home::new();
    fleet(&foreign).write(&home);
    home.run(&["call", "math__add", r#"{"a": 2, "b": 3}"#]).await.succeeded().says(&["5"]);
    home.run(&["tools"]).await.succeeded().says(&["math__multiply", "notes__recall", "everything__get-sum"]);
}
