//! The end of the daemon: whatever it started is gone, also what hides, and also when it had no time to do anything.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::config::Config;
use crate::support::daemon::Daemon;
use crate::support::home::Home;
use crate::support::process::{Known, descendants, wait_for_listed};
use crate::support::wait;

/// A daemon over a stubborn server with a daemonised grandchild and over a good one, and every process below it.
async fn stubborn() -> (Daemon, Known) {
    let home = Home::new();
    let (hidden, pids) = (home.text("hidden"), home.text("pids"));
    let stubborn = ["--ignore-sigterm", "--ignore-eof", "--grandchild", "--daemonise", &hidden, "--pids", &pids];
    let config = Config::new().fake("stubborn", &stubborn).fake("good", &[]);
    let daemon = Daemon::settled(home, &config).await;
    daemon.ready_pid("stubborn").await;
    let mut known = wait_for_listed(&daemon.home.path("hidden"), 1).await;
    known.extend(wait_for_listed(&daemon.home.path("pids"), 2).await);
    known.push(daemon.ready_pid("good").await);
    known.extend(descendants(daemon.pid()));
    known.sort_unstable();
    known.dedup();
    (daemon, Known(known))
}

async fn all_gone(known: &Known, limit: Duration) {
    wait::until(("the end of all of", &known.0), limit, async || known.survivors().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_polite_end_takes_ten_seconds_at_most_and_leaves_no_process() {
    let (mut daemon, known) = stubborn().await;
    daemon.signal(Signal::SIGTERM);
    let status = daemon.exited(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}: {:#?}", daemon.lines());
    assert_eq!(known.survivors(), [0_u32; 0], "when the daemon has ended, nothing of it is left");
    assert!(!daemon.home.socket().exists(), "the socket's file goes with it");
}

#[tokio::test]
async fn a_killed_daemon_takes_everything_below_it_along_within_a_second() {
    let (mut daemon, known) = stubborn().await;
    daemon.signal(Signal::SIGKILL);
    daemon.exited(Duration::from_secs(1)).await;
    all_gone(&known, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_interrupt_ends_a_daemon_over_good_servers_at_once() {
    let mut daemon = Daemon::with(&Config::new().fake("math", &[]).fake("notes", &[])).await;
    let known = Known(descendants(daemon.pid()));
    assert!(known.0.len() >= 2, "two servers run below it: {:?}", known.0);
    daemon.signal(Signal::SIGINT);
    assert!(daemon.exited(Duration::from_secs(5)).await.success());
    assert_eq!(known.survivors(), [0_u32; 0]);
}

#[tokio::test]
async fn a_second_daemon_for_the_same_socket_is_refused_and_the_first_one_stays() {
    let daemon = Daemon::with(&Config::new().fake("math", &[])).await;
    let second = daemon.home.run(&["up"]).await.failed();
    assert!(second.stderr.contains("ostler.sock"), "it must name the socket: {second:#?}");
    daemon.ready_pid("math").await;
}

#[tokio::test]
async fn a_command_with_a_fleet_of_its_own_leaves_no_process() {
    let home = Home::new();
    let pids = home.text("pids");
    Config::new().fake("math", &["--pids", &pids]).fake("notes", &["--pids", &pids, "--grandchild"]).write(&home);
    home.run(&["tools"]).await.succeeded().says(&["math__echo", "notes__echo"]);
    let known = Known(wait_for_listed(&home.path("pids"), 3).await);
    assert_eq!(known.survivors(), [0_u32; 0]);
}
