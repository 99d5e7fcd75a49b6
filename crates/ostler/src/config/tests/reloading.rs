//! The same source again: what is watched, what is read anew, what is told.

use super::*;

#[test]
fn what_makes_up_a_configuration_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("servers.d")).unwrap();
    write("servers.d/a.toml", "");
    write("hosts.json", "{\"mcpServers\": {}}");
    write("script.toml", BUILT_IN_SCRIPT);
    write("ostler.toml", "import = [\"hosts.json\"]\n[model]\nscript = \"script.toml\"");
    let environment = Environment::new(folder.path(), &[("HOME", "/home/u")]);
    let watched = |config: Config| {
        let root = folder.path().display().to_string();
        config.watched().iter().map(|path| path.display().to_string().replace(&root, "/f")).collect::<Vec<_>>()
    };
    let config = Config::load_with(Some(Path::new("ostler.toml")), &environment).unwrap();
    let expected = ["/f/ostler.toml", "/f/servers.d", "/f/servers.d/a.toml", "/f/hosts.json", "/f/script.toml"];
    assert_eq!(watched(config), expected);
    let config = Config::load_with(Some(Path::new("hosts.json")), &environment).unwrap();
    assert_eq!(watched(config), ["/f/hosts.json"]);
    let config = Config::load_with(None, &environment).unwrap();
    assert_eq!(watched(config), ["/home/u/.config/ostler/ostler.toml"], "where a file may appear");
}

#[test]
fn a_reload_reads_the_same_source_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home/.config/ostler/ostler.toml");
    let home = folder.path().join("home").to_string_lossy().into_owned();
    let config = Config::load_with(None, &Environment::new(folder.path(), &[("HOME", &home)])).unwrap();
    assert_eq!(config.reload().unwrap().source, Source::BuiltIn);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "[servers.a]\ncommand = \"x\"").unwrap();
    let config = config.reload().unwrap();
    assert_eq!((&config.source, config.servers.len()), (&Source::File(path.clone()), 1));
    assert_eq!(config.servers[0].origin, Origin::Own);
    std::fs::write(&path, "[servers.a]\ncomand = \"x\"").unwrap();
    assert!(config.reload().unwrap_err().to_string().contains("did you mean \"command\"?"));
    std::fs::remove_file(&path).unwrap();
    assert!(config.reload().unwrap_err().to_string().contains("cannot be read"), "not the built-in one");
}

#[test]
fn a_change_is_told_without_its_secrets() {
    let old = load(
        r#"[servers.same]
command = "x"
cwd = "/"
[servers.gone]
command = "x"
[servers.a]
command = "x"
cwd = "/"
args = ["${TOKEN}"]
env = { KEY = "hunter3", OLD = "1" }
[model]
provider = "anthropic"
api_key = "hunter4"
"#,
    )
    .unwrap();
    let new = load(
        r#"[daemon]
ops = "off"
start_slots = 9
[notify]
webhook = "https://x.example/hunter5"
[groups.web]
[servers.same]
command = "x"
cwd = "/"
[servers.a]
command = "y"
cwd = "/tmp"
group = "web"
args = ["hunter6"]
env = { KEY = "hunter7", NEW = "1" }
enabled = true
start = "lazy"
restart = "on-failure"
call_timeout = "90s"
memory = "512MiB"
sandbox = "restricted"
writable = ["/data"]
[servers.new]
command = "x"
[model]
provider = "anthropic"
api_key = "hunter8"
"#,
    )
    .unwrap();
    insta::assert_snapshot!(diff(&old, &new).join("\n"), @r#"
    server a: group none -> web
    server a: command "x" -> "y"
    server a: args changed
    server a: cwd / -> /tmp
    server a: env KEY changed
    server a: env NEW added
    server a: start eager -> lazy
    server a: restart always -> on-failure
    server a: call_timeout 60s -> 90s
    server a: memory off -> 512MiB
    server a: sandbox off -> restricted [/data]
    server a: env OLD removed
    server new: added
    server gone: removed
    daemon.ops 127.0.0.1:9464 -> off
    daemon.start_slots by cores -> 9
    notify.webhook changed
    model.api_key changed
    "#);
    assert_eq!(diff(&new, &new), Vec::<String>::new());
}
