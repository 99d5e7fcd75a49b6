//! Who said that a server is to be run, and what a person is shown and approves.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A project with a `.mcp.json`, a home with a configuration that imports it, and a program in `PATH`.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(server: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("home/.config/ostler/ostler.toml", "import = [\"~/p/.mcp.json\"]\n[servers.own]\ncommand = \"x\"");
        place.project(server);
        place.write("bin/npx", "");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.folder.path().join("bin/npx"), executable).unwrap();
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn project(&self, server: &str) {
        self.write("home/p/.mcp.json", &format!("{{\"mcpServers\": {{\"theirs\": {server}}}}}"));
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, String> {
        let root = self.folder.path().display().to_string();
        let (home, path) = (format!("{root}/home"), format!("/nowhere:{root}/bin"));
        let mut all = vec![("HOME", home.as_str()), ("PATH", path.as_str())];
        all.extend(variables);
        let environment = Environment::new(Path::new("/"), &all);
        Config::load_with(None, &environment).map_err(|errors| errors.to_string().replace(&root, "/f"))
    }

    fn theirs(&self, variables: &[(&str, &str)]) -> Server {
        self.load(variables).unwrap().servers.remove(1)
    }

    fn line(&self, variables: &[(&str, &str)]) -> String {
        self.theirs(variables).launch_line().replace(&self.folder.path().display().to_string(), "/f")
    }
}

const PLAIN: &str = r#"{"command": "npx", "args": ["-y", "thing@1.2.3"]}"#;

#[test]
fn a_projects_server_needs_consent_and_our_own_does_not() {
    let place = Place::new(PLAIN);
    let config = place.load(&[]).unwrap();
    let consent: Vec<_> = config.servers.iter().map(|server| (server.id.as_str(), server.needs_consent())).collect();
    assert_eq!(consent, [("own", false), ("theirs", true)]);
    assert_eq!(config.servers[0].origin, Origin::Own);
    let named = place.folder.path().join("home/p/.mcp.json");
    let environment = Environment::new(Path::new("/"), &[]);
    let config = Config::load_with(Some(&named), &environment).unwrap();
    assert_eq!((&config.servers[0].origin, config.servers[0].needs_consent()), (&Origin::Explicit, false));
}

