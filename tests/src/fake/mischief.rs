//! What the fake server does wrong with processes, signals, descriptors and time. No protocol here.

use std::env;
use std::fs::{File, OpenOptions};
use std::hint;
use std::io::{self, Write};
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd;

use super::options::Options;
use super::wire::append_to;

/// Waits without doing anything: nobody ever sends.
pub(super) fn pause(duration: Duration) {
    let (_held, nobody) = mpsc::channel::<()>();
    let _ = nobody.recv_timeout(duration);
}

pub(super) fn live_for_ever() -> ! {
    loop {
        thread::park();
    }
}

pub(super) fn burn(duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        hint::spin_loop();
    }
}

/// A blocked signal stays pending for ever; threads and children inherit that. To be called before any thread starts.
pub(super) fn ignore_sigterm() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().expect("SIGTERM can be blocked");
}

/// Ends standard output for the reader, although the process lives.
pub(super) fn close_stdout() {
    unistd::dup2_stdout(null()).expect("descriptor 1 can be replaced");
}

/// Ends standard input for the writer, although the process lives. Nobody may be reading it.
pub(super) fn close_stdin() {
    unistd::dup2_stdin(null()).expect("descriptor 0 can be replaced");
}

fn null() -> File {
    OpenOptions::new().read(true).write(true).open("/dev/null").expect("the null device opens")
}

/// Leaves a mark of `pid` in `path`.
pub(super) fn note_pid(path: &str, pid: u32) -> io::Result<()> {
    append_to(path)?.write_all(format!("{pid}\n").as_bytes())
}

/// A process below us that holds our standard output, and nothing else of ours.
pub(super) fn grandchild() -> io::Result<Child> {
    Command::new("sleep").arg("600").stdin(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Starts the daemon and returns when its parent is gone: from then on it belongs to nobody.
pub(super) fn daemonise(pid_file: &str) -> io::Result<()> {
    let status = itself("--daemon-stage", pid_file)?.spawn()?.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the daemon could not be started")) }
}

/// Does the part of the daemon, if this process was started as one of its two stages.
pub(super) fn daemon_stage(options: &Options) -> Option<ExitCode> {
    if let Some(pid_file) = options.text("daemon-stage") {
        let daemon = unistd::setsid().map_err(io::Error::from).and_then(|_| itself("--daemon", pid_file)?.spawn());
        // The child is not waited for: this process ends now, so that the daemon is an orphan.
        return Some(if daemon.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let pid_file = options.text("daemon")?;
    ignore_sigterm();
    let _ = unistd::setsid();
    match note_pid(pid_file, process::id()) {
        Ok(()) => live_for_ever(),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

fn itself(stage: &str, pid_file: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(stage).arg(pid_file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}
