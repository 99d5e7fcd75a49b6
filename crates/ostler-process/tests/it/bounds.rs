//! What a server may use up and touch: kept where this host can, told or refused where it cannot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;
use nix::sys::signal::Signal;
use ostler_core::status::{Exit, FaultClass};
use ostler_process::{Launch, Reaper, ReaperOptions, ResourceLimits, Sandbox};
use tokio::io::AsyncReadExt;

/// What a launch under `limits` is known by in its groups, and whether this host can make such groups.
fn group_of(pid: u32, controller: &str) -> Option<PathBuf> {
    let memberships = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_its = controllers.is_empty() || controllers.split(',').any(|listed| listed == controller);
        (is_its && path.contains("/ostler-")).then_some(path)
    })?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let candidates = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(|mount| format!("{mount}{path}"));
    candidates.map(PathBuf::from).find(|folder| folder.join("cgroup.procs").exists())
}

/// Whether we could make groups with this controller, found without the code under test.
fn can_limit(controller: &str, file: &str) -> bool {
    let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|listed| listed == controller).then_some(path)
    }) else {
        return false;
    };
    let folder = format!("/sys/fs/cgroup/{controller}{path}/probe-{}-{controller}", std::process::id());
    let can = std::fs::create_dir(&folder).is_ok() && Path::new(&folder).join(file).exists();
    let _ = std::fs::remove_dir(&folder);
    can
}

/// Counts warnings of what runs on its thread.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().starts_with("ostler_process::confine")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn output(reaper: &Reaper, launch: Launch) -> String {
    let mut child = spawn(reaper, launch).await;
    let mut output = String::new();
    let mut stdout = child.take_stdout().expect("the first to ask");
    soon(stdout.read_to_string(&mut output)).await.expect("it is text");
    output
}

/// Both ways to start a server: through a reaper, and without one.
fn both() -> [Reaper; 2] {
    [reaper(), Reaper::start(ReaperOptions::default())]
}

#[tokio::test]
async fn a_server_beyond_its_memory_is_ended_and_said_to_be() {
    let can = can_limit("memory", "memory.limit_in_bytes");
    for reaper in both() {
        let limits = ResourceLimits { memory: Some(32 * 1024 * 1024), ..ResourceLimits::default() };
        // Twice what it may have, if nobody minds.
        let hungry = script("read go; head -c 64M /dev/zero | tail -c 64M >/dev/null; exit 3");
        let mut child = spawn(&reaper, Launch { limits, ..hungry }).await;
        let group = group_of(child.pid(), "memory");
        assert!(!child.ran_out_of_memory());
        let mut stdin = child.take_stdin().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"go\n").await.unwrap();
        // Whom of the group the kernel picks is its own affair: mostly the largest, at times the leader too.
        let exit = soon(child.exited()).await;
        assert!(exit == Exit::Code(3) || (can && exit == Exit::Signal(9)), "{exit}");
        assert_eq!((child.ran_out_of_memory(), group.is_some()), (can, can));
        soon(child.released()).await;
        assert!(group.is_none_or(|group| !group.exists() && !group.parent().unwrap().exists()));
    }
}

#[tokio::test]
async fn a_server_cannot_have_more_processes_than_its_limit() {
    let can = can_limit("pids", "pids.max");
    for reaper in both() {
        let limits = ResourceLimits { processes: Some(8), ..ResourceLimits::default() };
        let many = script("read go; for n in $(seq 20); do sleep 1000 & done; echo all; read go");
        let mut child = spawn(&reaper, Launch { limits, ..many }).await;
        let group = group_of(child.pid(), "pids");
        let mut stdin = child.take_stdin().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"go\n").await.unwrap();
        if can {
            let group = group.expect("it is in a group of its own");
            // The shell gives up at the first process that it cannot have.
            soon(child.exited()).await;
            assert!(child.stderr().tail().to_lowercase().contains("cannot fork"), "{}", child.stderr().tail());
            soon(child.released()).await;
            assert!(!group.exists());
        } else {
            assert_eq!(next_line(&mut lines(&mut child)).await, "all");
        }
        assert!(!child.ran_out_of_memory());
    }
}

#[tokio::test]
async fn limits_that_this_host_cannot_keep_are_warned_of_once_and_never_stop_a_server() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(Arc::clone(&count)));
    let reaper = reaper();
    let limits = ResourceLimits { memory: Some(1 << 30), processes: Some(100), ..ResourceLimits::default() };
    for _ in 0..3 {
        let child = spawn(&reaper, Launch { limits, ..script("exit 4") }).await;
        assert_eq!(soon(child.exited()).await, Exit::Code(4));
    }
    // The warning comes from a thread for files as well as from this one; only the latter is heard here.
    let can = can_limit("memory", "memory.limit_in_bytes") && can_limit("pids", "pids.max");
    let heard = count.load(Ordering::Relaxed);
    assert!(if can { heard == 0 } else { heard <= 1 }, "{heard} warnings");
}