#[test]
fn a_launch_line_is_shown_whole_and_without_secrets() {
    let place = Place::new(
        r#"{"command": "npx", "args": ["-y", "thing@1.2.3", "--token", "hunter2", "--key=${KEY}", "a b", "\u202e"],
           "env": {"TOKEN": "${TOKEN}", "LEVEL": "hunter2", "BOTH": "Bearer ${env:TOKEN}", "NODE_OPTIONS": "--require ./x.js"}}"#,
    );
    let variables = [("TOKEN", "hunter3"), ("KEY", "hunter4")];
    insta::assert_snapshot!(place.line(&variables), @r#"npx -y thing@1.2.3 --token *** --key=${KEY} "a b" "\u{202e}" (program /f/bin/npx, in /f/home/p, with BOTH=***${TOKEN} LEVEL=*** NODE_OPTIONS="--require ./x.js" TOKEN=${TOKEN})"#);
    place.project(r#"{"command": "missing", "cwd": "sub"}"#);
    insta::assert_snapshot!(place.line(&[]), @"missing (program not found, in /f/home/p/sub)");
    place.project(r#"{"url": "https://me:hunter2@x.example/mcp?key=hunter3", "headers": {"A": "Bearer hunter4"}}"#);
    insta::assert_snapshot!(place.line(&[]), @"https://me:***@x.example/mcp?key=*** (with A=***)");
}

#[test]
fn a_digest_changes_with_whatever_a_person_approves() {
    let place = Place::new(PLAIN);
    let digest = |server: &str, variables: &[(&str, &str)]| {
        place.project(server);
        place.theirs(variables).launch_digest()
    };
    let first = digest(r#"{"command": "npx", "args": ["a", "${T}"], "env": {"A": "1", "B": "${T}"}}"#, &[("T", "1")]);
    let same = r#"{"env": {"B": "${T}", "A": "1"}, "args": ["a", "${T}"], "command": "npx", "timeout": 5000}"#;
    assert_eq!(digest(same, &[("T", "2")]), first, "a secret of the person's own may be renewed");
    for other in [
        r#"{"command": "node", "args": ["a", "${T}"], "env": {"A": "1", "B": "${T}"}}"#,
        r#"{"command": "npx", "args": ["a ${T}"], "env": {"A": "1", "B": "${T}"}}"#,
        r#"{"command": "npx", "args": ["${T}", "a"], "env": {"A": "1", "B": "${T}"}}"#,
        r#"{"command": "npx", "args": ["a", "1"], "env": {"A": "1", "B": "${T}"}}"#,
        r#"{"command": "npx", "args": ["a", "${T}"], "env": {"A": "2", "B": "${T}"}}"#,
        r#"{"command": "npx", "args": ["a", "${T}"], "env": {"A": "1"}}"#,
        r#"{"command": "npx", "args": ["a", "${T}"], "env": {"A": "1", "B": "${T}"}, "cwd": "sub"}"#,
        r#"{"url": "https://x.example"}"#,
    ] {
        assert_ne!(digest(other, &[("T", "1")]), first, "{other}");
    }
}

#[test]
fn a_digest_changes_with_the_program_that_is_found() {
    let place = Place::new(PLAIN);
    let root = place.folder.path().display().to_string();
    let server = place.theirs(&[]);
    let first = server.launch_digest();
    assert_eq!(server.binary(), Some(place.folder.path().join("bin/npx")));
    std::fs::set_permissions(place.folder.path().join("bin/npx"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(server.binary(), None, "what cannot be run is not found");
    assert_ne!(server.launch_digest(), first);
    place.write("other/npx", "");
    std::fs::set_permissions(place.folder.path().join("other/npx"), std::fs::Permissions::from_mode(0o755)).unwrap();
    place
        .project(&format!(r#"{{"command": "npx", "args": ["-y", "thing@1.2.3"], "env": {{"PATH": "{root}/other"}}}}"#));
    let server = place.theirs(&[]);
    assert_eq!(server.binary(), Some(place.folder.path().join("other/npx")), "the server's own PATH goes first");
}

#[test]
fn a_digest_is_the_same_in_every_build() {
    let config = load("[servers.a]\ncommand = \"/nowhere/x\"\ncwd = \"/\"\nargs = [\"1\"]\nenv = { A = \"${TOKEN}\" }");
    let server = &config.unwrap().servers[0];
    insta::assert_snapshot!(server.launch_digest(), @"bea329ec2aba6baec661661af7a16238111a6e48d22fb7312766d9c1f614e6e0");
    insta::assert_snapshot!(server.fingerprint(), @r#"stdio Named("/nowhere/x") args#b17a75e8b6ceb8ba env[A#217b410e396ae17c] Some("/") era=Auto max_frame=4194304 Limits { memory: None, processes: None } sandbox=Off"#);
}

#[test]
fn a_project_reads_no_files_runs_no_commands_and_grants_itself_nothing() {
    let place =
        Place::new(r#"{"command": "x", "env": {"A": {"command": ["touch", "pwned"]}, "B": {"file": "~/.ssh/id"}}}"#);
    insta::assert_snapshot!(place.load(&[]).unwrap_err(), @r#"
    /f/home/p/.mcp.json:1: mcpServers.theirs.env.A: a project's file must not read files or run commands; write "${VAR}", and set it in the environment
    /f/home/p/.mcp.json:1: mcpServers.theirs.env.B: a project's file must not read files or run commands; write "${VAR}", and set it in the environment
    "#);
    assert!(!place.folder.path().join("home/p/pwned").exists());
    place.project(r#"{"command": "x", "ostler": {"sandbox": "off", "writable": ["/"], "memory": "1GiB"}}"#);
    let text = "import = [\"~/p/.mcp.json\"]\n[defaults]\nsandbox = \"restricted\"\nmemory = \"2GiB\"\n[servers.own]\ncommand = \"x\"";
    place.write("home/.config/ostler/ostler.toml", text);
    let config = place.load(&[]).unwrap();
    assert_eq!(config.servers[1].sandbox, Sandbox::Restricted { writable: vec![] });
    assert_eq!(config.servers[1].limits.memory, Some(2 << 30));
    assert_eq!(config.notices.len(), 3, "{:?}", config.notices);
}

#[test]
fn a_projects_server_can_be_put_into_a_group() {
    let place = Place::new(r#"{"command": "x", "ostler": {"group": "web", "start": "lazy"}}"#);
    let text = "import = [\"~/p/.mcp.json\"]\n[groups.web]\nprocesses = 5\n[servers.own]\ncommand = \"x\"";
    place.write("home/.config/ostler/ostler.toml", text);
    let server = place.theirs(&[]);
    assert_eq!((server.group.as_deref(), server.policy.lazy), (Some("web"), true));
    assert!(server.launch_line().ends_with(", of the group web)"), "a group can allow more: {}", server.launch_line());
    assert_ne!(Server { group: None, ..server.clone() }.launch_digest(), server.launch_digest());
    assert_eq!(server.limits.processes.map(std::num::NonZeroU32::get), Some(5));
}
