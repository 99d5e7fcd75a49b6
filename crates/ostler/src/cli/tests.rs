//! Whole commands against a fleet of data: one of their own, and one behind a real socket.

mod operator;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_core::port::BoxFuture;

use super::house::{Announce, Complaint, Demo, Started, Up, UpOrder};
use super::*;
use crate::http::backend::Verb;
use crate::http::dto::{Approval, LaunchDto};
use crate::http::fake::{Fake, server};
use crate::http::guard::Guard;
use crate::http::router::{Surface, router};
use crate::http::serve::serve;
use crate::render::Style;
use crate::socket::Bound;

#[derive(Default)]
struct Stub {
    fake: Option<Arc<Fake>>,
    stopped: Arc<AtomicUsize>,
    patience: Duration,
}

impl Stub {
    fn with(fake: &Arc<Fake>) -> Self {
        Self { fake: Some(Arc::clone(fake)), stopped: Arc::default(), patience: Duration::from_secs(1) }
    }
}

impl House for Stub {
    fn socket(&self, _: Option<&Path>) -> Option<PathBuf> {
        None
    }

    fn check(&self, config: Option<&Path>) -> Result<String, Complaint> {
        match config {
            Some(_) => Err(Complaint::Config("ostler.toml:3: servers.math.command is missing".to_owned())),
            None => Ok("2 servers, no mistakes".to_owned()),
        }
    }

    fn start(&self, _: Option<PathBuf>) -> BoxFuture<'_, Result<Started, Complaint>> {
        Box::pin(async move {
            let Some(fake) = &self.fake else { return Err(Complaint::Config("no servers".to_owned())) };
            let stopped = Arc::clone(&self.stopped);
            Ok(Started {
                backend: fake.clone(),
                patience: self.patience,
                stop: Box::new(move || {
                    Box::pin(async move {
                        stopped.fetch_add(1, Ordering::SeqCst);
                    })
                }),
            })
        })
    }

    fn up(&self, order: UpOrder, announce: Announce) -> BoxFuture<'_, Result<(), Complaint>> {
        Box::pin(async move {
            announce(Up { socket: order.socket, ops: Some(([127, 0, 0, 1], 9464).into()), servers: 2 });
            tokio::task::yield_now().await;
            Err(Complaint::Failed("the fleet fell over".to_owned()))
        })
    }

    fn launch(&self, _: Option<PathBuf>, server: String) -> BoxFuture<'_, Result<LaunchDto, Complaint>> {
        Box::pin(async move {
            let Some(fake) = &self.fake else { return Err(Complaint::Config("no servers".to_owned())) };
            Ok(LaunchDto { server, ..fake.launch.lock().expect("unpoisoned").clone() })
        })
    }

    fn approve(&self, _: Option<PathBuf>, launch: LaunchDto) -> BoxFuture<'_, Result<(), Complaint>> {
        Box::pin(async move {
            let Some(fake) = &self.fake else { return Err(Complaint::Config("no servers".to_owned())) };
            let mut known = fake.launch.lock().expect("unpoisoned");
            assert_eq!(known.digest, launch.digest);
            known.approval = Approval::Given;
            Ok(())
        })
    }

    fn demo(&self, _: Demo) -> BoxFuture<'_, Result<(), Complaint>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a command wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("unpoisoned").clone()).expect("text")
    }
}

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

async fn run(house: &dyn House, line: &[&str]) -> Ran {
    let (out, err) = (Written::default(), Written::default());
    let mut console = Console::new(Box::new(out.clone()), Box::new(err.clone()), Style::Plain);
    let cli = Cli::try_parse_from([&["ostler"], line].concat()).expect("it parses");
    let exit = execute(cli, house, &mut console).await;
    Ran { exit, out: out.text(), err: err.text() }
}

/// A daemon with a fake fleet on a socket of its own.
struct Daemon {
    home: tempfile::TempDir,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Daemon {
    fn start(fake: &Arc<Fake>) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let bound = Bound::bind(&home.path().join("s")).expect("it binds");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = router(Surface::Socket, fake.clone(), Guard::socket());
        tokio::spawn(serve(bound, app, Duration::from_secs(60), async { drop(stopped.await) }, Duration::ZERO));
        Self { home, _stop: stop }
    }

