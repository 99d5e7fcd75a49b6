//! The gate before tests that need other people's programs, and where those programs are.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;

use super::home::repository;

/// Turns a skipped test into a failed one.
const REQUIRE: &str = "OSTLER_REQUIRE_FOREIGN";

/// What `tests/foreign/install.sh` has installed.
pub(crate) struct Foreign {
    root: PathBuf,
}

/// The foreign parts, or `None` after saying that `test` is skipped. Panics instead if they are required.
pub(crate) fn foreign(test: &str) -> Option<Foreign> {
    let found = Foreign { root: repository().join(".foreign") };
    let missing = [found.python(), found.everything(), found.emulator()].into_iter().find(|part| !part.exists());
    let Some(missing) = missing else { return Some(found) };
    let why = format!("{} is not installed; tests/foreign/install.sh does that", missing.display());
    assert!(env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{test} must not be skipped: {why}");
    // Not `println!`: the test harness would keep that to itself.
    drop(writeln!(io::stderr(), "skipped: {test}: {why}"));
    None
}

impl Foreign {
    pub(crate) fn python(&self) -> PathBuf {
        self.root.join("venv/bin/python")
    }

    pub(crate) fn everything(&self) -> PathBuf {
        self.root.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js")
    }

    pub(crate) fn emulator(&self) -> PathBuf {
        self.root.join("node_modules/@copilotkit/aimock/dist/cli.js")
    }

    /// A file of `tests/foreign`, as text.
    pub(crate) fn file(name: &str) -> String {
        repository().join("tests/foreign").join(name).to_str().expect("the checkout's path is UTF-8").to_owned()
    }
}
