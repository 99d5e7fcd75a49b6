//! The commands of an operator: status, why, orders to groups, logs, approvals.

use super::*;
use crate::http::dto::ReloadDto;

fn in_group(fake: &Fake, group: &str, names: &[&str]) {
    let mut servers = fake.servers.lock().expect("unpoisoned");
    for name in names {
        let mut new = server(name, "ready");
        new.group = Some(group.to_owned());
        servers.push(new);
    }
}

fn orders(fake: &Fake) -> Vec<(String, Verb)> {
    fake.orders.lock().expect("unpoisoned").clone()
}

#[tokio::test]
async fn a_status_is_one_line_and_the_table() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let ran = daemon.run(&["status"]).await;
    assert_eq!(ran.exit, Exit::Success, "{}", ran.err);
    insta::assert_snapshot!(ran.out, @r#"
2 servers: 2 ready; 3 tools; up 1 ms
NAME   STATE  TOOLS  PID  INC.  UPTIME  RESTARTS  NEXT TRY / WHY
math   ready  2      11   1     0 ms    0         -
notes  ready  1      12   1     0 ms    0         -
"#);
    let ran = daemon.run(&["status", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&report["pid"], &report["servers"][1]["server"]), (&1.into(), &"notes".into()));
    *fake.reload.lock().expect("unpoisoned") =
        ReloadDto { refused: Some("ostler.toml:3: servers.math.command is missing".to_owned()), waiting: Vec::new() };
    let ran = daemon.run(&["status"]).await;
    assert!(ran.out.contains("  ostler.toml:3: servers.math.command is missing\n"), "{}", ran.out);
}

