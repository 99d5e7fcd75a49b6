//! Builds the configuration file of a test: fleets of fake servers, a port and a socket of its own.

use std::fmt::Write;

use super::home::Home;
use super::peer::FAKE;

/// A configuration under construction; written into a home by [`Config::write`].
pub(crate) struct Config {
    text: String,
}

impl Config {
    /// Nothing but a listener on a free port.
    pub(crate) fn new() -> Self {
        Self { text: "[daemon]\nops = \"127.0.0.1:0\"\n".to_owned() }
    }

    /// Restarts that do not take the time of the real defaults. To be said before the first server.
    pub(crate) fn quick_restarts(mut self) -> Self {
        self.text.push_str("\n[defaults]\nbackoff = { base = \"200ms\" }\n");
        self
    }

    /// A server by its command line.
    pub(crate) fn server(mut self, name: &str, command: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        write!(self.text, "\n[servers.{name}]\ncommand = {}\nargs = [{}]\n", quoted(command), arguments.join(", "))
            .expect("writing to a string cannot fail");
        self
    }

    /// A fake server.
    pub(crate) fn fake(self, name: &str, arguments: &[&str]) -> Self {
        self.server(name, FAKE, arguments)
    }

    /// A demo server that is built into the binary under test.
    pub(crate) fn demo(self, name: &str) -> Self {
        self.server(name, "ostler", &["demo-server", name])
    }

    /// Another host's file, by its path from this one.
    pub(crate) fn importing(mut self, file: &str) -> Self {
        self.text.insert_str(0, &format!("import = [{}]\n", quoted(file)));
        self
    }

    /// One more line for the server that was added last.
    pub(crate) fn with(mut self, line: &str) -> Self {
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    /// Makes it the configuration of `home`.
    pub(crate) fn write(&self, home: &Home) {
        home.write(Home::CONFIG, &self.text);
    }
}

/// A TOML string; the JSON form is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
