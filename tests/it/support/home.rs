//! A temporary home: every file, socket and variable of one test lives in it and nowhere else.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

/// The program under test: what `ostler` is, built by this package so that cargo tells its path.
const OSTLER: &str = env!("CARGO_BIN_EXE_ostler-under-test");

/// The folder of one test. Removed when dropped.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// The name of the configuration file in a home.
    pub(crate) const CONFIG: &'static str = "ostler.toml";

    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-").tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("run")).expect("a folder for sockets");
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for arguments and configuration.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies below the home")).expect("folders of the home can be made");
        fs::write(&path, content).expect("a file in the home can be written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Arguments that point to the configuration, if one was written.
    pub(crate) fn config(&self) -> Vec<String> {
        let exists = self.path(Self::CONFIG).exists();
        if exists { vec!["--config".to_owned(), self.text(Self::CONFIG)] } else { Vec::new() }
    }

    /// Where the daemon of this home listens, as its documentation says.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/ostler/ostler.sock")
    }

    /// The binary under test, with this home and without anything that the machine's user may have set.
    pub(crate) fn ostler(&self) -> Command {
        let mut command = Command::new(OSTLER);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.folder.path())
            .kill_on_drop(true);
        command
    }
}

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live one folder below the root")
}
