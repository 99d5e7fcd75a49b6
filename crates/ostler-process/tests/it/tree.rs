//! How trees end: by themselves, step by step, at once, and with whoever kept them.

use std::future::Future;
use std::process::Stdio;
use std::task::Poll;
use std::time::Duration;

use crate::support::*;
use nix::sys::signal::Signal;
use ostler_core::status::Exit;
use ostler_process::Ladder;
use tokio::io::{AsyncBufReadExt, BufReader};

/// A process that left group, session and parent behind, and says its id.
const DAEMON: &str = "(setsid sh -c 'echo $$; exec sleep 1000' &) ;";

const FAST: Ladder = Ladder { eof: Duration::from_millis(50), term: Duration::from_millis(200) };
const PATIENT: Ladder = Ladder { eof: PATIENCE, term: PATIENCE };

#[tokio::test]
async fn the_exit_of_the_leader_is_told_exactly() {
    let reaper = reaper();
    let check = async |text: &str, expected: Exit| {
        let child = spawn(&reaper, script(text)).await;
        assert_eq!(soon(child.exited()).await, expected, "{text}");
        soon(child.released()).await;
        assert_eq!(soon(child.exited()).await, expected, "{text}, after the release");
    };
    check("exit 0", Exit::Code(0)).await;
    check("exit 3", Exit::Code(3)).await;
    check("exit 255", Exit::Code(255)).await;
    check("kill -TERM $$", Exit::Signal(15)).await;
    check("kill -SEGV $$", Exit::Signal(11)).await;
    // A real-time signal.
    check("kill -40 $$", Exit::Signal(40)).await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_delays_no_exit_and_does_not_outlive_it() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script("sleep 1000 & echo $!; read go; exit 7")).await;
    let mut stdin = child.take_stdin().unwrap();
    let grandchild = next_pid(&mut lines(&mut child)).await;
    assert!(is_alive(grandchild));
    let asked = now();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"go\n").await.unwrap();
    assert_eq!(soon(child.exited()).await, Exit::Code(7));
    soon(child.released()).await;
    assert!(!is_alive(grandchild));
    assert!(now() - asked < Duration::from_secs(2), "{:?}", now() - asked);
}

#[tokio::test]
async fn a_daemonised_process_ends_with_its_server() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script(&format!("{DAEMON} read go"))).await;
    let stdin = child.take_stdin().unwrap();
    let daemon = next_pid(&mut lines(&mut child)).await;
    assert!(is_alive(daemon));
    drop(stdin);
    soon(child.released()).await;
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn a_daemonised_process_ends_even_in_the_middle_of_an_exec() {
    let reaper = reaper();
    let folder = tempfile::tempdir().unwrap();
    let restless = folder.path().join("restless");
    // During an exec a process has no environment that could tell whose it is.
    write_script(&restless, "#!/bin/sh\nexec \"$0\"\n", 0o755);
    for _ in 0..20 {
        let mut launch = script("(setsid sh -c 'echo $$; exec \"$RESTLESS\"' &) ; sleep 1000");
        launch.env = vec![("RESTLESS".into(), restless.clone().into())];
        let mut child = spawn(&reaper, launch).await;
        let daemon = next_pid(&mut lines(&mut child)).await;
        child.kill();
        soon(child.released()).await;
        assert!(!is_alive(daemon));
    }
}

#[tokio::test]
async fn a_daemonised_process_of_another_server_lives_on() {
    let reaper = reaper();
    let mut first = spawn(&reaper, script(&format!("{DAEMON} sleep 1000"))).await;
    let mut second = spawn(&reaper, script(&format!("{DAEMON} sleep 1000"))).await;
    let first_daemon = next_pid(&mut lines(&mut first)).await;
    let second_daemon = next_pid(&mut lines(&mut second)).await;
    first.kill();
    soon(first.released()).await;
    assert_eq!((is_alive(first_daemon), is_alive(second_daemon)), (false, true));
    assert!(is_alive(second.pid()));
    drop(second);
    gone(second_daemon).await;
}

#[tokio::test]
async fn a_server_that_exits_on_a_closed_stdin_gets_no_signal() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script("trap 'exit 9' TERM; read go; exit 4")).await;
    drop(child.take_stdin());
    soon(child.stop(PATIENT)).await;
    assert_eq!(soon(child.exited()).await, Exit::Code(4));
}

