//! `servers.d`: files beside the main one.

use super::*;

/// A folder with these files, among them `ostler.toml`.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("servers.d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load_in(folder: &tempfile::TempDir) -> Result<Config, String> {
    let environment = Environment::new(folder.path(), &[("HOME", "/home/u")]);
    let path = folder.path().display().to_string();
    Config::load_with(Some(Path::new("ostler.toml")), &environment)
        .map_err(|errors| errors.to_string().replace(&path, "/f"))
}

#[test]
fn servers_and_groups_of_the_folder_are_as_if_they_stood_in_the_file() {
    let folder = folder(&[
        ("ostler.toml", "[defaults]\nmemory = \"1GiB\"\n[servers.main]\ncommand = \"x\"\ngroup = \"web\""),
        ("servers.d/20-b.toml", "[servers.b]\ncommand = \"bin/x\"\ngroup = \"web\""),
        ("servers.d/10-a.toml", "[groups.web]\nprocesses = 9\n[servers.a]\ncommand = \"x\""),
        ("servers.d/.hidden.toml", "not toml"),
        ("servers.d/notes.txt", "not toml"),
        ("servers.d/old.toml~", "not toml"),
    ]);
    let config = load_in(&folder).unwrap();
    let seen: Vec<_> = config
        .servers
        .iter()
        .map(|server| (server.id.as_str(), server.limits.processes.map_or(0, std::num::NonZeroU32::get)))
        .collect();
    assert_eq!(seen, [("main", 9), ("a", 0), ("b", 9)]);
    assert!(config.servers.iter().all(|server| server.limits.memory == Some(1 << 30)));
    let Transport::Stdio { program, cwd, .. } = &config.servers[2].transport else { panic!("a local server") };
    let main = folder.path();
    assert_eq!(program, &Program::Named(main.join("bin/x").into()), "paths start at the main file's folder");
    assert_eq!(cwd.as_deref(), Some(main));
    assert!(config.servers.iter().all(|server| server.origin == Origin::Explicit));
}

#[test]
fn what_is_wrong_in_the_folder_is_told_with_its_file() {
    let folder = folder(&[
        ("ostler.toml", "[groups.web]\n[servers.main]\ncommand = \"x\""),
        ("servers.d/a.toml", "[servers.main]\ncommand = \"x\"\n[groups.web]\n[servers.b]\ncomand = \"x\""),
        ("servers.d/b.toml", "[defaults]\nrestart = \"never\"\n[servers.c]\ncommand = \"x\"\ngroup = \"wbe\""),
        ("servers.d/c.toml", "[servers"),
    ]);
    insta::assert_snapshot!(load_in(&folder).unwrap_err(), @r#"
    /f/servers.d/a.toml:1: servers.main: the server "main" is given twice, also at ostler.toml:2: servers.main; rename or remove one
    /f/servers.d/a.toml:3: groups.web: the group "web" is given twice, also at ostler.toml:1: groups.web; remove one
    /f/servers.d/a.toml:5: servers.b.comand: unknown key; did you mean "command"?
    /f/servers.d/b.toml:1: defaults: unknown key; the keys here are groups, servers
    /f/servers.d/b.toml:5: servers.c.group: there is no group "wbe"; write the table [groups.wbe], which may be empty, or remove this
    /f/servers.d/c.toml:1: this is not TOML: unclosed table, expected `]`
    "#);
}

#[test]
fn a_folder_that_everybody_can_write_is_noted_where_the_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[("ostler.toml", ""), ("servers.d/a.toml", "")]);
    let beside = folder.path().join("servers.d");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = load_in(&folder).unwrap();
    assert_eq!(config.notices.len(), 1);
    assert!(config.notices[0].contains("/servers.d: everybody on this machine can write it"), "{:?}", config.notices);
}