#[tokio::test]
async fn a_server_has_the_descriptors_that_it_may_and_dumps_no_core() {
    for reaper in both() {
        let limits = ResourceLimits { open_files: Some(77), ..ResourceLimits::default() };
        let seen = output(&reaper, Launch { limits, ..script("ulimit -Sn; ulimit -Sc") }).await;
        assert_eq!(seen, "77\n0\n");
        let limits = ResourceLimits { core: 1 << 40, open_files: Some(u64::MAX), ..ResourceLimits::default() };
        let seen = output(&reaper, Launch { limits, ..script("ulimit -Sn; ulimit -Hn; ulimit -Sc") }).await;
        let numbers: Vec<&str> = seen.lines().collect();
        assert_eq!(numbers[0], numbers[1], "never above the hard limit");
        assert_ne!(numbers[2], "0");
    }
}

#[tokio::test]
async fn groups_of_a_killed_owner_are_removed_by_the_reaper() {
    let mut owner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bounds::be_an_owner_with_limits", "--nocapture"])
        .env("BE_AN_OWNER_WITH_LIMITS", "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(owner.stdout.take().unwrap()));
    let (pid, temporary) = loop {
        let line = soon(output.next_line()).await.unwrap().expect("the owner says what it has");
        if let Some((_, said)) = line.split_once("owns ") {
            let (pid, temporary) = said.split_once(' ').unwrap();
            break (pid.parse::<u32>().unwrap(), PathBuf::from(temporary));
        }
    };
    let groups: Vec<PathBuf> = ["memory", "pids"].into_iter().filter_map(|name| group_of(pid, name)).collect();
    let can = [can_limit("memory", "memory.limit_in_bytes"), can_limit("pids", "pids.max")];
    assert_eq!(groups.len(), can.into_iter().filter(|can| *can).count());
    let has_temporary = temporary.is_dir();
    assert_eq!(has_temporary, has_landlock());
    soon(owner.kill()).await.unwrap();
    gone(pid).await;
    until(|| groups.iter().all(|group| !group.exists()) && !temporary.is_dir()).await;
}

/// Not a test of its own: the process that the test before kills. Does nothing unless it is told to be that.
#[tokio::test]
async fn be_an_owner_with_limits() {
    if std::env::var_os("BE_AN_OWNER_WITH_LIMITS").is_none() {
        return;
    }
    let limits = ResourceLimits { memory: Some(1 << 30), processes: Some(100), ..ResourceLimits::default() };
    let sandbox = if has_landlock() { Sandbox::Restricted { writable: Vec::new() } } else { Sandbox::Off };
    let launch = script("echo \"$TMPDIR\"; echo left > \"$TMPDIR/file\"; sleep 1000");
    let mut child = spawn(&reaper(), Launch { limits, sandbox, ..launch }).await;
    let temporary = next_line(&mut lines(&mut child)).await;
    println!("owns {} {temporary}", child.pid());
    std::future::pending::<()>().await;
}

/// Whether this kernel has Landlock, by its own word.
fn has_landlock() -> bool {
    std::fs::read_to_string("/proc/kallsyms").is_ok_and(|names| names.contains("landlock_restrict_self"))
        && std::fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |names| names.contains("landlock"))
}

struct Folders {
    all: tempfile::TempDir,
}

impl Folders {
    fn make() -> Self {
        // Not below the usual folder for temporary files alone: nothing here is open to a sandboxed server by itself.
        let all = tempfile::tempdir().expect("a folder");
        for name in ["cwd", "writable", "other"] {
            std::fs::create_dir(all.path().join(name)).expect("it is ours");
            std::fs::write(all.path().join(name).join("file"), name).expect("it is ours");
        }
        Self { all }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.all.path().join(name)
    }
}