#[tokio::test]
async fn a_server_that_ignores_a_closed_stdin_gets_sigterm() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done")).await;
    next_line(&mut lines(&mut child)).await;
    drop(child.take_stdin());
    soon(child.stop(Ladder { eof: Duration::from_millis(50), term: PATIENCE })).await;
    assert_eq!(soon(child.exited()).await, Exit::Code(9));
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_with_its_daemon() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script(&format!("trap '' TERM; {DAEMON} while :; do sleep 1000; done"))).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    drop(child.take_stdin());
    soon(child.stop(FAST)).await;
    assert_eq!(soon(child.exited()).await, Exit::Signal(9));
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn in_an_asked_stop_the_server_below_a_wrapper_has_its_time() {
    let reaper = reaper();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    // The wrapper dies of SIGTERM at once; what it wraps saves its work first.
    let wrapped = "trap 'sleep 0.1; echo work > \"$SAVED\"; exit' TERM; echo up; while :; do sleep 0.01; done";
    let mut launch = script(&format!("sh -c '{}' & wait", wrapped.replace('\'', "'\\''")));
    launch.env = vec![("SAVED".into(), saved.clone().into())];
    let mut child = spawn(&reaper, launch).await;
    next_line(&mut lines(&mut child)).await;
    soon(child.stop(Ladder { eof: Duration::ZERO, term: PATIENCE })).await;
    assert_eq!(soon(child.exited()).await, Exit::Signal(15));
    assert_eq!(std::fs::read_to_string(saved).unwrap(), "work\n");
}

#[tokio::test]
async fn a_stopped_process_can_be_killed() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script("echo up; kill -STOP $$")).await;
    next_line(&mut lines(&mut child)).await;
    child.kill();
    assert_eq!(soon(child.exited()).await, Exit::Signal(9));
    soon(child.released()).await;
}

#[tokio::test]
async fn a_dropped_child_is_killed_and_its_lease_given_back_afterwards() {
    let reaper = reaper();
    let (lease, dropped) = lease();
    let launch = script(&format!("{DAEMON} sleep 1000"));
    let mut child = soon(reaper.spawn(launch, lease)).await.unwrap();
    let daemon = next_pid(&mut lines(&mut child)).await;
    let leader = child.pid();
    drop(child);
    soon(dropped).await.unwrap_err();
    assert_eq!((is_alive(leader), is_alive(daemon)), (false, false));
}

#[tokio::test]
async fn a_spawn_that_is_given_up_leaves_nothing() {
    let reaper = reaper();
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let file = folder.path().join(round.to_string());
        let mut launch = script("echo $$ > \"$FILE\"; exec sleep 1000");
        launch.env = vec![("FILE".into(), file.clone().into())];
        let (lease, dropped) = lease();
        let mut spawn = Box::pin(reaper.spawn(launch, lease));
        // Given up at another moment each time: after some polls, with other tasks in between.
        for _ in 0..round {
            tokio::select! {
                biased;
                child = &mut spawn => {
                    drop(child);
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
        drop(spawn);
        soon(dropped).await.unwrap_err();
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(written.trim().parse().map_or(true, |pid: u32| !is_alive(pid)), "round {round}");
    }
}

#[tokio::test]
async fn a_spawn_that_is_given_up_when_the_server_already_runs_leaves_nothing() {
    let reaper = reaper();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut launch = script("echo $$ > \"$FILE.new\"; mv \"$FILE.new\" \"$FILE\"; exec sleep 1000");
    launch.env = vec![("FILE".into(), file.clone().into())];
    let (lease, dropped) = lease();
    let mut spawn = Box::pin(reaper.spawn(launch, lease));
    // Polled until it waits for the look at its program, and once more, which sends the order. A quick look makes the second
    // poll the one that brings the child.
    let mut polls = 0;
    let early = std::future::poll_fn(|context| {
        polls += 1;
        match spawn.as_mut().poll(context) {
            Poll::Ready(child) => Poll::Ready(Some(child)),
            Poll::Pending if polls == 2 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    until(|| file.exists()).await;
    let pid = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(is_alive(pid));
    drop((spawn, early));
    soon(dropped).await.unwrap_err();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_reaper_that_hangs_is_replaced_and_its_trees_ended() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script(&format!("{DAEMON} sleep 1000"))).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    send(reaper.pid().unwrap(), Signal::SIGSTOP);
    // Now every wait that nothing ends is over at once.
    tokio::time::pause();
    child.kill();
    assert_eq!(child.exited().await, Exit::Signal(9));
    assert!(child.reaper_lost());
    child.released().await;
    tokio::time::resume();
    assert_eq!((is_alive(child.pid()), is_alive(daemon)), (false, false));
    let next = spawn(&reaper, script("exit 2")).await;
    assert_eq!(soon(next.exited()).await, Exit::Code(2));
}

#[tokio::test]
async fn a_dead_reaper_ends_every_tree_and_the_next_spawn_works() {
    let reaper = reaper();
    let (lease, dropped) = lease();
    let mut first = soon(reaper.spawn(script(&format!("{DAEMON} exec sleep 1000")), lease)).await.unwrap();
    let second = spawn(&reaper, launch("sleep", &["1000"])).await;
    let daemon = next_pid(&mut lines(&mut first)).await;
    let dead = reaper.pid().unwrap();
    send(dead, Signal::SIGKILL);
    assert_eq!(soon(first.exited()).await, Exit::Signal(9));
    assert_eq!(soon(second.exited()).await, Exit::Signal(9));
    assert!(first.reaper_lost() && second.reaper_lost());
    soon(first.released()).await;
    soon(second.released()).await;
    soon(dropped).await.unwrap_err();
    for pid in [first.pid(), second.pid(), daemon] {
        assert!(!is_alive(pid), "{pid}");
    }
    let third = spawn(&reaper, script("exit 5")).await;
    assert_eq!(soon(third.exited()).await, Exit::Code(5));
    assert_ne!(reaper.pid(), Some(dead));
    soon(third.released()).await;
    assert!(first.reaper_lost() && !third.reaper_lost());
}

#[tokio::test]
async fn a_terminals_signals_reach_neither_reaper_nor_servers() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script("echo up; read go; exit 6")).await;
    next_line(&mut lines(&mut child)).await;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        send(reaper.pid().unwrap(), signal);
    }
    let session = |pid: u32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.cast_signed()))).unwrap();
    assert_ne!(session(child.pid()), session(std::process::id()));
    let next = spawn(&reaper, script("exit 0")).await;
    assert_eq!(soon(next.exited()).await, Exit::Code(0));
    drop(child.take_stdin());
    assert_eq!(soon(child.exited()).await, Exit::Code(6));
}

