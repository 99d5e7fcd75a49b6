//! Configuration from outside: files of other hosts, what a server sees of the environment, and errors that help.

use serde_json::json;

use crate::support::cli;
use crate::support::config::Config;
use crate::support::home::Home;
use crate::support::peer::FAKE;

#[tokio::test]
async fn servers_of_another_hosts_file_are_imported_unchanged() {
    let home = Home::new();
    // Keys of this map are written in the order of the alphabet.
    let servers = json!({"mcpServers": {
        "asleep": {"command": "no-such-program", "disabled": true},
        "math": {"command": FAKE, "args": ["--product", "392"], "vendorKey": {"kept": true}},
    }});
    let file = "claude_desktop_config.json";
    home.write(file, &servers.to_string());
    home.run(&["tools", "--config", file]).await.succeeded().says(&["math__multiply"]);

    home.write(Home::CONFIG, "import = [\"claude_desktop_config.json\"]\n");
    home.run(&["call", "math__multiply", r#"{"a": 1, "b": 1}"#]).await.succeeded().says(&["392"]);
    let listed = home.run(&["servers", "--json"]).await.succeeded().json();
    let states: Vec<_> =
        listed.as_array().unwrap().iter().map(|server| (&server["server"], &server["state"])).collect();
    assert_eq!(states, [(&json!("asleep"), &json!("disabled")), (&json!("math"), &json!("ready"))]);
}

#[tokio::test]
async fn a_server_sees_its_own_variables_and_not_those_of_whoever_started_us() {
    let home = Home::new();
    let config = Config::new().fake("math", &[]).with("env = { GIVEN = \"${FROM_OUTSIDE}\" }");
    config.write(&home);
    for (name, expected) in [("GIVEN", "a token"), ("FROM_OUTSIDE", "unset"), ("ANTHROPIC_API_KEY", "unset")] {
        let mut command = home.ostler();
        command
            .args(["call", "math__env", &json!({"name": name}).to_string()])
            .args(home.config())
            .env("FROM_OUTSIDE", "a token")
            .env("ANTHROPIC_API_KEY", "a key");
        let ran = cli::run(command).await;
        assert!(ran.stdout.contains(expected), "{name}: {ran:#?}");
    }
}

#[tokio::test]
async fn all_errors_of_a_file_are_told_at_once_with_their_lines() {
    let home = Home::new();
    home.write(Home::CONFIG, "[servers.math]\ncomand = \"x\"\nstart_timeout = 30\n");
    let ran = home.run(&["servers"]).await.failed();
    for part in ["ostler.toml", "2", "command", "3", "30s"] {
        assert!(ran.stderr.contains(part), "'{part}' is missing: {ran:#?}");
    }
}
