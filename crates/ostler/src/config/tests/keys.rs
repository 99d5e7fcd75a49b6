//! Keys of servers, groups and defaults: what each says, what wins, what is refused.

use std::num::NonZeroU32;

use super::*;

#[test]
fn a_server_goes_before_its_group_and_a_group_before_the_defaults() {
    let config = load(
        r#"[defaults]
call_timeout = "1s"
start_timeout = "1s"
stable_after = "1s"
backoff = { base = "2s" }
memory = "1GiB"
sandbox = "restricted"
writable = ["all"]
[groups.web]
start_timeout = "2s"
stable_after = "2s"
backoff = { cap = "20s" }
processes = 32
writable = ["web", "~/web"]
[groups.bare]
[servers.a]
command = "x"
group = "web"
stable_after = "3s"
memory = "off"
[servers.b]
command = "x"
group = "bare"
[servers.c]
command = "x"
sandbox = "off"
"#,
    )
    .unwrap();
    let [a, b, c] = config.servers.as_slice() else { panic!("three servers") };
    let seconds = |server: &Server| {
        [server.lane.call_timeout, server.policy.start_timeout, server.policy.stable_after].map(|time| time.as_secs())
    };
    assert_eq!((seconds(a), seconds(b), seconds(c)), ([1, 2, 3], [1, 1, 1], [1, 1, 1]));
    let schedule = |cap| ostler_policy::Schedule::new(Duration::from_secs(2), 2.0, Duration::from_secs(cap)).unwrap();
    assert_eq!((&a.policy.schedule, &b.policy.schedule), (&schedule(20), &schedule(30)));
    assert_eq!(a.limits, Limits { memory: None, processes: NonZeroU32::new(32) });
    assert_eq!(b.limits, Limits { memory: Some(1 << 30), processes: None });
    assert_eq!((a.group.as_deref(), b.group.as_deref(), c.group.as_deref()), (Some("web"), Some("bare"), None));
    let Sandbox::Restricted { writable } = &a.sandbox else { panic!("the defaults restrict it") };
    assert!(writable[0].is_absolute() && writable[0].ends_with("web"), "{writable:?}");
    assert_eq!(writable[1], Path::new("/home/u/web"));
    assert_eq!(c.sandbox, Sandbox::Off);
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn what_a_group_switches_on_a_server_can_switch_off() {
    let config = load(
        r#"[groups.web]
start = "lazy"
idle_stop = "10m"
probe = "5s"
required = true
on_restart = "silent"
expected_exits = [0, 143]
intensity = { restarts = 3 }
[servers.plain]
command = "x"
[servers.grouped]
command = "x"
group = "web"
intensity = { within = "1m" }
[servers.off]
command = "x"
group = "web"
start = "eager"
idle_stop = "off"
probe = "off"
required = false
on_restart = "surface"
expected_exits = []
intensity = "off"
"#,
    )
    .unwrap();
    let seen = |name: &str| {
        let server = config.servers.iter().find(|server| server.id.as_str() == name).unwrap();
        let ostler_policy::Policy { lazy, required, idle_stop, probe, expected_exits, intensity, on_restart, .. } =
            &server.policy;
        let intensity = intensity.map(|it| (it.restarts.get(), it.within.as_secs()));
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let times = (seconds(*idle_stop), seconds(*probe));
        (*lazy, *required, times, expected_exits.clone(), intensity, *on_restart)
    };
    let standard = (false, false, (None, Some(30)), vec![0], Some((15, 600)), ostler_policy::OnRestart::Surface);
    assert_eq!(seen("plain"), standard);
    let grouped = (true, true, (Some(600), Some(5)), vec![0, 143], Some((3, 60)), ostler_policy::OnRestart::Silent);
    assert_eq!(seen("grouped"), grouped);
    assert_eq!(seen("off"), (false, false, (None, None), vec![], None, ostler_policy::OnRestart::Surface));
}

#[test]
fn the_daemon_and_who_is_told_are_read() {
    let config = load(
        "[daemon]\nstate = \"~/state\"\nstart_slots = 3\n\
         [notify]\ncommand = [\"~/bin/tell\", \"--key=${TOKEN}\"]\nwebhook = \"https://x.example/${TOKEN}\"",
    )
    .unwrap();
    assert_eq!(config.daemon.state, Path::new("/home/u/state"));
    assert_eq!(config.daemon.start_slots, NonZeroU32::new(3));
    let command = config.notify.command.as_ref().unwrap();
    assert_eq!(command.program, "/home/u/bin/tell");
    assert_eq!(command.args[0].expose(), "--key=hunter2");
    assert_eq!(config.notify.webhook.as_ref().unwrap().expose(), "https://x.example/hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_is_remembered_lies_in_a_folder_of_the_user() {
    let state = |variables: &[(&str, &str)]| load_named("o.toml", "", variables).unwrap().daemon.state;
    assert_eq!(state(&[("HOME", "/h")]), Path::new("/h/.local/state/ostler"));
    assert_eq!(state(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Path::new("/s/ostler"));
    assert_eq!(state(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")]), Path::new("/h/.local/state/ostler"));
    assert_eq!(state(&[]), Path::new("/var/lib/ostler"), "never where others can make it first");
}

#[test]
fn every_wrong_key_is_told_with_advice() {
    let text = r#"[daemon]
start_slots = 0
state = 3
[notify]
command = []
webhook = "example.org"
[defaults]
start = "later"
idle_stop = "never"
on_restart = "loud"
required = "yes"
probe = 30
expected_exits = [0, 256]
intensity = { restarts = 0, whithin = "10m" }
memory = "512MB"
processes = 0
sandbox = "on"
writable = "here"
[groups.web]
intensity = "of"
backoff = { base = "1m", cap = "1s" }
[groups."a b"]
[groups.web2]
group = "web"
[servers.a]
command = "x"
group = "wob"
[servers.b]
command = "x"
group = "xyzzy"
[servers.c]
command = "x"
group = "web"
[servers.d]
command = "x"
writable = ["${NOT_SET}"]
"#;
    insta::assert_snapshot!(problems(text), @r#"
    ostler.toml:2: daemon.start_slots: the number 0 does not fit here; write a whole number from 1 on, without quotes
    ostler.toml:3: daemon.state: the number 3 does not fit here; write a text in quotes
    ostler.toml:5: notify.command: the command is empty; write the program and its arguments: ["program", "argument"]
    ostler.toml:8: defaults.start: unknown value "later"; write one of "eager", "lazy"
    ostler.toml:9: defaults.idle_stop: "never" is not a duration; write a duration such as "500ms", "30s", "5m" or "1h", or "off"
    ostler.toml:10: defaults.on_restart: unknown value "loud"; write one of "silent", "surface"
    ostler.toml:11: defaults.required: a text does not fit here; write true or false, without quotes
    ostler.toml:12: defaults.probe: 30 has no unit; write a duration such as "30s", or "off"
    ostler.toml:13: defaults.expected_exits[1]: the number 256 does not fit here; write an exit code from 0 to 255, without quotes
    ostler.toml:14: defaults.intensity.restarts: the number 0 does not fit here; write a whole number from 1 on, without quotes
    ostler.toml:14: defaults.intensity.whithin: unknown key; did you mean "within"?
    ostler.toml:15: defaults.memory: "512MB" is not such a size; write an amount of memory such as "512MiB" or "2GiB", from "1MiB" to "16384GiB", or "off"
    ostler.toml:16: defaults.processes: the number 0 does not fit here; write a whole number from 1 on, without quotes, or "off"
    ostler.toml:17: defaults.sandbox: unknown value "on"; write one of "off", "restricted"
    ostler.toml:18: defaults.writable: a text does not fit here; write a list in [ ]
    ostler.toml:20: groups.web.intensity: a text does not fit here; write a table, or "off"
    ostler.toml:21: groups.web.backoff: the longest delay must not be shorter than the first; write one such as { base = "1s", factor = 2, cap = "30s" }
    ostler.toml:22: groups."a b": a group's name has letters, digits, "-", "_" and "."; write one such as "web"
    ostler.toml:24: groups.web2.group: unknown key; the keys here are restart, start, idle_stop, expected_exits, backoff, intensity, stable_after, start_timeout, probe, required, on_restart, call_timeout, notify_after, quarantine_after, stop_grace, while_restarting, max_in_flight, max_waiting, max_frame, memory, processes, sandbox, writable
    ostler.toml:27: servers.a.group: there is no group "wob"; did you mean "web"?
    ostler.toml:30: servers.b.group: there is no group "xyzzy"; write the table [groups.xyzzy], which may be empty, or remove this
    ostler.toml:36: servers.d.writable[0]: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}
    "#);
}

#[test]
fn a_writable_folder_without_a_sandbox_is_noticed() {
    let config = load("[servers.a]\ncommand = \"x\"\nwritable = [\"here\"]").unwrap();
    insta::assert_snapshot!(config.notices.join("\n"), @r#"ostler.toml:3: servers.a.writable: nothing is forbidden to this server; write sandbox = "restricted" too"#);
}

#[test]
fn unwise_launch_lines_are_noticed() {
    let config = load(
        r#"[servers.a]
command = "npx"
args = ["-y", "@playwright/mcp@latest"]
[servers.b]
command = "/usr/local/bin/uvx"
args = ["mcp-server-time"]
[servers.c]
command = "bash"
args = ["-lc", "exec server"]
[servers.d]
command = "npx"
args = ["-y", "thing"]
enabled = false
[servers.e]
command = "npx"
args = ["-y", "thing@1.2.3"]
[servers.f]
command = "sh"
args = ["run.sh", "-c"]
"#,
    )
    .unwrap();
    insta::assert_snapshot!(config.notices.join("\n"), @r#"
    ostler.toml:3: servers.a.args[1]: "@playwright/mcp@latest" is whatever was published last; pin it: write "@playwright/mcp@1.2.3", with the version that you trust
    ostler.toml:6: servers.b.args[0]: "mcp-server-time" is whatever was published last; pin it: write "mcp-server-time==1.2.3", with the version that you trust
    ostler.toml:9: servers.c.args[0]: a shell takes this text apart, and stands between us and the server; write the program as command and its words as args
    "#);
}

#[test]
fn a_file_that_everybody_can_write_is_refused_unless_it_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(".config/ostler/ostler.toml");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "").unwrap();
    let home = folder.path().to_string_lossy().into_owned();
    let environment = Environment::new(folder.path(), &[("HOME", &home)]);
    assert!(Config::load_with(None, &environment).is_ok());
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = Config::load_with(None, &environment).unwrap_err().to_string().replace(&home, "/f");
    insta::assert_snapshot!(refused, @"/f/.config/ostler/ostler.toml: everybody on this machine can write it, and so run programs as you; take that away with chmod o-w");
    let named = Config::load_with(Some(&own), &environment).unwrap();
    assert_eq!(named.notices.len(), 1, "{:?}", named.notices);
}