#[tokio::test]
async fn a_shutdown_leaves_no_process_and_refuses_spawns() {
    let reaper = reaper();
    let mut child = spawn(&reaper, script(&format!("trap '' TERM; {DAEMON} sleep 1000"))).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    let own = reaper.pid().unwrap();
    reaper.shutdown(now() + PATIENCE).await;
    for pid in [child.pid(), daemon, own] {
        assert!(!is_alive(pid), "{pid}");
    }
    let error = reaper.spawn(script("exit 0"), lease().0).await.unwrap_err();
    assert_eq!(error.to_string(), "shutting down");
}

#[tokio::test]
async fn the_reaper_ends_when_its_last_handle_and_child_are_dropped() {
    let reaper = reaper();
    let child = spawn(&reaper, launch("sleep", &["1000"])).await;
    let (own, leader) = (reaper.pid().unwrap(), child.pid());
    drop(reaper);
    drop(child);
    gone(leader).await;
    gone(own).await;
}

#[tokio::test]
async fn a_hundred_trees_end_at_once() {
    let reaper = reaper();
    let starts = (0..100).map(|_| {
        let reaper = reaper.clone();
        tokio::spawn(async move { spawn(&reaper, script("sleep 1000 & sleep 1000")).await })
    });
    let mut children = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        children.push(start.await.unwrap());
    }
    for child in &children {
        child.kill();
    }
    for child in &children {
        soon(child.released()).await;
        assert!(!is_alive(child.pid()));
    }
}

/// Not a test of its own: the process that the next test kills. Does nothing unless it is told to be that.
#[tokio::test]
async fn be_an_owner_that_is_killed() {
    if std::env::var_os("BE_AN_OWNER").is_none() {
        return;
    }
    let reaper = reaper();
    let mut child = spawn(&reaper, script(&format!("trap '' TERM HUP; {DAEMON} while :; do sleep 1000; done"))).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    println!("pids {} {} {daemon}", reaper.pid().unwrap(), child.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing_behind() {
    let mut owner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tree::be_an_owner_that_is_killed", "--nocapture"])
        .env("BE_AN_OWNER", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = loop {
        let line = soon(output.next_line()).await.unwrap().expect("the owner says its processes");
        if let Some((_, pids)) = line.split_once("pids ") {
            break pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
        }
    };
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let killed = now();
    soon(owner.kill()).await.unwrap();
    for pid in pids {
        gone(pid).await;
    }
    assert!(now() - killed < Duration::from_secs(1), "{:?}", now() - killed);
}
