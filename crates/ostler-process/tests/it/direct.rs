//! Children without a reaper: the same promises, as far as process groups and marks carry.

use std::time::Duration;

use crate::support::*;
use ostler_core::status::{Exit, FaultClass};
use ostler_process::{Ladder, Launch, Reaper, ReaperOptions};

/// This program never called `intercept`.
fn without_reaper() -> Reaper {
    Reaper::start(ReaperOptions::default())
}

#[tokio::test]
async fn an_exit_is_told_and_nothing_outlives_it() {
    let reaper = without_reaper();
    assert_eq!(reaper.pid(), None);
    let (lease, dropped) = lease();
    let text = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; sleep 1000 & echo $!; read go; exit 7";
    let mut child = soon(reaper.spawn(script(text), lease)).await.unwrap();
    let stdin = child.take_stdin();
    let mut lines = lines(&mut child);
    let below = [next_pid(&mut lines).await, next_pid(&mut lines).await];
    drop(stdin);
    assert_eq!(soon(child.exited()).await, Exit::Code(7));
    soon(child.released()).await;
    soon(dropped).await.unwrap_err();
    for pid in below {
        assert!(!is_alive(pid), "{pid}");
    }
}

#[tokio::test]
async fn a_stop_climbs_the_ladder() {
    let reaper = without_reaper();
    let mut child = spawn(&reaper, script("trap '' TERM; echo up; while :; do sleep 1000; done")).await;
    next_line(&mut lines(&mut child)).await;
    drop(child.take_stdin());
    soon(child.stop(Ladder { eof: Duration::from_millis(20), term: Duration::from_millis(50) })).await;
    assert_eq!(soon(child.exited()).await, Exit::Signal(9));
}

#[tokio::test]
async fn a_dropped_child_and_a_shutdown_end_trees() {
    let reaper = without_reaper();
    let dropped = spawn(&reaper, launch("sleep", &["1000"])).await;
    let kept = spawn(&reaper, launch("sleep", &["1000"])).await;
    let first = dropped.pid();
    drop(dropped);
    gone(first).await;
    reaper.shutdown(now() + PATIENCE).await;
    assert!(!is_alive(kept.pid()));
    assert_eq!(soon(kept.exited()).await, Exit::Signal(9));
    assert_eq!(reaper.spawn(script("exit 0"), lease().0).await.unwrap_err().to_string(), "shutting down");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_apart() {
    let reaper = without_reaper();
    let class = async |launch: Launch| reaper.spawn(launch, lease().0).await.unwrap_err().fault().class;
    assert_eq!(class(launch("no-such-program", &[])).await, FaultClass::NotFound);
    let astray = Launch { cwd: Some("/no/such/folder".into()), ..script("exit 0") };
    assert_eq!(class(astray).await, FaultClass::BadConfig);
}