    async fn run(&self, line: &[&str]) -> Ran {
        let path = self.home.path().join("s");
        // A house without servers: whoever starts a fleet instead of joining fails.
        run(&Stub::default(), &[&["--socket", path.to_str().expect("text")], line].concat()).await
    }
}

#[tokio::test]
async fn a_daemon_and_a_fleet_of_our_own_print_the_same() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let lines: [&[&str]; 8] = [
        &["servers"],
        &["servers", "-v"],
        &["servers", "--json"],
        &["tools", "math"],
        &["tools", "--json"],
        &["call", "math__add", r#"{"a": 1e3}"#, "--json"],
        &["call", "math__add", r#"{"a":1}"#],
        &["ask", "hello", "again"],
    ];
    for line in lines {
        let joined = daemon.run(line).await;
        let house = Stub::with(&fake);
        let alone = run(&house, &[&["--standalone"], line].concat()).await;
        assert_eq!(joined.exit, Exit::Success, "{line:?} {}", joined.err);
        assert_eq!((joined.out, joined.err), (alone.out, alone.err), "{line:?}");
        assert_eq!(house.stopped.load(Ordering::SeqCst), 1, "{line:?} ends its fleet");
    }
}

#[tokio::test]
async fn without_a_daemon_a_command_says_that_it_started_a_fleet() {
    let house = Stub::with(&Fake::new());
    let ran = run(&house, &["--socket", "/nonexistent/s", "tools", "notes"]).await;
    assert_eq!(ran.exit, Exit::Success);
    assert_eq!(ran.err, "no daemon on /nonexistent/s; started a fleet for this command\n");
    insta::assert_snapshot!(ran.out, @r#"
NAME         WHAT IT DOES
notes__save  Does save.
"#);
}

#[tokio::test]
async fn a_named_configuration_is_not_answered_by_a_daemon_of_another_one() {
    let daemon = Daemon::start(&Fake::new());
    let path = daemon.home.path().join("s");
    let socket = path.to_str().expect("text");
    let other = Fake::new();
    other.tools.lock().expect("unpoisoned").clear();
    let ran = run(&Stub::with(&other), &["--socket", socket, "--config", "/etc/other.toml", "tools"]).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (Exit::Success, 1));
    assert!(ran.err.contains("runs /etc/ostler.toml, not /etc/other.toml; started a fleet"), "{}", ran.err);
    let ran = daemon.run(&["--config", "/etc/ostler.toml", "tools"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Success, ""));
}

#[tokio::test]
async fn an_ask_tells_its_story_and_ends_with_the_answer() {
    let ran = run(&Stub::with(&Fake::new()), &["--standalone", "ask", "hello"]).await;
    assert_eq!(ran.exit, Exit::Success);
    insta::assert_snapshot!(ran.out, @r#"
model rehearsal script: not a language model
prompt 1 hello
call math__add {"a":1,"b":2}
result math__add ok math 3 ms: 3
hello
"#);
}

#[tokio::test]
async fn a_failed_answer_is_exit_code_one_wherever_it_failed() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    for line in [&["ask", "fail"][..], &["ask", "--json", "fail"]] {
        let ran = daemon.run(line).await;
        assert_eq!((ran.exit, ran.err.as_str()), (Exit::Answer, "error: only parrots\n"));
    }
    let ran = daemon.run(&["call", "math__add", r#"{"fail":1}"#]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Answer, "the tool says that it failed\n"));
    let ran = daemon.run(&["call", "math__down", "{}", "--json"]).await;
    assert_eq!(ran.exit, Exit::Answer);
    let expected = r#"{"error":{"code":"unavailable","message":"server 'math' is backoff","server":"math","retry_after_ms":1200}}"#;
    assert_eq!(ran.out.trim(), expected);
}

#[tokio::test]
async fn a_bad_call_is_answered_with_advice() {
    let house = Stub::with(&Fake::new());
    let check = async |line: &[&str], exit: Exit, err: &str| {
        let ran = run(&house, &[&["--standalone", "call"], line].concat()).await;
        assert_eq!((ran.exit, ran.err.as_str()), (exit, err), "{line:?}");
    };
    let hint = "  hint: write one JSON object in quotes: ostler call math__add '{\"key\": \"value\"}'\n";
    let error = "error: the arguments are not JSON: key must be a string at line 1 column 2\n";
    check(&["math__add", "{a:1}"], Exit::Usage, &format!("{error}{hint}")).await;
    let error = "error: the arguments are JSON, but not an object\n";
    check(&["math__add", "[1]"], Exit::Usage, &format!("{error}{hint}")).await;
    let error = "error: no tool is called 'math__ad'\n  hint: did you mean 'math__add'?\n";
    check(&["math__ad"], Exit::Answer, error).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_own_server_alone() {
    let fake = Fake::new();
    fake.servers.lock().expect("unpoisoned").push(server("slow", "starting"));
    let house = Stub::with(&fake);
    let began = tokio::time::Instant::now();
    assert_eq!(run(&house, &["--standalone", "call", "math__add"]).await.exit, Exit::Success);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let ran = run(&house, &["--standalone", "tools"]).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1), "as long as the house says, and no longer");
    assert_eq!(ran.err, "not up: slow; 'ostler servers' says why\n");
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_not_a_silent_one() {
    let fake = Fake::new();
    fake.servers.lock().expect("unpoisoned").push(server("slow", "starting"));
    let house = Stub { patience: Duration::from_secs(30), ..Stub::with(&fake) };
    let ran = run(&house, &["--standalone", "servers"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Success, "waiting for slow, at most 28.0 s\n"));
}

#[tokio::test]
async fn an_order_needs_a_daemon_and_reaches_it() {
    let fake = Fake::new();
    let daemon = Daemon::start(&fake);
    let ran = daemon.run(&["restart", "math"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, "math is being restarted\n"));
    assert_eq!(*fake.orders.lock().expect("unpoisoned"), [("math".to_owned(), Verb::Restart)]);
    let ran = daemon.run(&["stop", "mth"]).await;
    let said = "error: no server is called 'mth'\n  hint: did you mean 'math'?\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Answer, said));
    let ran = daemon.run(&["stop", "../../v1/ask"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    let ran = run(&Stub::default(), &["--socket", "/nonexistent/s", "start", "math"]).await;
    let said = "error: no daemon on /nonexistent/s\n  hint: start one with 'ostler up'\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Daemon, said));
}

#[tokio::test]
async fn a_configuration_error_is_exit_code_two() {
    let ran = run(&Stub::default(), &["--standalone", "servers"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Usage, "error: no servers\n"));
    let ran = run(&Stub::default(), &["check", "--config", "ostler.toml"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert_eq!(ran.err, "error: ostler.toml:3: servers.math.command is missing\n");
    let ran = run(&Stub::default(), &["check"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, "2 servers, no mistakes\n"));
}

#[tokio::test]
async fn the_daemon_says_where_it_is_before_it_ends() {
    let ran = run(&Stub::default(), &["--socket", "/run/s", "up"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Daemon, "error: the fleet fell over\n"));
    let version = env!("CARGO_PKG_VERSION");
    let said =
        format!("ostler {version} is up with 2 servers\nsocket  /run/s\nmetrics http://127.0.0.1:9464/metrics\n");
    assert_eq!(ran.out, said);
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_ends_the_command_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines: [&[&str]; 4] = [&["tools"], &["servers"], &["ask", "hello"], &["call", "math__add", "{}"]];
    for line in lines {
        let house = Stub::with(&Fake::new());
        let err = Written::default();
        let mut console = Console::new(Box::new(Closed), Box::new(err.clone()), Style::Plain);
        let cli = Cli::try_parse_from([&["ostler", "--standalone"], line].concat()).expect("it parses");
        assert_eq!(execute(cli, &house, &mut console).await, Exit::Success, "{line:?}");
        assert_eq!(err.text(), "", "{line:?}");
        assert_eq!(house.stopped.load(Ordering::SeqCst), 1, "{line:?} ends its fleet all the same");
    }
}
