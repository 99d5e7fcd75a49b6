//! What runs away from its server, or is hard to see: it ends nevertheless, and nothing is called released that runs.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;
use nix::unistd::{Pid, setpgid};
use ostler_core::status::Exit;
use ostler_process::{Child, Launch, Reaper, ReaperOptions};

fn both() -> [Reaper; 2] {
    [reaper(), Reaper::start(ReaperOptions::default())]
}

/// A program with a long name, which the kernel cuts in the middle of a character.
fn unreadable(folder: &Path) -> PathBuf {
    let program = folder.join("mcp-\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}-\u{437}");
    std::fs::copy("/bin/sleep", &program).expect("the folder is ours");
    program
}

fn is_unreadable(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| std::str::from_utf8(&name).is_err())
}

#[tokio::test]
async fn a_process_whose_name_is_no_text_ends_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    for reaper in both() {
        let mut launch = script("(setsid sh -c 'echo $$; exec \"$PROGRAM\" 1000' &) ; read go");
        launch.env = vec![("PROGRAM".into(), unreadable(folder.path()).into())];
        let mut child = spawn(&reaper, launch).await;
        let stdin = child.take_stdin();
        let daemon = next_pid(&mut lines(&mut child)).await;
        until(|| is_unreadable(daemon)).await;
        drop(stdin);
        soon(child.released()).await;
        assert!(!is_alive(daemon));
    }
}

#[tokio::test]
async fn a_process_whose_name_is_no_text_hinders_no_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let reaper = reaper();
    let mut launch = script("(setsid sh -c 'echo $$; exec \"$PROGRAM\" 1000' &) ; sleep 1000");
    launch.env = vec![("PROGRAM".into(), unreadable(folder.path()).into())];
    let mut child = spawn(&reaper, launch).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    until(|| is_unreadable(daemon)).await;
    let own = reaper.pid().unwrap();
    reaper.shutdown(now() + PATIENCE).await;
    assert_eq!([child.pid(), daemon, own].map(is_alive), [false, false, false]);
}

async fn leaver(reaper: &Reaper) -> Child {
    let program = std::env::current_exe().expect("we have a path");
    let mut launch = launch(program, &["--exact", "escape::be_a_leader_that_leaves", "--nocapture"]);
    launch.env = vec![("BE_A_LEADER_THAT_LEAVES".into(), "1".into())];
    let mut child = spawn(reaper, launch).await;
    let mut lines = lines(&mut child);
    while next_line(&mut lines).await != "I have left" {}
    child
}

/// Not a test of its own: a server that drops its environment and its group. Does nothing unless it is told to be that.
#[tokio::test]
async fn be_a_leader_that_leaves() {
    if std::env::var_os("BE_A_LEADER_THAT_LEAVES").is_none() {
        return;
    }
    if std::env::var_os("OSTLER_COOKIE").is_some() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let error = again.args(std::env::args_os().skip(1)).env_clear().env("BE_A_LEADER_THAT_LEAVES", "1").exec();
        panic!("{error}");
    }
    // It ends with us: without a reaper nobody else could end it.
    let mut other = Command::new("cat").process_group(0).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = other.stdin.take();
    setpgid(Pid::from_raw(0), Pid::from_raw(other.id().cast_signed())).unwrap();
    println!("\nI have left");
    other.wait().unwrap();
    drop(stdin);
}

#[tokio::test]
async fn a_leader_that_left_its_group_and_its_environment_is_not_released_alive() {
    for reaper in both() {
        let child = leaver(&reaper).await;
        child.kill();
        soon(child.released()).await;
        assert!(!is_alive(child.pid()));
        assert_eq!(soon(child.exited()).await, Exit::Signal(9));
    }
}

/// A process that left all by which it could be known.
const STRAY: &str = "(setsid env -i /bin/sh -c 'echo $$; exec /bin/sleep 1000' &) ;";

#[tokio::test]
async fn what_nothing_tells_of_ends_with_the_last_server() {
    let reaper = reaper();
    let mut first = spawn(&reaper, script(&format!("{STRAY} sleep 1000"))).await;
    let second = spawn(&reaper, launch("sleep", &["1000"])).await;
    let mut stray = lines(&mut first);
    let stray = next_pid(&mut stray).await;
    until(|| std::fs::read(format!("/proc/{stray}/comm")).is_ok_and(|name| name == b"sleep\n")).await;
    first.kill();
    soon(first.released()).await;
    assert!(is_alive(stray), "it could be the other's");
    second.kill();
    soon(second.released()).await;
    assert!(!is_alive(stray));
}

#[tokio::test]
async fn a_reaper_that_cannot_look_releases_nothing() {
    let reaper = reaper();
    let text = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; sleep 1000";
    let mut child = spawn(&reaper, Launch { ..script(text) }).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    let descriptors = |limit: &str| {
        let mut command = Command::new("prlimit");
        command.args([format!("--pid={}", reaper.pid().expect("it lives")), format!("--nofile={limit}:")]);
        assert!(command.status().expect("it is installed").success());
    };
    descriptors("3");
    child.kill();
    assert_eq!(soon(child.exited()).await, Exit::Signal(9));
    descriptors("256");
    soon(child.released()).await;
    assert!(!is_alive(daemon));
}
