//! As process 1 of a container: orphans are reaped, and nobody is robbed of a child.

use std::process::{Command, Stdio};

use crate::support::*;
use nix::sys::signal::Signal;

const NAMESPACE: &[&str] = &["--pid", "--fork", "--kill-child"];

fn can_have_a_namespace() -> bool {
    let mut command = Command::new("unshare");
    command.args(NAMESPACE).args(["--mount-proc", "true"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

async fn as_process_one(options: &[&str], test: &str) {
    if !can_have_a_namespace() {
        // Then we are somebody's child like any other, and have no such duty.
        assert_ne!(std::process::id(), 1);
        return;
    }
    let run = tokio::process::Command::new("unshare")
        .args(NAMESPACE)
        .args(options)
        .arg(std::env::current_exe().expect("we have a path"))
        .args(["--exact", test, "--nocapture"])
        .env("BE_PROCESS_ONE", "1")
        .kill_on_drop(true)
        .output();
    let run = soon(run).await.expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("all is well"), "{said}{}", String::from_utf8_lossy(&run.stderr));
}

fn is_process_one() -> bool {
    std::env::var_os("BE_PROCESS_ONE").is_some() && std::process::id() == 1
}

/// The dead that wait for process 1.
fn dead() -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").expect("it is mounted");
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_dead = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with("Z 1 "))
    };
    pids.filter(is_dead).collect()
}

#[tokio::test]
async fn process_one_reaps_orphans_and_robs_nobody() {
    as_process_one(&["--mount-proc"], "init::be_process_one").await;
}

/// Not a test of its own. Does nothing unless it is told to be that.
#[tokio::test]
async fn be_process_one() {
    if !is_process_one() {
        return;
    }
    let reaper = reaper();
    let text = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; sleep 1000 & sleep 1000";
    let mut child = spawn(&reaper, script(text)).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    // Somebody in this program keeps a dead child for longer than orphans are kept.
    let mut kept = Command::new("true").spawn().unwrap();
    until(|| dead() == [kept.id()]).await;
    // The death of the reaper makes us the parent of all that it kept.
    send(reaper.pid().unwrap(), Signal::SIGKILL);
    soon(child.released()).await;
    assert_eq!((is_alive(child.pid()), is_alive(daemon)), (false, false));
    until(|| dead() == [kept.id()]).await;
    assert!(kept.wait().expect("it is still ours to wait for").success());
    let status = soon(tokio::process::Command::new("sh").args(["-c", "exit 3"]).status()).await.unwrap();
    assert_eq!(status.code(), Some(3));
    println!("all is well");
}

#[tokio::test]
async fn in_a_namespace_with_a_foreign_proc_nobody_else_is_killed() {
    as_process_one(&[], "init::be_process_one_under_a_foreign_proc").await;
}

/// Not a test of its own. Does nothing unless it is told to be that.
#[tokio::test]
async fn be_process_one_under_a_foreign_proc() {
    if !is_process_one() {
        return;
    }
    let reaper = reaper();
    let bystander = spawn(&reaper, script("sleep 1000")).await;
    let child = spawn(&reaper, script("sleep 1000 & sleep 1000")).await;
    child.kill();
    soon(child.released()).await;
    let group = nix::unistd::Pid::from_raw(child.pid().cast_signed());
    until(|| nix::sys::signal::killpg(group, None).is_err()).await;
    let alive = nix::unistd::Pid::from_raw(bystander.pid().cast_signed());
    assert!(nix::sys::signal::kill(alive, None).is_ok());
    drop(bystander);
    reaper.shutdown(now() + PATIENCE).await;
    assert!(nix::sys::signal::kill(alive, None).is_err());
    println!("all is well");
}
