//! Real commands and a real web server on loopback, and a log that is faster than both.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use ostler_core::ServerId;
use ostler_core::port::EventSink;
use ostler_core::status::{Fault, FaultClass};
use tokio::net::TcpListener;

use super::*;
use crate::config::Config;

fn server() -> ServerId {
    ServerId::new("math").expect("an id")
}

fn needs_action() -> What {
    What::Notice(Notice::NeedsAction(Arc::new(Fault::new(FaultClass::NotFound, "command not found: x"))))
}

fn shell(script: &str) -> NotifyCommand {
    NotifyCommand { program: "sh".into(), args: vec![Secret::new("-c"), Secret::new(script)] }
}

fn live(home: &Path, notify: &str) -> Arc<Live> {
    let path = home.join("ostler.toml");
    fs::write(&path, format!("[servers.math]\ncommand = \"cat\"\n[notify]\n{notify}\n")).expect("written");
    Live::new(Config::load(Some(&path)).expect("it is sound"))
}

/// Answers each post with the next of these, and the last for ever; keeps the bodies.
#[derive(Clone)]
struct Hook {
    answers: Arc<Mutex<Vec<u16>>>,
    bodies: mpsc::Sender<String>,
}

async fn hook(answers: &[u16]) -> (String, mpsc::Receiver<String>) {
    let (bodies, heard) = mpsc::channel(16);
    let state = Hook { answers: Arc::new(Mutex::new(answers.to_vec())), bodies };
    let take = |State(hook): State<Hook>, body: String| async move {
        hook.bodies.send(body).await.expect("somebody hears");
        let mut answers = hook.answers.lock().expect("unpoisoned");
        let status = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        StatusCode::from_u16(status).expect("a status")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/secret-path", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/secret-path", post(take)).with_state(state)).await
    });
    (url, heard)
}

#[tokio::test]
async fn a_notice_reaches_the_command_and_the_address_that_the_configuration_names() {
    let home = tempfile::tempdir().expect("a folder");
    let (url, mut heard) = hook(&[200]).await;
    let told = home.path().join("told");
    let command = format!("command = [\"sh\", \"-c\", \"cat >> {}\"]", told.display());
    let live = live(home.path(), &format!("{command}\nwebhook = \"{url}\""));
    let events = EventLog::default();
    // Before it begins, and after; what is odd about a tool is for the log alone.
    events.emit(&server(), None, needs_action());
    events.emit(&server(), None, What::Notice(Notice::Catalogue("odd".to_owned())));
    let running = tokio::spawn(run(live, events.clone()));
    let first = heard.recv().await.expect("a notice");
    events.emit(&server(), None, What::Notice(Notice::Recovered));
    let second = heard.recv().await.expect("a notice");
    running.abort();
    let notice: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(notice["server"], "math");
    assert_eq!((&notice["kind"], &notice["notice"]), (&"notice".into(), &"needs_action".into()));
    assert!(second.contains(r#""notice":"recovered""#), "{second}");
    // The command was told before the address was.
    assert_eq!(fs::read_to_string(&told).expect("it was told"), first + &second);
}

#[tokio::test]
async fn a_command_that_fails_is_told_of_without_its_arguments() {
    let failed = execute(&shell("echo no bell >&2; exit 3"), b"{}\n", LIMIT).await;
    assert_eq!(failed, Err("exit status: 3: no bell".to_owned()));
    let missing = NotifyCommand { program: "/no/such/program".into(), args: vec![Secret::new("hush")] };
    let error = execute(&missing, b"{}\n", LIMIT).await.expect_err("it is not there");
    assert!(error.starts_with("it cannot be run") && !error.contains("hush"), "{error}");
    // One that neither reads nor writes, and one that leaves something behind with its standard error.
    assert_eq!(execute(&shell("exit 0"), &vec![b'x'; 1 << 20], LIMIT).await, Ok(()));
    assert_eq!(execute(&shell("sleep 5 & exit 0"), b"{}\n", LIMIT).await, Ok(()));
}

#[tokio::test]
async fn a_command_without_an_end_is_killed_with_what_it_has_started() {
    let home = tempfile::tempdir().expect("a folder");
    let numbers = home.path().join("numbers");
    let script = format!("sleep 600 & echo $! > {0}; echo $$ >> {0}; wait", numbers.display());
    let error = execute(&shell(&script), b"{}\n", Duration::from_secs(2)).await.expect_err("it was killed");
    assert_eq!(error, "it did not end within 2 s and was killed");
    let numbers = fs::read_to_string(numbers).expect("it had begun");
    assert_eq!(numbers.lines().count(), 2);
    let lives = |number: &str| {
        let state = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let state = state.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    };
    let gone = async {
        while numbers.lines().any(lives) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("nothing is left");
}

#[tokio::test]
async fn a_post_is_tried_three_times_and_only_where_that_can_help() {
    let tries = async |answers: &[u16]| {
        let (url, mut heard) = hook(answers).await;
        let sent = Post { client: None, pauses: [Duration::ZERO; 2] }.send(&url, b"{}").await;
        if let Err(why) = &sent {
            assert!(!why.contains("secret-path"), "{why}");
        }
        let mut count = 0;
        while heard.try_recv().is_ok() {
            count += 1;
        }
        (sent.is_ok(), count)
    };
    assert_eq!(tries(&[200]).await, (true, 1));
    assert_eq!(tries(&[503, 429, 200]).await, (true, 3));
    assert_eq!(tries(&[500]).await, (false, 3));
    assert_eq!(tries(&[404]).await, (false, 1));
    assert_eq!(tries(&[302]).await, (false, 1), "an address is not to be had for a redirect");
}

#[test]
fn what_the_queue_cannot_hold_is_counted() {
    let events = EventLog::default();
    let (sink, mut queue) = mpsc::channel(2);
    let mut dropped = Dropped::default();
    for _ in 0..5 {
        events.emit(&server(), None, needs_action());
    }
    for event in events.recent(5) {
        dropped.offer(&sink, &event);
    }
    assert_eq!((dropped.total, dropped.in_a_row), (3, 3));
    queue.try_recv().expect("the oldest");
    dropped.offer(&sink, &events.recent(1)[0]);
    assert_eq!((dropped.total, dropped.in_a_row), (3, 0));
}
