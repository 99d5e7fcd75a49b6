//! The reaper is killed while calls run: every server dies with it, every call ends, and every server comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::process::reaper;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::config::Config;
use crate::support::daemon::Daemon;
use crate::support::home::Home;
use crate::support::process::{self, Known, descendants};
use crate::support::wait;

const SERVERS: usize = 8;

fn name(number: usize) -> String {
    format!("s{number}")
}

/// Servers of which one is deaf and has a daemon of its own.
async fn fleet() -> Daemon {
    let home = Home::new();
    let hidden = home.text("hidden");
    let mut config = Config::new().quick_restarts();
    for number in 0..SERVERS {
        let stubborn = ["--ignore-eof", "--ignore-sigterm", "--daemonise", &hidden];
        config = config.fake(&name(number), if number == 0 { &stubborn } else { &[] });
    }
    Daemon::settled(home, &config).await
}

async fn pids(daemon: &Daemon) -> Vec<u32> {
    let mut pids = Vec::new();
    for number in 0..SERVERS {
        pids.push(daemon.ready_pid(&name(number)).await);
    }
    pids
}

#[tokio::test]
async fn a_killed_reaper_ends_every_incarnation_and_no_call_stays_without_an_end() {
    let daemon = Arc::new(fleet().await);
    let before = pids(&daemon).await;
    let old_reaper = reaper(daemon.pid()).expect("the daemon has a reaper");
    let known = Known(descendants(daemon.pid()));

    let is_over = Arc::new(AtomicBool::new(false));
    let mut callers: JoinSet<Vec<Result<Value, Value>>> = JoinSet::new();
    for number in 0..SERVERS {
        let (daemon, is_over) = (Arc::clone(&daemon), Arc::clone(&is_over));
        callers.spawn(async move {
            let mut ends = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                // A call that does not end in 20 seconds panics here.
                ends.push(daemon.call(&format!("{}__slow", name(number)), json!({"ms": 200})).await);
            }
            ends
        });
    }
    let in_flight = async || (daemon.count("ostler_server_in_flight", &[]).await >= 4).then_some(());
    wait::until("calls in flight", Duration::from_secs(10), in_flight).await;

    process::send(old_reaper, Signal::SIGKILL);
    wait::until(("the end of all of", &known.0), Duration::from_secs(5), async || {
        known.survivors().is_empty().then_some(())
    })
    .await;
    for (number, pid) in before.iter().enumerate() {
        let is_back = |server: &Value| server["state"] == "ready" && server["pid"] != *pid;
        let server = daemon.wait_for(&name(number), is_back).await;
        assert_eq!(server["restarts"], 1, "one death is one restart: {server:#}");
        assert!(server["last_fault"].is_object(), "{server:#}");
    }
    let new_reaper = reaper(daemon.pid()).expect("the daemon has a reaper again");
    assert_ne!(new_reaper, old_reaper);

    is_over.store(true, Ordering::Relaxed);
    let mut lost = 0;
    while let Some(ends) = callers.join_next().await {
        let ends = ends.expect("no call stays without an end");
        assert!(ends.last().is_some_and(Result::is_ok), "the last call came after the restart: {:?}", ends.last());
        lost += ends.iter().filter(|end| matches!(end, Err(error) if error["code"] == "server_lost")).count();
    }
    assert!(lost >= 1, "calls were in flight when the reaper died");
    let now = Known(descendants(daemon.pid()));
    assert!(now.0.len() > SERVERS, "the servers run below the new reaper: {:?}", now.0);
}
