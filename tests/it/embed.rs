//! The library in somebody else's program: with `intercept` nothing survives it, without it one warning and groups.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::process::{group, parent, reaper};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::config::Config;
use crate::support::home::Home;
use crate::support::process::{Known, descendants, listed, send, wait_for_listed};
use crate::support::wait;

const LIMIT: Duration = Duration::from_secs(20);

/// An embedder over a stubborn server with a daemon of its own and over a good one.
struct Embedder {
    home: Home,
    child: Child,
    known: Known,
    _stdout: BufReader<ChildStdout>,
}

impl Embedder {
    async fn start(more: &[&str]) -> Self {
        let home = Home::new();
        let (pids, hidden) = (home.text("pids"), home.text("hidden"));
        let stubborn = ["--ignore-sigterm", "--ignore-eof", "--daemonise", &hidden, "--pids", &pids];
        let config = Config::new().fake("stubborn", &stubborn).with("stop_grace = \"1s\"");
        config.fake("good", &["--pids", &pids]).write(&home);
        let log = std::fs::File::create(home.path("log")).expect("a file in the home");
        let mut child = Command::new(env!("CARGO_BIN_EXE_embedder"))
            .args([home.text(Home::CONFIG), home.text("runs")])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the embedder starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        timeout(LIMIT, stdout.read_line(&mut line)).await.expect("it settles in time").expect("it writes text");
        assert_eq!(line, "ready\n", "{}", home.read("log"));
        let mut known = wait_for_listed(&home.path("hidden"), 1).await;
        known.extend(wait_for_listed(&home.path("pids"), 2).await);
        known.extend(descendants(child.id().expect("it was not waited for")));
        Self { home, child, known: Known(known), _stdout: stdout }
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    fn warnings(&self) -> Vec<String> {
        self.home.read("log").lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
    }

    /// Ends it politely and checks that it took everything along.
    async fn ends_well(&mut self) {
        drop(self.child.stdin.take());
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends in time").expect("it can be waited for");
        assert_eq!(self.known.survivors(), [0_u32; 0], "{status}: {}", self.home.read("log"));
    }
}

#[tokio::test]
async fn with_intercept_nothing_survives_the_embedder_although_it_is_killed() {
    let mut embedder = Embedder::start(&[]).await;
    assert!(reaper(embedder.pid()).is_some(), "it is executed again as its own reaper");
    assert_eq!(listed(&embedder.home.path("runs")), [embedder.pid()], "but its main runs once");
    assert_eq!(embedder.warnings(), [""; 0]);
    send(embedder.pid(), Signal::SIGKILL);
    timeout(LIMIT, embedder.child.wait()).await.expect("it ends in time").expect("it can be waited for");
    let known = &embedder.known;
    wait::until(("the end of all of", &known.0), Duration::from_secs(1), async || {
        known.survivors().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_intercept_a_polite_end_of_the_embedder_leaves_nothing() {
    Embedder::start(&[]).await.ends_well().await;
}

#[tokio::test]
async fn without_intercept_there_is_one_warning_a_group_a_server_and_no_second_run_of_main() {
    let mut embedder = Embedder::start(&["--without-intercept"]).await;
    let pid = embedder.pid();
    let servers = listed(&embedder.home.path("pids"));
    for server in &servers {
        assert_eq!((group(*server), parent(*server)), (Some(*server), Some(pid)), "a group of its own, below us");
    }
    let mut below = descendants(pid);
    below.sort_unstable();
    let mut expected = servers;
    expected.sort_unstable();
    assert_eq!(below, expected, "nothing but the servers runs below it");
    assert_eq!(listed(&embedder.home.path("runs")), [pid]);
    let warnings = embedder.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("no reaper"), "{warnings:#?}");
    embedder.ends_well().await;
}
