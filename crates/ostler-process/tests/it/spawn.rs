//! What a child gets, what it does not, and what is said when it cannot be started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::support::*;
use ostler_core::status::{Exit, FaultClass};
use ostler_process::{Launch, Reaper, ReaperOptions};
use tokio::io::AsyncReadExt;

async fn output(launch: Launch) -> Vec<u8> {
    let mut child = spawn(&reaper(), launch).await;
    let mut output = Vec::new();
    let mut stdout = child.take_stdout().expect("the first to ask");
    soon(stdout.read_to_end(&mut output)).await.expect("it can be read");
    output
}

#[tokio::test]
async fn what_cannot_be_started_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_script(&path("plain"), "#!/bin/sh\n", 0o644);
    write_script(&path("orphan"), "#!/no/such/interpreter\n", 0o755);
    write_script(&path("server"), "#!/bin/sh\nexit 0\n", 0o755);
    let reaper = reaper();
    let check = async |launch: Launch, class: FaultClass, message: &str, hint: &str| {
        let (lease, dropped) = lease();
        let error = soon(reaper.spawn(launch, lease)).await.unwrap_err();
        soon(dropped).await.unwrap_err();
        let fault = error.fault();
        assert_eq!((fault.class, fault.message.as_str()), (class, message));
        let advice = fault.hint.expect("advice");
        assert!(advice.contains(hint), "{advice}");
    };
    let file = |name: &str| launch(path(name), &[]);
    let named = |name: &str| format!("cannot execute '{}': ", path(name).display());
    let missing = "no such file or directory";

    let unknown = launch("no-such-program", &[]);
    check(
        unknown,
        FaultClass::NotFound,
        &format!("cannot execute 'no-such-program': {missing}"),
        "in no folder of PATH",
    )
    .await;
    check(file("absent"), FaultClass::NotFound, &format!("{}{missing}", named("absent")), "there is no file").await;
    check(file("orphan"), FaultClass::NotFound, &format!("{}{missing}", named("orphan")), "interpreter").await;
    check(file("plain"), FaultClass::NotFound, &format!("{}permission denied", named("plain")), "chmod +x").await;
    let shell_line = launch("sh -c true", &[]);
    check(shell_line, FaultClass::NotFound, &format!("cannot execute 'sh -c true': {missing}"), "`args`").await;

    let in_folder = |name: &str| Launch { cwd: Some(path(name)), ..file("server") };
    let entering = |name: &str, why: &str| format!("cannot enter the working folder '{}': {why}", path(name).display());
    check(in_folder("absent"), FaultClass::BadConfig, &entering("absent", missing), "`cwd`").await;
    check(in_folder("plain"), FaultClass::BadConfig, &entering("plain", "not a directory"), "`cwd`").await;

    let nul = launch("sh", &["a\0b"]);
    check(nul, FaultClass::BadConfig, "the launch line of 'sh' contains a NUL character", "`args`").await;
    let mut nameless = script("exit 0");
    nameless.env = vec![("A=B".into(), "c".into())];
    let message = "the launch line of 'sh' names an environment variable that is empty or contains '='";
    check(nameless, FaultClass::BadConfig, message, "`env`").await;
    let huge = "x".repeat(200_000);
    let message = "the launch line of 'sh' is too large for the kernel (arguments and environment)";
    check(launch("sh", &["-c", ":", &huge]), FaultClass::BadConfig, message, "`args`").await;
    let vast: Vec<&str> = vec![&huge[..100_000]; 20];
    check(launch("sh", &vast), FaultClass::BadConfig, message, "`args`").await;

    // After all that the reaper works as before.
    assert_eq!(soon(spawn(&reaper, file("server")).await.exited()).await, Exit::Code(0));
}

#[tokio::test]
async fn a_reaper_program_that_does_not_work_is_named() {
    let check = async |program: &str, cause: &str| {
        let reaper = Reaper::start(ReaperOptions { program: Some(program.into()), ledger: None });
        let error = soon(reaper.spawn(script("exit 0"), lease().0)).await.unwrap_err();
        assert_eq!(error.fault().class, FaultClass::BadConfig);
        assert_eq!(error.fault().message, format!("cannot start the reaper '{program}': {cause}"));
    };
    check("/no/such/reaper", "no such file or directory").await;
    check("/bin/true", "it ended at once: its main does not call reaper::intercept() first").await;
}

