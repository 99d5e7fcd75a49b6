//! The sandbox `restricted`: what of the file system a server may touch, as a Landlock ruleset.
//!
//! The ruleset is made here, in the daemon, so that what is wrong with it can be explained; the child takes it upon itself
//! between fork and exec, and cannot shed it. Linux only.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

/// Before it a file can be emptied by whoever may not open it: Linux 6.2.
const OLDEST: ABI = ABI::V3;

/// Folders of the system: programs, libraries, their settings. What is not here is skipped.
const SYSTEM: &[&str] = &[
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/etc",
    "/opt",
    "/nix",
    "/gnu",
    "/snap",
    "/proc",
    "/sys",
    // Names are resolved and certificates are found there.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/nscd",
    "/var/lib/ca-certificates",
    "/var/cache/fontconfig",
];

/// Devices that hold nothing of anybody's.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// What one server may touch beside the system.
pub(crate) struct Wishes<'a> {
    /// The file that the kernel will execute, if it was found.
    pub(crate) program: Option<&'a Path>,
    pub(crate) cwd: Option<&'a Path>,
    pub(crate) writable: &'a [PathBuf],
    /// Its own temporary folder.
    pub(crate) temporary: &'a Path,
    /// The home of this user, which stays shut.
    pub(crate) home: Option<&'a Path>,
}

/// Why there is no sandbox: the message and what to do.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub(crate) problem: String,
    pub(crate) hint: String,
    pub(crate) source: Option<io::Error>,
}

impl Obstacle {
    fn of(path: &Path, what: &str, error: io::Error) -> Self {
        let problem = format!("cannot open {what} '{}' for the sandbox", path.display());
        let hint = format!("create '{}' or change it in the configuration of the server", path.display());
        Self { problem, hint, source: Some(error) }
    }

    fn unsupported(error: &RulesetError) -> Self {
        Self {
            problem: format!("this kernel cannot keep the sandbox 'restricted': {error}"),
            hint: "run Linux 6.2 or later with Landlock among its security modules, or set `sandbox = \"off\"` \
                   if the server may touch all that this user may"
                .to_owned(),
            source: None,
        }
    }
}

