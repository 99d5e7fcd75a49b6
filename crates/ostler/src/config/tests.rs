//! The configuration as a whole: the shipped file, every kind of error, what wins. The files of other hosts: `hosts`.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

mod consent;
mod folder;
mod hosts;
mod keys;
mod reloading;

/// Checks a text as a file that nobody named.
fn check(source: &Source, text: String, environment: &Environment, report: &mut Report) -> Option<check::Parts> {
    check_text(&Given { source, named: false, text }, environment, report)
}

/// Loads `text` as a file of that name in a folder of its own.
fn load_named(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    let environment = Environment::new(folder.path(), variables);
    let plain = |text: String| text.replace(&folder.path().display().to_string(), "/f");
    Config::load_with(Some(Path::new(name)), &environment).map_err(|errors| plain(errors.to_string()))
}

fn load(text: &str) -> Result<Config, String> {
    load_named("ostler.toml", text, &[("HOME", "/home/u"), ("TOKEN", "hunter2")])
}

/// The problems of a file, one a line.
fn problems(text: &str) -> String {
    load(text).expect_err("the file should be refused")
}

#[test]
fn the_shipped_file_is_the_built_in_default() {
    let environment = Environment::new(Path::new("/nowhere"), &[("HOME", "/home/u")]);
    let config = Config::load_with(None, &environment).unwrap();
    assert_eq!(config.source, Source::BuiltIn);
    assert_eq!(config.notices, Vec::<String>::new());
    assert_eq!(config.servers.iter().map(|server| server.id.as_str()).collect::<Vec<_>>(), ["math", "notes"]);
    for server in &config.servers {
        let Transport::Stdio { program, cwd, env, .. } = &server.transport else { panic!("a local server") };
        assert_eq!((program, cwd, env.len()), (&Program::Ourselves, &None, 0));
    }
    assert_eq!(config.daemon.socket, Path::new("/home/u/.local/state/ostler/ostler.sock"));
    assert!(matches!(&config.model, ModelChoice::Rehearsal(Script { origin: None, .. })));
}

#[test]
fn what_the_shipped_file_says_of_defaults_is_true() {
    let environment = Environment::new(Path::new("/nowhere"), &[("ANTHROPIC_API_KEY", "hunter2")]);
    let mut report = Report::default();
    let mut parts = |text: String| check(&Source::BuiltIn, text, &environment, &mut report).unwrap();
    let as_shipped = parts(BUILT_IN.to_owned());
    let spelt_out: String = BUILT_IN
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(spelt_out.matches("\nstop_grace = ").count() == 2, "the settings lost their marks");
    let with_all_keys = parts(spelt_out);
    assert_eq!(report.finish(), Ok(vec![]));
    assert_eq!(format!("{:?}", as_shipped.servers), format!("{:?}", with_all_keys.servers));
    assert_eq!(as_shipped.daemon, with_all_keys.daemon);
    assert_eq!(as_shipped.model, with_all_keys.model);
    assert_eq!(as_shipped.turn, with_all_keys.turn);
    let probe = Some(Duration::from_secs(30));
    assert_eq!(as_shipped.servers[0].policy, ostler_policy::Policy { probe, ..ostler_policy::Policy::default() });
}

