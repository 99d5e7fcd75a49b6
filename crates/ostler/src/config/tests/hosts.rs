//! The files of other hosts, as their users have them, read unchanged.

use std::fmt::Write as _;

use super::*;

/// What an imported file comes to: name, launch, and what is kept.
fn imported(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let config = load_named(name, text, variables)?;
    let mut lines = String::new();
    for server in &config.servers {
        let Server { id, enabled, transport, policy, lane, extra, .. } = server;
        let texts = |secrets: &[Secret]| secrets.iter().map(|s| s.expose().to_owned()).collect::<Vec<_>>().join(" ");
        let pairs = |pairs: &[(String, Secret)]| {
            pairs.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>().join(" ")
        };
        let launch = match transport {
            Transport::Stdio { program: Program::Named(program), args, env, .. } => {
                format!("{} {} [{}]", program.display(), texts(args), pairs(env))
            }
            Transport::Stdio { program: Program::Ourselves, .. } => "ourselves".to_owned(),
            Transport::Remote { url, headers } => format!("{} [{}]", url.expose(), pairs(headers)),
        };
        let (call, start) = (lane.call_timeout, policy.start_timeout);
        writeln!(lines, "{id}: {launch} on={enabled} call={call:?} start={start:?} extra={extra:?}").unwrap();
    }
    for notice in &config.notices {
        writeln!(lines, "{notice}").unwrap();
    }
    Ok(lines)
}

#[test]
fn a_claude_desktop_file_is_read_unchanged() {
    let text = r#"{
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": [
        "-y",
        "@modelcontextprotocol/server-filesystem",
        "/Users/username/Desktop",
        "/Users/username/Downloads"
      ]
    },
    "brave-search": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-brave-search"],
      "env": {
        "BRAVE_API_KEY": "YOUR_API_KEY_HERE"
      }
    }
  },
  "globalShortcut": ""
}
"#;
    insta::assert_snapshot!(imported("claude_desktop_config.json", text, &[]).unwrap(), @r#"
    filesystem: npx -y @modelcontextprotocol/server-filesystem /Users/username/Desktop /Users/username/Downloads [] on=true call=60s start=30s extra={}
    brave-search: npx -y @modelcontextprotocol/server-brave-search [BRAVE_API_KEY=YOUR_API_KEY_HERE] on=true call=60s start=30s extra={}
    claude_desktop_config.json:7: mcpServers.filesystem.args[1]: "@modelcontextprotocol/server-filesystem" is whatever was published last; pin it: write "@modelcontextprotocol/server-filesystem@1.2.3", with the version that you trust
    claude_desktop_config.json:14: mcpServers.brave-search.args[1]: "@modelcontextprotocol/server-brave-search" is whatever was published last; pin it: write "@modelcontextprotocol/server-brave-search@1.2.3", with the version that you trust
    "#);
}

#[test]
fn a_claude_code_file_is_read_unchanged() {
    let text = r#"{
  "mcpServers": {
    "api-server": {
      "type": "http",
      "url": "${API_BASE_URL:-https://api.example.com}/mcp",
      "headers": {
        "Authorization": "Bearer ${API_KEY}"
      }
    },
    "slow": {
      "type": "stdio",
      "command": "${CLAUDE_PLUGIN_ROOT:-/opt}/servers/db",
      "args": ["--config", "x.json"],
      "env": {},
      "timeout": 600000,
      "alwaysLoad": true
    },
    "seconds": { "command": "x", "timeout": 60 }
  }
}
"#;
    insta::assert_snapshot!(imported(".mcp.json", text, &[("API_KEY", "k")]).unwrap(), @r#"
    api-server: https://api.example.com/mcp [Authorization=Bearer k] on=true call=60s start=30s extra={}
    slow: /opt/servers/db --config x.json [] on=true call=600s start=30s extra={"alwaysLoad"}
    seconds: x  [] on=true call=60s start=30s extra={}
    .mcp.json:18: mcpServers.seconds.timeout: 60 is in milliseconds, and hosts ignore a timeout below 1000, as is done here; if seconds are meant, write 60000
    .mcp.json:3: mcpServers.api-server: remote servers are not supported by this version of ostler; the server is listed and not started
    "#);
    insta::assert_snapshot!(imported(".mcp.json", text, &[]).unwrap_err(), @".mcp.json:7: mcpServers.api-server.headers.Authorization: the environment variable API_KEY is not set; set it, or write ${API_KEY:-default}");
}

#[test]
fn a_cursor_file_is_read_unchanged() {
    let text = r#"{
  "mcpServers": {
    "local-server": {
      "command": "python",
      "args": ["${workspaceFolder}/tools/mcp_server.py"],
      "env": {
        "API_KEY": "${env:API_KEY}"
      },
      "envFile": ".env"
    },
    "web-api": {
      "url": "https://api.example.com/mcp",
      "headers": {
        "Authorization": "Bearer ${env:MY_SERVICE_TOKEN}"
      },
      "auth": { "CLIENT_ID": "id", "CLIENT_SECRET": "hunter2" }
    },
    "off": { "command": "x", "disabled": true }
  }
}
"#;
    let variables = [("API_KEY", "k"), ("MY_SERVICE_TOKEN", "t")];
    let read = imported(".cursor/mcp.json", text, &variables).unwrap();
    let (folder, read) = (read.split("python ").nth(1).unwrap().split("/tools").next().unwrap().to_owned(), read);
    assert!(!folder.ends_with(".cursor"), "the project's folder, not the file's: {folder}");
    insta::assert_snapshot!(read.replace(&folder, "/project"), @r#"
    local-server: python /project/tools/mcp_server.py [API_KEY=k] on=true call=60s start=30s extra={"envFile"}
    web-api: https://api.example.com/mcp [Authorization=Bearer t] on=true call=60s start=30s extra={"auth"}
    off: x  [] on=false call=60s start=30s extra={}
    .cursor/mcp.json:3: mcpServers.local-server: "envFile" is not read; write its variables into "env"
    .cursor/mcp.json:11: mcpServers.web-api: remote servers are not supported by this version of ostler; the server is listed and not started
    "#);
}

