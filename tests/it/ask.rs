//! Questions from the command line: one-shot, through a daemon, and with a server that answers something else.

use crate::support::cli;
use crate::support::config::Config;
use crate::support::daemon::Daemon;
use crate::support::home::{Home, repository};

const MULTIPLY: &str = "Multiply 17 by 23, then save the answer under the key 'magic'.";
const RECALL: &str = "what is stored under 'magic'?";

/// What an answer to both prompts must say, wherever it is printed.
const BOTH_SERVERS: &[&str] = &["math", "notes", "391", "magic"];

#[tokio::test]
async fn the_first_command_of_a_newcomer_multiplies_saves_and_names_both_servers() {
    let home = Home::new();
    let mut command = home.ostler();
    command.args(["ask", MULTIPLY]).current_dir(repository());
    let ran = cli::run(command).await.succeeded();
    assert!(ran.all().contains("rehearsal"), "it must say that no language model answers: {ran:#?}");
    ran.says(BOTH_SERVERS);
}

#[tokio::test]
async fn a_second_prompt_of_the_same_ask_recalls_what_the_first_has_saved() {
    let home = Home::new();
    let ran = home.run(&["ask", MULTIPLY, RECALL]).await.succeeded().says(BOTH_SERVERS);
    let last = ran.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap();
    assert!(ran.stdout.contains("recall") && last.contains("391"), "{ran:#?}");
}

#[tokio::test]
async fn two_asks_through_a_daemon_share_its_servers() {
    let daemon = Daemon::with(&Config::new().demo("math").demo("notes")).await;
    daemon.home.run(&["ask", MULTIPLY]).await.succeeded().says(BOTH_SERVERS);
    daemon.home.run(&["ask", RECALL]).await.succeeded().says(&["notes", "391"]);
    let alone = daemon.home.run(&["ask", "--standalone", RECALL]).await;
    assert!(!alone.stdout.contains("391"), "a fleet of its own knows nothing of it: {alone:#?}");
}

#[tokio::test]
async fn a_server_that_multiplies_to_392_changes_the_answer_of_the_rehearsal() {
    let home = Home::new();
    Config::new().fake("math", &["--product", "392"]).fake("notes", &[]).write(&home);
    let ran = home.run(&["ask", MULTIPLY, RECALL]).await.succeeded().says(&["392"]);
    assert!(!ran.stdout.contains("391"), "the script must hold no result: {ran:#?}");
}

#[tokio::test]
async fn a_prompt_that_the_rehearsal_does_not_know_is_an_error_that_says_what_it_knows() {
    let home = Home::new();
    let ran = home.run(&["ask", "Write a sonnet about ponies."]).await.failed();
    assert!(ran.all().contains("rehearsal") && ran.all().to_lowercase().contains("multiply"), "{ran:#?}");
}