#[test]
fn the_examples_load() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/examples"));
    let environment = Environment::new(folder, &[]);
    let config = Config::load_with(Some(Path::new("many-servers.toml")), &environment).unwrap();
    let ids: Vec<&str> = config.servers.iter().map(|server| server.id.as_str()).collect();
    assert_eq!(ids, ["everything", "tickets", "search", "time", "filesystem"]);
    assert_eq!(config.servers[4].lane.call_timeout, Duration::from_secs(30));
    assert_eq!(config.daemon.ops, None);
    // A host's file is as its user has it; of our own examples there is nothing to say.
    assert!(
        config.notices.iter().all(|notice| notice.contains("claude_desktop_config.json:7: ")),
        "{:?}",
        config.notices
    );
    assert_eq!(config.notices.len(), 1);
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_advice() {
    let text = r#"import = ["missing.json"]
servrs = {}
[daemon]
ops = "9464"
socket = 7
[defaults]
restart = "sometimes"
call_timeout = 30
max_in_flight = 0
max_frame = "4MB"
backoff = { base = "1m", cap = "1s", factr = 2 }
[servers.files]
comand = "npx"
args = "-y"
[servers.both]
command = "npx -y thing"
url = "ftp://x"
[servers.line]
command = "npx -y thing"
[servers.line.env]
A = "${NOT_SET}"
B = { file = "nowhere" }
C = { path = "x" }
D = ["x"]
"E=F" = "x"
[servers.odd]
command = "x"
headers = { A = "b" }
[servers.remote]
url = "example.org"
args = ["x"]
[servers."!!"]
command = "x"
[servers.ostler]
command = "x"
[servers.a_b]
command = "x"
[servers."a b"]
command = "x"
[servers."A-B"]
command = "x"
[model]
provider = "anthropic"
max_tokens = -1
timeout = "never"
"#;
    insta::assert_snapshot!(problems(text), @r#"
    ostler.toml:1: import[0]: /f/missing.json cannot be read: No such file or directory (os error 2); write the path of a JSON file with "mcpServers", or remove it
    ostler.toml:2: servrs: unknown key; did you mean "servers"?
    ostler.toml:4: daemon.ops: "9464" is not an address; write an address and a port such as "127.0.0.1:9464", or "off"
    ostler.toml:5: daemon.socket: the number 7 does not fit here; write a text in quotes
    ostler.toml:7: defaults.restart: unknown value "sometimes"; write one of "always", "on-failure", "never"
    ostler.toml:8: defaults.call_timeout: 30 has no unit; write a duration such as "30s"
    ostler.toml:9: defaults.max_in_flight: the number 0 does not fit here; write a whole number from 1 on, without quotes
    ostler.toml:10: defaults.max_frame: "4MB" is not such a size; write a size such as "64KiB" or "4MiB", from "1KiB" to "1GiB"
    ostler.toml:11: defaults.backoff.factr: unknown key; did you mean "factor"?
    ostler.toml:11: defaults.backoff: the longest delay must not be shorter than the first; write one such as { base = "1s", factor = 2, cap = "30s" }
    ostler.toml:13: servers.files.comand: unknown key; did you mean "command"?
    ostler.toml:14: servers.files.args: a text does not fit here; write a list in [ ]
    ostler.toml:17: servers.both.url: a server has a command or a url; remove one of the two
    ostler.toml:19: servers.line.command: this is a whole command line; write command = "npx" and args = ["-y", "thing"]
    ostler.toml:21: servers.line.env.A: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}
    ostler.toml:22: servers.line.env.B: the file /f/nowhere cannot be used: No such file or directory (os error 2); write the path of a readable text file
    ostler.toml:23: servers.line.env.C: this table says nothing that can be read; write "text", "${VAR}", {file = "path"} or {command = ["program", "argument"]}
    ostler.toml:24: servers.line.env.D: a list does not fit here; write "text", "${VAR}", {file = "path"} or {command = ["program", "argument"]}
    ostler.toml:25: servers.line.env."E=F": this is no name of a variable; write one without "="
    ostler.toml:28: servers.odd.headers: headers are for remote servers; remove them, or write url for command
    ostler.toml:30: servers.remote.url: this is no web address; write url = "https://..."
    ostler.toml:31: servers.remote.args: this is for local servers; remove it, or write command for url
    ostler.toml:32: servers."!!": a server name must contain a letter or a digit; write a name such as "files"
    ostler.toml:34: servers.ostler: the server name 'ostler' is reserved; write a name such as "files"
    ostler.toml:40: servers.A-B: the servers "A-B" and "a b" (ostler.toml:38: servers."a b") would share the name "a-b"; rename one
    ostler.toml:43: model.provider: there is no API key; set ANTHROPIC_API_KEY, write api_key = "${VAR}", or provider = "rehearsal"
    ostler.toml:44: model.max_tokens: the number -1 does not fit here; write a whole number from 1 on, without quotes
    ostler.toml:45: model.timeout: "never" is not a duration; write a duration such as "500ms", "30s", "5m" or "1h"
    "#);
}

