//! What a later process of ours finds of an earlier one, and the standard errors that a handle keeps.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::support::*;
use ostler_core::memory::Spawned;
use ostler_core::port::Ledger;
use ostler_process::{Reaper, ReaperOptions, SweepReport};

#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<Spawned>>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Vec<Spawned>> {
        self.lines.lock().expect("nobody panicked with it")
    }

    fn lines(&self) -> Vec<Spawned> {
        self.lock().clone()
    }
}

impl Ledger for Notes {
    fn spawned(&self, process: Spawned) {
        self.lock().push(process);
    }

    fn gone(&self, cookie: &str) {
        self.lock().retain(|line| line.cookie != cookie);
    }

    fn leftovers(&self) -> Vec<Spawned> {
        self.lines()
    }
}

fn with(notes: &Arc<Notes>, program: Option<&str>) -> Reaper {
    let ledger: Arc<dyn Ledger> = Arc::clone(notes) as Arc<dyn Ledger>;
    Reaper::start(ReaperOptions { program: program.map(Into::into), ledger: Some(ledger) })
}

/// A process of nobody, as an earlier run might have left it: a leader with something below it that left its group.
async fn leftover(cookie: &str) -> (tokio::process::Child, u32) {
    let mut process = tokio::process::Command::new("sh")
        .args(["-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait"])
        .env("OSTLER_COOKIE", cookie)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let stdout = process.stdout.take().expect("the first to ask");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    let below = soon(lines.next_line()).await.expect("it is text").expect("a line").parse().expect("a process id");
    (process, below)
}

fn line(process: &tokio::process::Child, cookie: &str) -> Spawned {
    let pid = process.id().expect("it runs");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let start_ticks = stat.rsplit_once(") ").expect("a name").1.split(' ').nth(19);
    let start_ticks = start_ticks.and_then(|ticks| ticks.parse().ok()).expect("a number");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has it").trim().to_owned();
    Spawned { cookie: cookie.to_owned(), pid, start_ticks, boot }
}

#[tokio::test]
async fn a_tree_is_written_down_while_it_lives() {
    for program in [Some(REAPER), None] {
        let notes = Arc::new(Notes::default());
        let reaper = with(&notes, program);
        let child = spawn(&reaper, script("sleep 1000")).await;
        let written = notes.lines();
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].pid, child.pid());
        let environment = std::fs::read(format!("/proc/{}/environ", child.pid())).unwrap();
        let cookie = format!("OSTLER_COOKIE={}\0", written[0].cookie);
        assert!(environment.windows(cookie.len()).any(|window| window == cookie.as_bytes()));
        child.kill();
        soon(child.released()).await;
        assert_eq!(notes.lines(), []);
    }
}

#[tokio::test]
async fn trees_of_a_dead_reaper_are_struck_off() {
    let notes = Arc::new(Notes::default());
    let reaper = with(&notes, Some(REAPER));
    let child = spawn(&reaper, script("sleep 1000")).await;
    send(reaper.pid().unwrap(), nix::sys::signal::Signal::SIGKILL);
    soon(child.released()).await;
    assert_eq!(notes.lines(), []);
}

#[tokio::test]
async fn the_sweep_kills_what_is_proved_to_be_ours_and_nothing_else() {
    let notes = Arc::new(Notes::default());
    let (mut ours, ours_below) = leftover("run.1.a.1").await;
    let (foreign, foreign_below) = leftover("run.2.b.1").await;
    let mut early = line(&foreign, "run.2.b.1");
    early.start_ticks -= 1;
    let other_cookie = line(&foreign, "run.3.c.1");
    let other_boot = Spawned { boot: "another".to_owned(), ..line(&foreign, "run.2.b.1") };
    let gone = Spawned { pid: 4_000_000, ..line(&foreign, "run.4.d.1") };
    let empty = line(&foreign, "");
    for written in [line(&ours, "run.1.a.1"), early, other_cookie, other_boot, gone, empty] {
        notes.spawned(written);
    }
    let report = soon(with(&notes, Some(REAPER)).sweep()).await;
    assert_eq!(report, SweepReport { found: 6, killed: 1, gone: 3, strangers: 2, survivors: 0 });
    assert!(!soon(ours.wait()).await.unwrap().success());
    assert_eq!([ours_below, foreign.id().unwrap(), foreign_below].map(is_alive), [false, true, true]);
    assert_eq!(notes.lines(), []);
    drop(foreign);
    send(foreign_below, nix::sys::signal::Signal::SIGKILL);
}

#[tokio::test]
async fn without_a_ledger_there_is_nothing_to_sweep() {
    assert_eq!(soon(reaper().sweep()).await, SweepReport::default());
}

#[tokio::test]
async fn the_newest_standard_error_of_a_server_is_kept_after_its_death() {
    let reaper = reaper();
    let server = script("").server;
    assert!(reaper.stderr(&server).is_none());
    let first = spawn(&reaper, script("echo first >&2")).await;
    soon(first.released()).await;
    drop(first);
    assert_eq!(reaper.stderr(&server).unwrap().tail(), "first");
    let mut second = spawn(&reaper, script("echo second >&2; read go; echo third >&2")).await;
    let mut follower = reaper.stderr(&server).unwrap().follow();
    let text = |lines: Option<Vec<ostler_process::StderrLine>>| lines.map(|lines| lines[0].text.clone());
    assert_eq!(text(soon(follower.next()).await).as_deref(), Some("second"));
    drop(second.take_stdin());
    assert_eq!(text(soon(follower.next()).await).as_deref(), Some("third"));
    assert_eq!(text(soon(follower.next()).await), None);
}