#[tokio::test]
async fn a_sandboxed_server_touches_what_is_its_own_and_nothing_else() {
    let folders = Folders::make();
    let text = "probe() { if sh -c \"$2\" 2>/dev/null >/dev/null; then echo \"$1 yes\"; else echo \"$1 no\"; fi; }
        probe system 'cat /etc/passwd'
        probe null 'echo x > /dev/null'
        probe cwd-read 'cat file'
        probe cwd-write 'echo x > new'
        probe cwd-truncate ': > file'
        probe writable-read 'cat \"$WRITABLE/file\"'
        probe writable-write 'mkdir \"$WRITABLE/d\" && echo x > \"$WRITABLE/d/new\" && rm -r \"$WRITABLE/d\"'
        probe own-temporary 'echo x > \"$TMPDIR/new\" && cat \"$TMPDIR/new\"'
        probe shared-temporary 'echo x > \"/tmp/ostler-test-$$\"'
        probe other-read 'cat \"$OTHER/file\"'
        probe other-list 'ls \"$OTHER\"'
        probe other-remove 'rm \"$OTHER/file\"'
        probe home-list 'ls \"$HOME\"'
        probe owner-memory 'grep -a -q PATH= \"/proc/$OWNER/environ\"'
        probe device 'mknod \"$WRITABLE/disk\" b 1 0'
        echo \"$TMPDIR\"";
    let expected: &[(&str, bool)] = &[
        ("system", true),
        ("null", true),
        ("cwd-read", true),
        ("cwd-write", false),
        ("cwd-truncate", false),
        ("writable-read", true),
        ("writable-write", true),
        ("own-temporary", true),
        ("shared-temporary", false),
        ("other-read", false),
        ("other-list", false),
        ("other-remove", false),
        ("home-list", false),
        ("owner-memory", false),
        ("device", false),
    ];
    for reaper in both() {
        let mut launch = script(text);
        launch.cwd = Some(folders.path("cwd"));
        launch.env = vec![
            ("WRITABLE".into(), folders.path("writable").into()),
            ("OTHER".into(), folders.path("other").into()),
            ("OWNER".into(), std::process::id().to_string().into()),
            ("TMPDIR".into(), "/no/matter".into()),
        ];
        launch.sandbox = Sandbox::Restricted { writable: vec![folders.path("writable")] };
        if !has_landlock() {
            let fault = reaper.spawn(launch, lease().0).await.unwrap_err().fault();
            assert_eq!(fault.class, FaultClass::BadConfig);
            assert!(fault.hint.is_some_and(|hint| hint.contains("Landlock")));
            continue;
        }
        let mut child = spawn(&reaper, launch).await;
        let mut seen = String::new();
        soon(child.take_stdout().unwrap().read_to_string(&mut seen)).await.unwrap();
        for (probe, may) in expected {
            let answer = format!("{probe} {}\n", if *may { "yes" } else { "no" });
            assert!(seen.contains(&answer), "not {answer}: {seen}{}", child.stderr().tail());
        }
        let temporary = PathBuf::from(seen.lines().last().unwrap());
        soon(child.released()).await;
        until(|| !temporary.exists()).await;
    }
}

#[tokio::test]
async fn a_sandbox_that_would_open_the_home_or_is_not_there_refuses_the_start() {
    let folders = Folders::make();
    let home = std::env::home_dir().expect("this user has a home");
    let restricted = |writable: &[PathBuf]| Sandbox::Restricted { writable: writable.to_vec() };
    for reaper in both() {
        let check = async |launch: Launch, message: &str| {
            let (lease, dropped) = lease();
            let fault = soon(reaper.spawn(launch, lease)).await.unwrap_err().fault();
            soon(dropped).await.unwrap_err();
            assert_eq!(fault.class, FaultClass::BadConfig);
            assert!(fault.hint.is_some());
            let expected = if has_landlock() { message } else { "this kernel cannot keep the sandbox" };
            assert!(fault.message.contains(expected), "{}", fault.message);
        };
        let with = |sandbox: Sandbox| Launch { sandbox, ..script("exit 0") };
        check(with(restricted(std::slice::from_ref(&home))), "holds the home folder").await;
        check(with(restricted(&["/".into()])), "holds the home folder").await;
        check(Launch { cwd: Some(home.clone()), ..with(restricted(&[])) }, "holds the home folder").await;
        check(with(restricted(&[folders.path("absent")])), "no such file or directory").await;
    }
}

#[tokio::test]
async fn a_sandboxed_server_ends_like_any_other() {
    if !has_landlock() {
        return;
    }
    let reaper = reaper();
    let text = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; trap '' TERM; while :; do sleep 1000; done";
    let launch = Launch { sandbox: Sandbox::Restricted { writable: Vec::new() }, ..script(text) };
    let mut child = spawn(&reaper, launch).await;
    let daemon = next_pid(&mut lines(&mut child)).await;
    send(child.pid(), Signal::SIGTERM);
    child.kill();
    soon(child.released()).await;
    assert_eq!((is_alive(daemon), soon(child.exited()).await), (false, Exit::Signal(9)));
}
