//! What the tests of this crate share: a reaper, shell scripts as servers, and waiting for processes to be gone.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_core::id::{Incarnation, ServerId};
use ostler_core::port::Lease;
use ostler_process::{Child, Launch, Reaper, ReaperOptions, ResourceLimits, Sandbox};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Every wait of these tests ends by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const REAPER: &str = env!("CARGO_BIN_EXE_ostler-reaper");

pub(crate) fn reaper() -> Reaper {
    Reaper::start(ReaperOptions { program: Some(REAPER.into()), ledger: None })
}

pub(crate) fn launch(program: impl Into<OsString>, args: &[&str]) -> Launch {
    Launch {
        server: ServerId::new("test").expect("a name"),
        incarnation: Incarnation::FIRST,
        program: program.into(),
        args: args.iter().map(OsString::from).collect(),
        env: Vec::new(),
        cwd: None,
        limits: ResourceLimits::default(),
        sandbox: Sandbox::Off,
        redact: Vec::new(),
    }
}

pub(crate) fn script(text: &str) -> Launch {
    launch("sh", &["-c", text])
}

/// A lease, and what resolves when it is dropped.
pub(crate) fn lease() -> (Lease, oneshot::Receiver<()>) {
    let (sender, dropped) = oneshot::channel();
    (Lease::new(sender), dropped)
}

pub(crate) async fn spawn(reaper: &Reaper, launch: Launch) -> Child {
    soon(reaper.spawn(launch, lease().0)).await.expect("it starts")
}

/// The lines of a child's standard output.
pub(crate) fn lines(child: &mut Child) -> Lines<BufReader<pipe::Receiver>> {
    BufReader::new(child.take_stdout().expect("the first to ask")).lines()
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Awaits, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

pub(crate) async fn next_line(lines: &mut Lines<BufReader<pipe::Receiver>>) -> String {
    soon(lines.next_line()).await.expect("it is text").expect("one more line")
}

pub(crate) async fn next_pid(lines: &mut Lines<BufReader<pipe::Receiver>>) -> u32 {
    next_line(lines).await.trim().parse().expect("a process id")
}

/// Whether the process lives; one that waits to be reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    // Its name may be no text.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let name_end = stat.iter().rposition(|byte| *byte == b')');
    name_end.and_then(|end| stat.get(end + 2)).is_some_and(|state| !b"ZX".contains(state))
}

/// Waits until `is_true`. For what the kernel tells nobody, such as the end of another's child.
pub(crate) async fn until(is_true: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    soon(async {
        while !is_true() {
            looks.tick().await;
        }
    })
    .await;
}

pub(crate) async fn gone(pid: u32) {
    until(|| !is_alive(pid)).await;
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("it is there");
}

pub(crate) fn write_script(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("the folder is ours");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
}