#[tokio::test]
async fn a_status_is_of_a_daemon() {
    let ran = run(&Stub::default(), &["--socket", "/nonexistent/s", "status"]).await;
    let said = "error: no daemon on /nonexistent/s\n  hint: start one with 'ostler up'\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Daemon, said));
    assert_eq!(run(&Stub::default(), &["--standalone", "status"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn a_watched_status_is_shown_until_its_daemon_ends() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let (out, seen) = (Written::default(), Written::default());
    let path = daemon.home.path().join("s");
    let line = ["ostler", "--socket", path.to_str().expect("text"), "status", "--watch"];
    let cli = Cli::try_parse_from(line).expect("it parses");
    let mut console = Console::new(Box::new(out.clone()), Box::new(seen), Style::Plain);
    let house = Stub::default();
    let watch = execute(cli, &house, &mut console);
    let ends = async {
        while out.text().matches("2 servers: 2 ready; 3 tools").count() < 2 {
            tokio::task::yield_now().await;
        }
        drop(daemon);
    };
    let (exit, ()) = tokio::join!(watch, ends);
    assert_eq!(exit, Exit::Daemon);
    assert!(out.text().contains("\n\n2 servers"), "{}", out.text());
}

#[tokio::test]
async fn a_why_is_the_same_from_a_daemon_and_from_a_fleet_of_our_own() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    for line in [&["why", "math"][..], &["why", "math", "--json"], &["why", "no such/thing"]] {
        let joined = daemon.run(line).await;
        let house = Stub::with(&fake);
        let alone = run(&house, &[&["--standalone"], line].concat()).await;
        let expected = if line[1] == "math" { Exit::Success } else { Exit::Answer };
        assert_eq!((joined.exit, alone.exit), (expected, expected), "{line:?} {}", joined.err);
        assert_eq!((joined.out, joined.err), (alone.out, alone.err), "{line:?}");
        assert_eq!(house.stopped.load(Ordering::SeqCst), 1);
    }
    let ran = daemon.run(&["why", "no such/thing"]).await;
    assert_eq!(ran.out, "what is known of 'no such/thing'\nwhat to do\n  1. Do this.\n  2. Or that.\n");
}

#[tokio::test]
async fn a_group_is_restarted_one_after_the_other() {
    let fake = Fake::new();
    in_group(&fake, "tools", &["one", "two"]);
    let daemon = Daemon::start(&fake);
    let ran = daemon.run(&["restart", "--group", "tools"]).await;
    assert_eq!(ran.exit, Exit::Success, "{}", ran.err);
    let names: Vec<_> = ran.out.lines().map(|line| line.split(" after").next().expect("a part")).collect();
    assert_eq!(names, ["one is ready again", "two is ready again"]);
    assert_eq!(orders(&fake), [("one".to_owned(), Verb::Restart), ("two".to_owned(), Verb::Restart)]);
    let ran = daemon.run(&["stop", "one", "two"]).await;
    assert_eq!(ran.out, "one is being stopped\ntwo is being stopped\n");
    let ran = daemon.run(&["start", "--group", "tool"]).await;
    let said = "error: no server is in the group 'tool'\n  hint: did you mean 'tools'?\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Usage, said));
}

#[tokio::test]
async fn a_rolling_restart_waits_for_each_and_says_who_failed() {
    let fake = Fake::new();
    in_group(&fake, "tools", &["bad", "good", "off"]);
    fake.enter("bad", "starting", 1);
    fake.enter("off", "disabled", 1);
    let daemon = Daemon::start(&fake);
    let fails = async {
        // Only the first is ordered while it is starting.
        while orders(&fake).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(orders(&fake).len(), 1);
        fake.enter("bad", "backoff", 2);
    };
    let (ran, ()) = tokio::join!(daemon.run(&["restart", "--group", "tools"]), fails);
    assert_eq!(ran.exit, Exit::Answer);
    let names: Vec<_> = ran.out.lines().map(|line| line.split(" after").next().expect("a part")).collect();
    assert_eq!(names, ["bad is backoff", "good is ready again"]);
    assert_eq!(ran.err, "switched off in the configuration: off\nnot up: bad; 'ostler why bad' says why\n");
}

#[tokio::test]
async fn logs_are_lines_with_what_is_missing_told_aside() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let ran = daemon.run(&["logs", "math"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, "one\nfour\n"));
    assert_eq!(ran.err, "(2 lines of a flood were dropped here)\n");
    let ran = daemon.run(&["logs", "-f", "math"]).await;
    assert_eq!(ran.out, "one\nfour\nagain\n");
    assert!(ran.err.ends_with("(math was started again)\n"), "{}", ran.err);
    let ran = daemon.run(&["logs", "math", "--json"]).await;
    assert_eq!(ran.out.lines().next(), Some(r#"{"kind":"line","number":1,"text":"one"}"#));
    let ran = daemon.run(&["logs", "mth"]).await;
    assert_eq!((ran.exit, ran.err.contains("did you mean 'math'?")), (Exit::Answer, true));
}

async fn approve(house: &dyn House, line: &[&str], answer: &'static str) -> Ran {
    let (out, err) = (Written::default(), Written::default());
    let console = Console::new(Box::new(out.clone()), Box::new(err.clone()), Style::Plain);
    let mut console = console.with_answers(Box::new(|| Ok(answer.to_owned())));
    let cli = Cli::try_parse_from([&["ostler"], line].concat()).expect("it parses");
    let exit = execute(cli, house, &mut console).await;
    Ran { exit, out: out.text(), err: err.text() }
}

#[tokio::test]
async fn an_approval_is_asked_for_and_given_only_by_a_yes() {
    let fake = Fake::new();
    let house = Stub::with(&fake);
    let line = ["--standalone", "approve", "math"];
    let shown = "math\n  from  /code/site/.mcp.json\n  runs  npx -y thing@1.2.3 (program /usr/bin/npx)\n";
    let ran = run(&house, &line).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Usage, shown));
    assert!(ran.err.contains("add --yes"), "{}", ran.err);
    for answer in ["\n", "n\n", "", "yess\n"] {
        let ran = approve(&house, &line, answer).await;
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Answer, shown), "{answer:?}");
        assert_eq!(ran.err, "may this be run as you? [y/N] not approved\n");
    }
    let ran = approve(&house, &line, "Y\n").await;
    assert_eq!((ran.exit, ran.out), (Exit::Success, format!("{shown}math is approved\n")));
    let ran = run(&house, &line).await;
    assert_eq!((ran.exit, ran.out), (Exit::Success, format!("{shown}it is approved already\n")));
}

#[tokio::test]
async fn an_approval_reaches_the_daemon() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let ran = daemon.run(&["approve", "math", "--yes"]).await;
    assert_eq!(ran.exit, Exit::Success, "{}", ran.err);
    assert!(ran.out.ends_with("math is approved, and started if it was waiting for that\n"), "{}", ran.out);
    assert_eq!(fake.launch.lock().expect("unpoisoned").approval, Approval::Given);
}

#[tokio::test]
async fn a_bad_configuration_is_told_before_any_fleet_is_started() {
    let ran = run(&Stub::default(), &["--socket", "/nonexistent/s", "tools"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Usage, "error: no servers\n"));
}

#[tokio::test]
async fn an_interrupted_command_says_that_its_servers_are_being_ended() {
    let close = async |done: Result<(), Failure>| {
        let house = Stub::with(&Fake::new());
        let err = Written::default();
        let mut console = Console::new(Box::new(io::sink()), Box::new(err.clone()), Style::Plain);
        let client = client::Client::Local(house.start(None).await.expect("a fleet"));
        client.close(&done, &mut console).await;
        assert_eq!(house.stopped.load(Ordering::SeqCst), 1);
        err.text()
    };
    assert_eq!(close(Err(Failure::silent(Exit::Interrupted))).await, "ending the servers …\n");
    assert_eq!(close(Ok(())).await, "");
    assert_eq!(close(Err(Failure::silent(Exit::Answer))).await, "");
}