#[test]
fn a_vs_code_file_with_comments_is_read_unchanged() {
    let text = r#"{
  // Servers of this workspace.
  "inputs": [{ "type": "promptString", "id": "key", "description": "API Key", "password": true }],
  "servers": {
    "playwright": {
      "type": "stdio",
      "command": "npx",
      "args": ["-y", "@playwright/mcp@latest"],
      "env": { "PORT": 3000, "GONE": null },
      "dev": { "watch": "**/*.ts" },
    },
  },
}
"#;
    insta::assert_snapshot!(imported(".vscode/mcp.json", text, &[]).unwrap(), @r#"
    playwright: npx -y @playwright/mcp@latest [PORT=3000] on=true call=60s start=30s extra={"dev"}
    .vscode/mcp.json:8: servers.playwright.args[1]: "@playwright/mcp@latest" is whatever was published last; pin it: write "@playwright/mcp@1.2.3", with the version that you trust
    "#);
}

#[test]
fn a_bare_map_and_other_hosts_keys_are_read() {
    let text = r#"{
  "gemini": { "httpUrl": "https://a/", "url": "https://b/", "trust": true },
  "codex": { "command": "x", "startup_timeout_sec": 2.5, "tool_timeout_sec": 7, "enabled": false },
  "opencode": { "command": ["bun", "x", "server"], "args": ["last"] },
  "ours": { "command": "x", "ostler": { "restart": "never", "call_timeout": "3s" }, "timeout": 5000 }
}"#;
    insta::assert_snapshot!(imported("servers.json", text, &[]).unwrap(), @r#"
    gemini: https://a/ [] on=true call=60s start=30s extra={"trust"}
    codex: x  [] on=false call=7s start=2.5s extra={}
    opencode: bun x server last [] on=true call=60s start=30s extra={}
    ours: x  [] on=true call=3s start=30s extra={}
    servers.json:2: gemini: remote servers are not supported by this version of ostler; the server is listed and not started
    servers.json:4: opencode.command[2]: "server" is whatever was published last; pin it: write "server@1.2.3", with the version that you trust
    "#);
}

#[test]
fn what_is_wrong_in_an_imported_file_is_told_with_its_line() {
    let text = r#"{"mcpServers": {
  "a": { "args": [] },
  "b": { "command": 7 },
  "c": "npx",
  "d": { "command": "x", "env": { "A": {} } },
  "e": { "command": "x", "timeout": "30s" },
  "f": { "command": "x", "args": ["${input:key}"] },
  "g": { "command": "x", "ostler": { "restrat": "never" } },
  "F": { "command": "x" }
}}"#;
    insta::assert_snapshot!(imported("x.json", text, &[]).unwrap_err(), @r#"
    x.json:2: mcpServers.a: how is the server reached? write command = "program" and args = ["..."] (or url = "https://...")
    x.json:3: mcpServers.b.command: the number 7 does not fit here; write a text in quotes
    x.json:4: mcpServers.c: a text does not fit here; write a server such as {"command": "...", "args": ["..."]}
    x.json:5: mcpServers.d.env.A: this table says nothing that can be read; write "text", "${VAR}", {file = "path"} or {command = ["program", "argument"]}
    x.json:6: mcpServers.e.timeout: a text does not fit here; write a number, without quotes
    x.json:7: mcpServers.f.args[0]: ${input:key} asks a person, which only an editor can do; write ${VAR} and set it in the environment
    x.json:8: mcpServers.g.ostler.restrat: unknown key; did you mean "restart"?
    x.json:9: mcpServers.F: the servers "F" and "f" (x.json:7: mcpServers.f) would share the name "f"; rename one
    "#);
    insta::assert_snapshot!(imported("x.json", "{\"a\": 1}", &[]).unwrap_err(), @r#"x.json:1: there is no "mcpServers" in it; write {"mcpServers": {"name": {"command": "...", "args": ["..."]}}}"#);
    insta::assert_snapshot!(imported("x.json", "{", &[]).unwrap_err(), @"x.json:1: this is not JSON: EOF while parsing an object");
    insta::assert_snapshot!(imported("x.json", "[]", &[]).unwrap_err(), @r#"x.json:1: a list does not fit here; write {"mcpServers": {"name": {"command": "...", "args": ["..."]}}}"#);
}

#[test]
fn imports_stand_after_our_own_servers_and_never_hide_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.json", r#"{"mcpServers": {"one": {"command": "x"}, "Two": {"command": "x"}}}"#);
    write("ostler.toml", "import = [\"a.json\"]\n[servers.three]\ncommand = \"x\"");
    let environment = Environment::new(folder.path(), &[]);
    let load = || Config::load_with(Some(Path::new("ostler.toml")), &environment);
    let ids: Vec<String> = load().unwrap().servers.iter().map(|server| server.id.to_string()).collect();
    assert_eq!(ids, ["three", "one", "Two"]);
    write("ostler.toml", "import = [\"a.json\"]\n[servers.two]\ncommand = \"x\"");
    let errors = load().unwrap_err().to_string().replace(&folder.path().display().to_string(), "/f");
    insta::assert_snapshot!(errors, @r#"/f/a.json:1: mcpServers.Two: the servers "Two" and "two" (ostler.toml:2: servers.two) would share the name "two"; rename one"#);
}
