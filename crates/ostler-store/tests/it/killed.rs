//! A writer that is killed with SIGKILL, wherever it was: nothing that was written is lost or half there.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ostler_core::memory::ServerMemory;
use ostler_core::port::{Ledger, Store};
use tempfile::TempDir;

use crate::support::{look, memory, open, process, raw, told};

/// Set for the program when it is executed again as the one that is killed: where it writes.
const FOLDER: &str = "OSTLER_STORE_TEST_FOLDER";
/// How a line of it begins that says what is surely written.
const WRITTEN: &str = "written ";
const SERVERS: u32 = 20;
const PROCESSES: u32 = 5;

fn of_round(server: u32, round: u32) -> ServerMemory {
    let tools = (0..server).map(|tool| raw(&format!("{{\"name\":\"t{tool}\", \"round\":{round}}}"))).collect();
    ServerMemory { tools, ..memory(&format!("s{server:02}"), round) }
}

/// Writes round after round until it is killed. Says which one is written, every few rounds.
fn write_for_ever(folder: &Path) {
    let store = open(folder);
    let begun = store.servers().first().map_or(0, |memory| memory.failures);
    let mut out = std::io::stdout();
    for round in begun + 1..begun + 1_000_000 {
        for server in 0..SERVERS {
            store.remember(of_round(server, round));
        }
        store.spawned(process(&format!("c{round}"), round));
        if let Some(older) = round.checked_sub(PROCESSES) {
            store.gone(&format!("c{older}"));
        }
        if round % 3 == 0 {
            assert_eq!(store.servers().len(), SERVERS as usize);
            writeln!(out, "\n{WRITTEN}{round}").and_then(|()| out.flush()).expect("somebody listens");
        }
    }
}

/// Executes this program again, waits for `lines` lines of it, kills it. Returns what it said last.
fn kill_after(lines: usize, folder: &Path) -> u32 {
    let name = "killed::a_writer_that_is_killed_leaves_an_intact_database";
    let mut child = Command::new(env::current_exe().expect("we have a path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut rounds =
        out.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix(WRITTEN)?.parse::<u32>().ok());
    let mut last = rounds.nth(lines - 1).expect("it writes");
    child.kill().expect("it runs");
    assert_eq!(child.wait().expect("it is ours").signal(), Some(9));
    if let Some(later) = rounds.last() {
        last = later;
    }
    last
}

#[test]
fn a_writer_that_is_killed_leaves_an_intact_database() {
    if let Some(folder) = env::var_os(FOLDER) {
        return write_for_ever(folder.as_ref());
    }
    let folder = TempDir::new().expect("a folder");
    let mut begun = 0;
    for lines in [1, 2, 3, 7, 20, 55] {
        let said = kill_after(lines, folder.path());
        assert_eq!(look::<String>(folder.path(), "PRAGMA integrity_check"), "ok");
        let store = open(folder.path());
        let servers = store.servers();
        assert_eq!(servers.len(), SERVERS as usize);
        for (number, found) in (0..).zip(&servers) {
            assert!(found.failures >= said, "{} was written, {} is there", said, found.failures);
            assert_eq!(told(found), told(&of_round(number, found.failures)), "of one piece");
        }
        let pids: Vec<_> = store.leftovers().iter().map(|process| process.pid).collect();
        assert!(pids.len() >= PROCESSES.min(said - begun) as usize, "from {begun} to {said}: {pids:?}");
        assert!(pids.iter().all(|&pid| pid + PROCESSES >= said), "those before {said} were gone: {pids:?}");
        for pid in pids {
            store.gone(&format!("c{pid}"));
        }
        begun = servers[0].failures;
    }
    assert!(!folder.path().join("ostler.db.broken-1").exists());
}