#[tokio::test]
async fn a_reaper_that_is_killed_at_its_start_is_no_mistake_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, cause) in [
        ("killed", "#!/bin/sh\nkill -9 $$\n", "it ended at once: signal: 9 (SIGKILL)"),
        ("failed", "#!/bin/sh\nexit 70\n", "it ended at once: exit status: 70"),
    ] {
        let program = folder.path().join(name);
        write_script(&program, text, 0o755);
        let reaper = Reaper::start(ReaperOptions { program: Some(program), ledger: None });
        let fault = soon(reaper.spawn(script("exit 0"), lease().0)).await.unwrap_err().fault();
        assert_eq!(fault.class, FaultClass::HostResource);
        assert_eq!(fault.message, format!("cannot start the reaper: {cause}"));
    }
}

#[tokio::test]
async fn a_program_that_is_being_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("new");
    std::fs::copy("/bin/true", &program).unwrap();
    let writer = std::fs::OpenOptions::new().write(true).open(&program).unwrap();
    for reaper in [reaper(), Reaper::start(ReaperOptions::default())] {
        let fault = soon(reaper.spawn(launch(&program, &[]), lease().0)).await.unwrap_err().fault();
        assert_eq!(fault.class, FaultClass::HostResource);
        assert!(fault.hint.is_some_and(|hint| hint.contains("being written")));
    }
    drop(writer);
}

#[tokio::test]
async fn a_child_works_in_our_folder_if_none_is_named() {
    for reaper in [reaper(), Reaper::start(ReaperOptions::default())] {
        let mut child = spawn(&reaper, script("pwd -P")).await;
        let ours = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(next_line(&mut lines(&mut child)).await, ours.to_str().unwrap());
    }
}

#[tokio::test]
async fn a_file_system_that_hangs_fails_its_own_server_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("held");
    std::fs::copy("/bin/true", &program).unwrap();
    // Whoever opens a leased file waits until the lease is given back, which takes 45 seconds: longer than a spawn may.
    let text = "$SIG{IO} = 'IGNORE'; open(F, '<', $ARGV[0]); $| = 1; print fcntl(F, 1024, 1) ? \"held\\n\" : \"no\\n\"; sleep 1000";
    let holder = tokio::process::Command::new("perl")
        .args(["-e", text])
        .arg(&program)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    // Without Perl, or leases on this file system, there is nothing that hangs.
    let Ok(mut holder) = holder else { return };
    let mut said = tokio::io::BufReader::new(holder.stdout.take().unwrap());
    let mut line = String::new();
    soon(tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line)).await.unwrap();
    if line != "held\n" {
        return;
    }
    for reaper in [reaper(), Reaper::start(ReaperOptions::default())] {
        let mut other = spawn(&reaper, script("read go; exit 8")).await;
        let (lease, dropped) = lease();
        let fault = soon(reaper.spawn(launch(&program, &[]), lease)).await.unwrap_err().fault();
        soon(dropped).await.unwrap_err();
        assert_eq!(
            (fault.class, fault.message),
            (FaultClass::HostResource, format!("'{}' does not answer", program.display()))
        );
        // At once now.
        let again = now();
        assert!(reaper.spawn(launch(&program, &[]), crate::support::lease().0).await.is_err());
        assert!(now() - again < std::time::Duration::from_secs(1));
        drop(other.take_stdin());
        assert_eq!(soon(other.exited()).await, Exit::Code(8));
    }
    soon(holder.kill()).await.unwrap();
    let child = spawn(&reaper(), launch(&program, &[])).await;
    assert_eq!(soon(child.exited()).await, Exit::Code(0));
}

#[tokio::test]
async fn secrets_are_not_in_the_standard_error() {
    let mut launch = script("echo \"token: $TOKEN\" >&2; printf '%.20s' \"$TOKEN\" >&2; exit 1");
    launch.env = vec![("TOKEN".into(), "ostler-test-0123456789".into())];
    launch.redact = vec![ostler_core::secret::Secret::new("ostler-test-0123456789")];
    for reaper in [reaper(), Reaper::start(ReaperOptions::default())] {
        let launch =
            Launch { env: launch.env.clone(), redact: launch.redact.clone(), args: launch.args.clone(), ..script("") };
        let child = spawn(&reaper, launch).await;
        soon(child.exited()).await;
        assert_eq!(child.stderr().tail(), "token: ***\n***");
        let lines: Vec<String> = child.stderr().since(0).into_iter().map(|line| line.text).collect();
        assert_eq!(lines[0], "token: ***");
    }
}