/// Makes the ruleset. Errors: the kernel has none, a path cannot be opened, or a path holds the home.
pub(crate) fn ruleset(wishes: &Wishes<'_>) -> Result<OwnedFd, Obstacle> {
    let read = AccessFs::from_read(OLDEST);
    // But device files, which would be another way to what is on the disks.
    let all = AccessFs::from_all(OLDEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut rules = empty().map_err(|error| Obstacle::unsupported(&error))?;
    for path in SYSTEM {
        rules = allow_if_there(rules, Path::new(path), read)?;
    }
    for path in DEVICES {
        rules = allow_if_there(rules, Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    for path in wishes.program.map(|program| of_program(program, wishes.home)).into_iter().flatten() {
        rules = allow_if_there(rules, &path, read)?;
    }
    if let Some(cwd) = wishes.cwd {
        refuse_home(cwd, "the working folder", wishes.home)?;
        rules = allow(rules, cwd, "the working folder", read)?;
    }
    for path in wishes.writable {
        refuse_home(path, "the writable path", wishes.home)?;
        rules = allow(rules, path, "the writable path", all)?;
    }
    rules = allow(rules, wishes.temporary, "the temporary folder", all)?;
    Option::<OwnedFd>::from(rules).ok_or_else(|| Obstacle {
        problem: "this kernel cannot keep the sandbox 'restricted'".to_owned(),
        hint: "run Linux 6.2 or later with Landlock among its security modules".to_owned(),
        source: None,
    })
}

/// A ruleset that allows nothing. What newer kernels can shut beside files is shut there: signals to others' processes and
/// abstract sockets.
fn empty() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))?
        .create()
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    what: &str,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Obstacle> {
    let open = || -> io::Result<_> { Ok((PathFd::new(path).map_err(io::Error::other)?, fs::metadata(path)?.is_dir())) };
    // The plain error of the kernel says more than the wrapped one.
    let (opened, is_folder) =
        fs::metadata(path).and_then(|_| open()).map_err(|error| Obstacle::of(path, what, error))?;
    let access = if is_folder { access } else { access & AccessFs::from_file(OLDEST) };
    rules.add_rule(PathBeneath::new(opened, access)).map_err(|error| Obstacle::unsupported(&error))
}

fn allow_if_there(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, Obstacle> {
    if fs::metadata(path).is_err() { Ok(rules) } else { allow(rules, path, "the folder", access) }
}

/// A folder that holds the home would open all that the sandbox is there to shut.
fn refuse_home(path: &Path, what: &str, home: Option<&Path>) -> Result<(), Obstacle> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let home = home.map(|home| fs::canonicalize(home).unwrap_or_else(|_| home.to_owned()));
    if real != Path::new("/") && home.is_none_or(|home| !home.starts_with(&real)) {
        return Ok(());
    }
    Err(Obstacle {
        problem: format!("{what} '{}' holds the home folder, which the sandbox 'restricted' shuts", path.display()),
        hint: "name a folder below it, or set `sandbox = \"off\"`".to_owned(),
        source: None,
    })
}

/// What a program brings along: its file, its folder, and what is installed beside a folder `bin`. Never the home itself.
///
/// `~/.local` is not taken as such an installation: what people keep in `~/.local/share` is none.
fn of_program(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let mut found = vec![program.to_owned()];
    for file in [Some(program.to_owned()), fs::canonicalize(program).ok()].into_iter().flatten() {
        let Some(folder) = file.parent() else { continue };
        let prefix = folder.parent().filter(|_| folder.file_name() == Some(OsStr::new("bin")));
        let is_open = |path: &Path| {
            let is_personal = home.is_some_and(|home| home.starts_with(path) || path == home.join(".local"));
            path.parent().is_some() && !is_personal
        };
        found.extend([Some(folder), prefix].into_iter().flatten().filter(|path| is_open(path)).map(Path::to_owned));
    }
    found
}

/// A temporary folder for one server alone, removed when dropped, with all that is in it.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// Makes it. Errors: the folder above it cannot be written, or somebody has made one of this name.
    pub(crate) fn make(name: &str) -> Result<Self, Obstacle> {
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| Self(path.clone())).map_err(|error| Obstacle::of(&path, "the temporary folder", error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What the child's environment says of it.
    pub(crate) fn variable(&self) -> (OsString, OsString) {
        ("TMPDIR".into(), self.0.clone().into())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether this kernel can keep a sandbox.
pub(crate) fn is_supported() -> bool {
    empty().is_ok_and(|rules| Option::<OwnedFd>::from(rules).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_brings_its_installation_and_never_the_home() {
        let check = |program: &str, expected: &[&str]| {
            let found = of_program(Path::new(program), Some(Path::new("/home/ada")));
            let expected: Vec<PathBuf> = std::iter::once(&program).chain(expected).map(PathBuf::from).collect();
            assert_eq!(found, expected);
        };
        check("/home/ada/node/v20/bin/npx", &["/home/ada/node/v20/bin", "/home/ada/node/v20"]);
        check("/home/ada/.local/bin/uvx", &["/home/ada/.local/bin"]);
        check("/home/ada/bin/server", &["/home/ada/bin"]);
        check("/home/ada/server", &[]);
        check("/home/server", &[]);
        check("/server", &[]);
        check("/bin/no-such-server", &["/bin"]);
    }

    #[test]
    fn a_folder_that_holds_the_home_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("ada");
        let below = home.join("project");
        fs::create_dir_all(&below).unwrap();
        let check = |path: &Path| refuse_home(path, "the folder", Some(&home)).is_ok();
        assert!(check(&below));
        assert!(check(&folder.path().join("ad")));
        assert!(!check(&home));
        assert!(!check(&below.join("..")));
        assert!(!check(folder.path()));
        assert!(refuse_home(Path::new("/"), "the folder", None).is_err());
    }
}