#[test]
fn a_broken_file_is_refused_with_its_lines() {
    insta::assert_snapshot!(problems("[daemon]\nops = \nsocket = 'x\n[x"), @r#"
    ostler.toml:2: this is not TOML: string values must be quoted, expected literal string
    ostler.toml:3: this is not TOML: invalid literal string, expected `'`
    ostler.toml:4: this is not TOML: unclosed table, expected `]`
    "#);
    insta::assert_snapshot!(problems("servers = 3\nmodel = true"), @r#"
    ostler.toml:1: servers: the number 3 does not fit here; write a table of names and values
    ostler.toml:2: model: true does not fit here; write a table
    "#);
    let nowhere = Config::load_with(Some(Path::new("no.toml")), &Environment::new(Path::new("/nowhere"), &[]));
    insta::assert_snapshot!(nowhere.unwrap_err(), @"no.toml: the file cannot be read: No such file or directory (os error 2); write the path of an existing file, or leave --config and OSTLER_CONFIG out");
}

#[test]
fn a_servers_own_keys_win_over_the_defaults() {
    let config = load(
        r#"[defaults]
restart = "never"
call_timeout = "5s"
backoff = { base = "2s", cap = "8s" }
notify_after = 0
[servers.a]
command = "x"
[servers.b]
command = "x"
restart = "on-failure"
backoff = { cap = "4s" }
while_restarting = "fail"
quarantine_after = 2
protocol = "legacy"
max_waiting = 0
"#,
    )
    .unwrap();
    let [a, b] = config.servers.as_slice() else { panic!("two servers") };
    let schedule = |base, cap| ostler_policy::Schedule::new(Duration::from_secs(base), 2.0, Duration::from_secs(cap));
    let probe = Some(Duration::from_secs(30));
    let standard = ostler_policy::Policy { notify_after: None, probe, ..ostler_policy::Policy::default() };
    let expected_a = ostler_policy::Policy {
        restart: ostler_policy::Restart::Never,
        schedule: schedule(2, 8).unwrap(),
        ..standard.clone()
    };
    let expected_b = ostler_policy::Policy {
        restart: ostler_policy::Restart::OnFailure,
        schedule: schedule(2, 4).unwrap(),
        quarantine_after: std::num::NonZeroU32::new(2),
        ..standard
    };
    assert_eq!((&a.policy, &b.policy), (&expected_a, &expected_b));
    let lane = Lane {
        in_flight: 64,
        waiting: 64,
        call_timeout: Duration::from_secs(5),
        while_restarting: WhileRestarting::Wait,
    };
    assert_eq!(a.lane, lane);
    assert_eq!(b.lane, Lane { waiting: 0, while_restarting: WhileRestarting::Fail, ..lane });
    assert_eq!((a.era, b.era), (Era::Auto, Era::Legacy));
}

#[test]
fn paths_start_at_the_files_folder() {
    let environment = Environment::new(Path::new("/w"), &[("HOME", "/home/u")]);
    let check_paths = |text: &str, program: &str, cwd: &str| {
        let mut report = Report::default();
        let source = Source::File("etc/o.toml".into());
        let text = format!("[servers.a]\ncommand = {text}");
        let parts = check(&source, text, &environment, &mut report).unwrap();
        assert_eq!(report.finish(), Ok(vec![]));
        let Transport::Stdio { program: named, cwd: folder, .. } = &parts.servers[0].transport else {
            panic!("a local server")
        };
        assert_eq!((named, folder.as_deref()), (&Program::Named(program.into()), Some(Path::new(cwd))));
    };
    check_paths("\"npx\"", "npx", "/w/etc");
    check_paths("\"bin/x\"\ncwd = \"sub\"", "/w/etc/bin/x", "/w/etc/sub");
    check_paths("\"~/x\"\ncwd = \"/abs\"", "/home/u/x", "/abs");
    check_paths("\"${HOME}/x\"\ncwd = \"~\"", "/home/u/x", "/home/u");
}

#[test]
fn secrets_are_read_and_never_shown() {
    let config = load_named(
        "ostler.toml",
        "[servers.a]\ncommand = \"x\"\nargs = [\"--token=${TOKEN}\"]\nenv = { T = \"${TOKEN}\", L = \"hunter3\" }\n\
         [servers.r]\nurl = \"https://x/?k=${TOKEN}\"\nheaders = { A = \"Bearer ${TOKEN}\" }\n\
         [model]\napi_key = \"${TOKEN}\"",
        &[("TOKEN", "hunter2")],
    )
    .unwrap();
    let Transport::Stdio { args, env, .. } = &config.servers[0].transport else { panic!("a local server") };
    assert_eq!(args[0].expose(), "--token=hunter2");
    assert_eq!(env[0].1.expose(), "hunter2");
    let Transport::Remote { headers, .. } = &config.servers[1].transport else { panic!("a remote server") };
    assert_eq!(headers[0].1.expose(), "Bearer hunter2");
    let mut seen = format!("{config:?}");
    for server in &config.servers {
        write!(seen, "{}", server.fingerprint()).unwrap();
    }
    assert!(!seen.contains("hunter"), "{seen}");
}

#[test]
fn a_fingerprint_changes_exactly_with_the_launch_line() {
    let fingerprint = |text: &str| load(&format!("[servers.a]\n{text}")).unwrap().servers[0].fingerprint();
    // The folder of each load is another one, so that the working folder must be said.
    let first = fingerprint("command = \"x\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { A = \"1\", B = \"2\" }");
    let same = "command = \"x\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { B = \"2\", A = \"1\" }\nrestart = \"never\"";
    assert_eq!(first, fingerprint(same));
    for other in [
        "command = \"y\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { A = \"1\", B = \"2\" }",
        "command = \"x\"\ncwd = \"/tmp\"\nargs = [\"1\"]\nenv = { A = \"1\", B = \"2\" }",
        "command = \"x\"\ncwd = \"/\"\nargs = [\"1\", \"\"]\nenv = { A = \"1\", B = \"2\" }",
        "command = \"x\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { A = \"1\", B = \"3\" }",
        "command = \"x\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { A = \"1\", C = \"2\" }",
    ] {
        assert_ne!(first, fingerprint(other), "{other}");
    }
}

#[test]
fn a_switched_off_server_needs_no_secrets() {
    let config = load(
        "[servers.a]\ncommand = \"x\"\nenabled = false\nenv = { A = \"${NOT_SET}\", B = { command = [\"false\"] } }",
    );
    let server = &config.unwrap().servers[0];
    assert!(!server.enabled && !server.policy.enabled);
}

#[test]
fn a_remote_server_is_noticed_and_hinders_nobody() {
    let config = load("[servers.far]\nurl = \"https://example.org/mcp\"\n[servers.near]\ncommand = \"x\"").unwrap();
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.notices, [format!("ostler.toml:1: servers.far: {REMOTE_UNSUPPORTED}")]);
}

#[test]
fn a_name_outside_the_alphabet_is_mapped_with_a_notice() {
    let config = load("[servers.\"My Files!\"]\ncommand = \"x\"").unwrap();
    assert_eq!((config.servers[0].id.as_str(), config.servers[0].configured_name.as_str()), ("My-Files", "My Files!"));
    let notice = "ostler.toml:1: servers.\"My Files!\": the server \"My Files!\" is called \"My-Files\" here";
    assert_eq!(config.notices, [notice]);
}

#[test]
fn the_model_follows_the_key() {
    let provider =
        |model: &str, variables: &[(&str, &str)]| match load_named("o.toml", &format!("[model]\n{model}"), variables)
            .unwrap()
            .model
        {
            ModelChoice::Rehearsal(script) => format!("rehearsal {:?} {}", script.reason, script.origin.is_some()),
            ModelChoice::Anthropic(Anthropic { api_key, base_url, version, auth, .. }) => {
                format!("{} {base_url} {version} {auth:?}", api_key.expose())
            }
        };
    let key = ("ANTHROPIC_API_KEY", "k");
    let base = ("ANTHROPIC_BASE_URL", "http://b");
    for (model, variables, expected) in [
        ("", &[][..], "rehearsal NoKey false"),
        ("", &[("ANTHROPIC_API_KEY", "")][..], "rehearsal NoKey false"),
        ("", &[key][..], "k https://api.anthropic.com 2026-10-21 Bearer"),
        ("", &[key, base][..], "k http://b 2026-10-21 Bearer"),
        ("base_url = \"http://c\"", &[key, base][..], "k http://c 2026-10-21 Bearer"),
        ("version = \"2023-06-01\"", &[key][..], "k https://api.anthropic.com 2023-06-01 XApiKey"),
        ("auth = \"x-api-key\"", &[key][..], "k https://api.anthropic.com 2026-10-21 XApiKey"),
        ("api_key = \"${MINE}\"", &[("MINE", "m"), key][..], "m https://api.anthropic.com 2026-10-21 Bearer"),
        ("provider = \"rehearsal\"", &[key][..], "rehearsal Configured false"),
        ("provider = \"rehearsal\"\nscript = \"o.toml\"", &[][..], "rehearsal Configured true"),
    ] {
        assert_eq!(provider(model, variables), expected, "{model} {variables:?}");
    }
}

#[test]
fn a_configuration_is_looked_for_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
    };
    let text = |path: &str| folder.path().join(path).to_string_lossy().into_owned();
    let (home, xdg, named) = (text("home"), text("xdg"), text("named.toml"));
    let source = |variables: &[(&str, &str)]| {
        Config::load_with(None, &Environment::new(folder.path(), variables)).map(|config| config.source)
    };
    let home = ("HOME", home.as_str());
    assert_eq!(source(&[home]), Ok(Source::BuiltIn));
    write("home/.config/ostler/ostler.toml");
    assert_eq!(source(&[home]), Ok(Source::File(text("home/.config/ostler/ostler.toml").into())));
    write("xdg/ostler/ostler.toml");
    let xdg = ("XDG_CONFIG_HOME", xdg.as_str());
    assert_eq!(source(&[home, xdg]), Ok(Source::File(text("xdg/ostler/ostler.toml").into())));
    write("config/ostler.toml");
    write("ostler.toml");
    assert_eq!(source(&[home, xdg]), Ok(Source::File(text("xdg/ostler/ostler.toml").into())), "not from here");
    let named = ("OSTLER_CONFIG", named.as_str());
    assert!(source(&[named]).is_err(), "a named file that is missing is an error");
    write("named.toml");
    assert_eq!(source(&[home, xdg, named]), Ok(Source::File(text("named.toml").into())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Lines that nearly are a configuration reach the checks; any text at all reaches the readers.
    #[test]
    fn any_file_is_accepted_or_refused_with_places(
        lines in prop::collection::vec(
            prop_oneof![
                "\\[(servers\\.[a-zA-Z-]{1,3}|servers|defaults|model|daemon)\\]",
                "(command|args|env|cwd|url|restart|backoff|ops|provider|import|max_frame|call_timeout) = \
                 (\"[a-z0-9${}:~/ ]{0,8}\"|[0-9]{1,20}|-?[0-9.e]{1,6}|true|\\[\"x\"\\]|\\{ (file|base|x) = \"[0-9a-z]{0,3}\" \\}|1979-05-27)",
                "\\PC{0,20}",
            ],
            0..12,
        )
    ) {
        let environment = Environment::new(Path::new("/nowhere"), &[("HOME", "/home/u")]);
        for source in ["o.toml", "o.json"] {
            let mut report = Report::default();
            let parts = check(&Source::File(source.into()), lines.join("\n"), &environment, &mut report);
            match report.finish() {
                Ok(_) => prop_assert!(parts.is_some()),
                Err(errors) => prop_assert!(errors.problems().iter().all(|problem| problem.message.contains(' '))),
            }
        }
    }
}
