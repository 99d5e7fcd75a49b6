//! A program that calls `intercept` first and is executed again as its own reaper. No harness: `main` must be ours.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_core::id::{Incarnation, ServerId};
use ostler_core::port::Lease;
use ostler_process::{Launch, Reaper, ReaperOptions, ResourceLimits, Sandbox};
use tokio::io::AsyncReadExt;

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit can be read");
    let soft = hard / 2;
    // In the reaper this runs, too, and changes nothing: it is told what its children get.
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("a limit can be lowered");
    ostler_process::reaper::intercept();
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).expect("a limit can be read").0, hard, "we get all we may have");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let check = async { tokio::time::timeout(Duration::from_secs(20), be_own_reaper(soft)).await };
    runtime.block_on(check).expect("it happens in time");
}

async fn be_own_reaper(soft: u64) {
    let reaper = Reaper::start(ReaperOptions::default());
    let launch = Launch {
        server: ServerId::new("test").expect("a name"),
        incarnation: Incarnation::FIRST,
        program: "sh".into(),
        args: vec!["-c".into(), "ulimit -n".into()],
        env: Vec::new(),
        cwd: None,
        limits: ResourceLimits::default(),
        sandbox: Sandbox::Off,
        redact: Vec::new(),
    };
    let mut child = reaper.spawn(launch, Lease::new(())).await.expect("it starts");
    if cfg!(target_os = "linux") {
        let pid = reaper.pid().expect("it lives");
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("it is ours to look at");
        assert_eq!(program, std::env::current_exe().expect("we have a path"));
        let mut limit = String::new();
        child.take_stdout().expect("the first to ask").read_to_string(&mut limit).await.expect("it is text");
        assert_eq!(limit.trim(), soft.to_string(), "children get what we were given");
    }
    child.released().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    reaper.shutdown(deadline.into_std()).await;
}
