//! What to start, and why it could not be started: every failure says what to do about it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use ostler_core::id::{Incarnation, ServerId};
use ostler_core::secret::Secret;
use ostler_core::status::{Fault, FaultClass};

use crate::limits::{ResourceLimits, Sandbox};

/// How much of a PATH a hint shows.
const SHOWN_PATH: usize = 300;

/// What to start. No `Debug`: the environment may hold secrets.
pub struct Launch {
    /// Which server it is for.
    pub server: ServerId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The program: a path, or a name to be found in the PATH of the child's environment.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What is added to the allow-listed base of our environment, and overrides it.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder; ours if `None`.
    pub cwd: Option<PathBuf>,
    /// What it may use up.
    pub limits: ResourceLimits,
    /// What it may touch.
    pub sandbox: Sandbox,
    /// What is blotted out wherever its standard error is kept or shown. Those below 6 characters are left alone.
    pub redact: Vec<Secret>,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is missing or cannot be executed.
    #[error("cannot execute '{}'", program.display())]
    Program {
        /// As it was asked for.
        program: OsString,
        /// What to do about it.
        hint: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The working folder is missing or cannot be entered.
    #[error("cannot enter the working folder '{}'", cwd.display())]
    Folder {
        /// As it was asked for.
        cwd: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The launch line cannot be given to the kernel.
    #[error("the launch line of '{}' {problem}", program.display())]
    Line {
        /// As it was asked for.
        program: OsString,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The sandbox that it asks for cannot be kept; without it the program is not started.
    #[error("{problem}")]
    Sandbox {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
        /// What the kernel said.
        #[source]
        source: Option<io::Error>,
    },
    /// This host lacks descriptors, memory or processes.
    #[error("this host is short of something")]
    Host(#[source] io::Error),
    /// The program or the working folder lies on a file system that hangs.
    #[error("'{}' does not answer", path.display())]
    Silent {
        /// What was looked at.
        path: PathBuf,
    },
    /// The reaper could not be started, by no fault of its program.
    #[error("cannot start the reaper")]
    Reaper(#[source] io::Error),
    /// The reaper's program, as it was configured, does not work.
    #[error("cannot start the reaper '{}'", program.display())]
    ReaperProgram {
        /// The configured program.
        program: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The reaper died or hung while it was asked; the next spawn starts it again.
    #[error("the reaper ended during the spawn")]
    ReaperLost,
    /// The reaper was shut down.
    #[error("shutting down")]
    ShutDown,
}

impl SpawnError {
    /// The failure as a fault: its class decides what is done, its hint says what a person can do.
    pub fn fault(&self) -> Fault {
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message = format!("{message}: {}", plain(error));
            cause = error.source();
        }
        let fault = |class| Fault::new(class, message);
        match self {
            Self::Program { hint, source, .. } => fault(class_of_program(source)).with_hint(hint),
            Self::Folder { cwd, .. } => fault(FaultClass::BadConfig)
                .with_hint(format!("create the folder '{}' or change `cwd` of the server", cwd.display())),
            Self::Line { .. } => {
                fault(FaultClass::BadConfig).with_hint("change `command`, `args` or `env` of the server")
            }
            Self::Sandbox { hint, .. } => fault(FaultClass::BadConfig).with_hint(hint),
            Self::Host(_) => fault(FaultClass::HostResource)
                .with_hint("raise the limits of descriptors (ulimit -n) and processes (ulimit -u), or free memory"),
            Self::Silent { path } => fault(FaultClass::HostResource).with_hint(format!(
                "the file system of '{}' hangs: is it a network share whose server is gone?",
                path.display()
            )),
            Self::Reaper(_) => fault(FaultClass::HostResource)
                .with_hint("look into the system's log for who ended it; the next start of a server tries again"),
            Self::ReaperProgram { .. } => fault(FaultClass::BadConfig)
                .with_hint("the embedding program names the reaper: check that path, or call `reaper::intercept()`"),
            Self::ReaperLost => fault(FaultClass::HostResource),
            Self::ShutDown => fault(FaultClass::KilledByUs),
        }
    }

    /// There is nothing on this host that keeps a sandbox.
    pub(crate) fn no_sandbox() -> Self {
        Self::Sandbox {
            problem: "this kernel cannot keep the sandbox 'restricted'".to_owned(),
            hint: "run Linux 6.2 or later with Landlock among its security modules, or set `sandbox = \"off\"` if the \
                   server may touch all that this user may"
                .to_owned(),
            source: None,
        }
    }

    /// A child could not take its sandbox upon itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_sandbox(errno: Errno) -> Self {
        Self::Sandbox {
            problem: "the child could not take its sandbox upon itself".to_owned(),
            hint: "too many nested sandboxes are in the way, or a filter of system calls".to_owned(),
            source: Some(errno.into()),
        }
    }

    /// Sorts why the reaper could not be started.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_reaper(program: PathBuf, error: StartError) -> Self {
        // What the kernel says of a program that is missing, or is none.
        const UNFIT: [Errno; 7] =
            [Errno::ENOENT, Errno::ENOTDIR, Errno::EISDIR, Errno::ELOOP, Errno::EACCES, Errno::EPERM, Errno::ENOEXEC];
        match error {
            StartError::Unfit(problem) => Self::ReaperProgram { program, source: io::Error::other(problem) },
            StartError::System(source) => match source.raw_os_error().map(Errno::from_raw) {
                Some(errno) if is_shortage(errno) => Self::Host(source),
                Some(errno) if UNFIT.contains(&errno) => Self::ReaperProgram { program, source },
                _ => Self::Reaper(source),
            },
        }
    }

    /// Sorts what the kernel said of an exec (or of the fork before it).
    pub(crate) fn of_exec(errno: Errno, line: &Line) -> Self {
        if is_shortage(errno) {
            return Self::Host(errno.into());
        }
        if errno == Errno::E2BIG {
            return line.refused("is too large for the kernel (arguments and environment)");
        }
        if errno == Errno::EINVAL {
            return line.refused("was not understood by the kernel");
        }
        Self::Program { program: line.program.clone(), hint: line.hint(errno), source: errno.into() }
    }
}

#[cfg(target_os = "linux")]
impl From<crate::sandbox::Obstacle> for SpawnError {
    fn from(obstacle: crate::sandbox::Obstacle) -> Self {
        let crate::sandbox::Obstacle { problem, hint, source } = obstacle;
        Self::Sandbox { problem, hint, source }
    }
}

/// Why a reaper did not come to be.
#[cfg(target_os = "linux")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The program is not one.
    #[error("{0}")]
    Unfit(&'static str),
    /// Something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A program that is just being written can be executed when that is over.
fn class_of_program(error: &io::Error) -> FaultClass {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ETXTBSY) => FaultClass::HostResource,
        _ => FaultClass::NotFound,
    }
}

fn is_shortage(errno: Errno) -> bool {
    [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE].contains(&errno)
}

/// The words of an error of the kernel, without its number.
fn plain(error: &(dyn std::error::Error + 'static)) -> String {
    let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_lowercase())
}

/// Says whether a folder can be entered, before the exec's own error could be mistaken for it.
pub(crate) fn enter(cwd: &Path) -> Result<(), Errno> {
    let found = std::fs::metadata(cwd).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    if !found.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    access(cwd, AccessFlags::X_OK)
}

/// What of a launch is needed to explain its failure.
pub(crate) struct Line {
    pub(crate) program: OsString,
    /// The PATH of the child's environment.
    pub(crate) path: Option<OsString>,
    pub(crate) cwd: Option<PathBuf>,
}

impl Line {
    pub(crate) fn refused(&self, problem: &'static str) -> SpawnError {
        SpawnError::Line { program: self.program.clone(), problem }
    }

    pub(crate) fn folder(&self, errno: Errno) -> SpawnError {
        SpawnError::Folder { cwd: self.cwd.clone().unwrap_or_default(), source: errno.into() }
    }

    fn hint(&self, errno: Errno) -> String {
        let program = self.program.display();
        match (errno, self.find()) {
            (Errno::ENOENT, Some(found)) => format!(
                "the file '{}' exists, but the interpreter that its first line names, or its loader, does not",
                found.display()
            ),
            (Errno::ENOENT, None) if self.program.as_bytes().contains(&b' ') => {
                "`command` is one program: put what follows it into `args`".into()
            }
            (Errno::ENOENT | Errno::ENOTDIR, None) if self.is_path() => {
                format!("there is no file '{program}': check `command` of the server")
            }
            (Errno::ENOENT | Errno::ENOTDIR, None) => {
                let path = self.path.as_deref().unwrap_or_default().to_string_lossy();
                let shown = &path[..path.floor_char_boundary(SHOWN_PATH)];
                format!("install '{program}', or write its full path: it is in no folder of PATH ({shown})")
            }
            (Errno::EACCES | Errno::EPERM, found) => format!(
                "'{}' may not be executed by this user: chmod +x, or check its folders and the mount",
                found.as_deref().unwrap_or(Path::new(&self.program)).display()
            ),
            (Errno::ETXTBSY, _) => format!("'{program}' is being written: when that is over it can be started"),
            (Errno::ENOEXEC, _) => {
                "it is no program for this machine: a script needs a first line like #!/bin/sh".into()
            }
            _ => format!("try to run '{program}' by hand"),
        }
    }

    fn is_path(&self) -> bool {
        self.program.as_bytes().contains(&b'/')
    }

    /// The file that the kernel meant, as it looks now.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let base = self.cwd.as_deref().unwrap_or(Path::new(""));
        if self.is_path() {
            return Some(base.join(&self.program)).filter(|file| file.is_file());
        }
        let path = self.path.as_deref().unwrap_or(OsStr::new("/bin:/usr/bin"));
        std::env::split_paths(path).map(|folder| base.join(folder).join(&self.program)).find(|file| file.is_file())
    }
}
