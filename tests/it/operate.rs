//! The operator's day: a file that changes under a running daemon, a project's server that asks to be approved, a daemon
//! that is started again and goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::config::Config;
use crate::support::daemon::Daemon;
use crate::support::home::Home;
use crate::support::peer::FAKE;
use crate::support::wait;

#[tokio::test]
async fn a_changed_file_is_taken_up_and_touches_only_what_changed() {
    let daemon = Daemon::with(&Config::new().fake("math", &[]).fake("notes", &[])).await;
    let (math, notes) = (daemon.ready_pid("math").await, daemon.ready_pid("notes").await);
    Config::new().fake("math", &["--product", "392"]).fake("notes", &[]).fake("more", &[]).write(&daemon.home);
    daemon.ready_pid("more").await;
    daemon.wait_for("math", |server| server["pid"] != math && server["state"] == "ready").await;
    assert_eq!(daemon.call_until_well("math__multiply", &json!({"a": 1, "b": 1})).await, "392");
    assert_eq!(daemon.ready_pid("notes").await, notes, "an untouched server goes on");

    daemon.home.write(Home::CONFIG, "[servers.math]\ncomand = \"x\"\n");
    daemon.signal(Signal::SIGHUP);
    wait::until("the refused file in the status", Duration::from_secs(20), async || {
        let ran = daemon.home.run(&["status"]).await.succeeded();
        ran.all().contains("comand").then_some(())
    })
    .await;
    assert_eq!(daemon.ready_pid("notes").await, notes, "a wrong file changes nothing");
}

#[tokio::test]
async fn a_projects_server_waits_for_approval_and_a_changed_line_asks_again() {
    let home = Home::new();
    let project =
        |arguments: &[&str]| json!({"mcpServers": {"theirs": {"command": FAKE, "args": arguments}}}).to_string();
    // A project lies below the home: a file directly in it would be the user's own.
    home.write("project/.mcp.json", &project(&[]));
    let config = Config::new().fake("ours", &[]).importing("project/.mcp.json");
    let daemon = Daemon::settled(home, &config).await;
    daemon.ready_pid("ours").await;
    let waiting = daemon.server("theirs").await;
    assert_eq!((&waiting["state"], &waiting["last_fault"]["class"]), (&json!("needs_action"), &json!("consent")));
    daemon.home.run(&["why", "theirs"]).await.says(&["ostler approve theirs"]);
    daemon.home.run(&["approve", "theirs", "--yes"]).await.succeeded().says(&[FAKE]);
    daemon.ready_pid("theirs").await;
    daemon.home.write("project/.mcp.json", &project(&["--product", "392"]));
    daemon
        .wait_for("theirs", |server| server["last_fault"]["class"] == "consent" && server["state"] == "needs_action")
        .await;
}

#[tokio::test]
async fn a_new_daemon_knows_what_a_person_had_stopped_and_what_the_others_had_listed() {
    let config = Config::new().fake("math", &[]).fake("notes", &[]);
    let mut first = Daemon::with(&config).await;
    first.ready_pid("math").await;
    first.ready_pid("notes").await;
    first.home.run(&["stop", "notes"]).await.succeeded();
    first.wait_for("notes", |server| server["state"] == "stopped").await;
    first.signal(Signal::SIGTERM);
    assert!(first.exited(Duration::from_secs(10)).await.success());
    let config = Config::new().fake("math", &[]).fake("notes", &[]);
    let second = Daemon::start(Arc::clone(&first.home), &config).await;
    second.ready_pid("math").await;
    assert_eq!(
        second.server("notes").await["state"],
        json!("stopped"),
        "a person stopped it, a restart does not start it"
    );
}