#[tokio::test]
async fn a_child_has_three_descriptors() {
    // Something that our launcher might have left open for everybody.
    let leaked = std::fs::File::open("/dev/null").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let seen = output(script("echo /proc/$$/fd/*")).await;
    let seen = String::from_utf8(seen).unwrap();
    let numbers: Vec<&str> = seen.split_whitespace().filter_map(|path| path.rsplit('/').next()).collect();
    // The listing itself takes one more.
    assert_eq!(numbers, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_child_sees_the_allowed_environment_and_its_own() {
    let mut launch = launch("env", &["-0"]);
    launch.env = vec![("TOKEN".into(), OsString::from_vec(b"t\xff=\n".to_vec()))];
    let seen = output(launch).await;
    let entries: Vec<&[u8]> = seen.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).collect();
    assert!(entries.contains(&b"TOKEN=t\xff=\n".as_slice()));
    let names: Vec<String> =
        entries.iter().map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap().to_owned()).collect();
    assert!(names.contains(&"PATH".into()) && names.contains(&"OSTLER_COOKIE".into()), "{names:?}");
    // Cargo gives every test a flock of these; the reaper's own marks are ours, too.
    let leaked: Vec<&String> =
        names.iter().filter(|name| name.starts_with("CARGO") || name.starts_with("OSTLER_REAPER")).collect();
    assert_eq!(leaked, Vec::<&String>::new());
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there was something to leak");
}

#[tokio::test]
async fn a_large_environment_arrives_whole() {
    let mut launch = script("for n in $(seq 0 8); do eval \"printf %s \\\"\\$LARGE_$n\\\"\"; done | wc -c");
    launch.env = (0..9).map(|n| (format!("LARGE_{n}").into(), "x".repeat(100_000).into())).collect();
    assert_eq!(String::from_utf8(output(launch).await).unwrap().trim(), "900000");
}

#[tokio::test]
async fn the_program_is_found_in_the_childs_own_path_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_script(&folder.path().join("only-here"), "#!/bin/sh\necho \"$PWD\"\n", 0o755);
    let mut launch = launch("only-here", &[]);
    launch.env = vec![("PATH".into(), format!("{}:/usr/bin:/bin", folder.path().display()).into())];
    launch.cwd = Some(folder.path().to_owned());
    let expected = folder.path().canonicalize().unwrap();
    assert_eq!(String::from_utf8(output(launch).await).unwrap().trim(), expected.to_str().unwrap());
}

#[tokio::test]
async fn a_child_starts_with_no_signal_blocked_or_ignored_by_us() {
    let seen = String::from_utf8(output(launch("grep", &["Sig", "/proc/self/status"])).await).unwrap();
    let mask = |name: &str| {
        let line = seen.lines().find(|line| line.starts_with(name)).expect("a line of status");
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk"), 0);
    let pipe = 1 << (nix::libc::SIGPIPE - 1);
    assert_eq!(mask("SigIgn") & pipe, 0);
}

#[tokio::test]
async fn the_last_words_are_known_with_the_exit() {
    let reaper = reaper();
    // More than a pipe holds: only a drained one lets it come to its end.
    let text =
        "for n in $(seq 1 20000); do echo \"line $n\"; done >&2; printf '\\033[31mlast words\\033[0m' >&2; exit 1";
    let child = spawn(&reaper, script(text)).await;
    assert_eq!(soon(child.exited()).await, Exit::Code(1));
    let tail = child.stderr().tail();
    assert!(tail.ends_with("line 20000\nlast words"), "{tail}");
    assert!(tail.len() <= 4096);
    assert_eq!(child.stderr().lines(), 20_000);
}

#[tokio::test]
async fn the_reaper_program_does_nothing_when_started_by_hand() {
    let started = tokio::process::Command::new(env!("CARGO_BIN_EXE_ostler-reaper")).output().await.unwrap();
    assert_eq!(started.status.code(), Some(64));
}
