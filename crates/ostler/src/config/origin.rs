//! Who said that a server is to be run, and whether that file is theirs alone to write.
//!
//! Whoever can write a launch line runs programs as us. So a file that others can write is refused; where a person named it
//! on the command line or in `OSTLER_CONFIG`, it is only noted, because that was their decision.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::report::{Report, Spot};
use super::secret::Environment;

/// Who said that a server is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// The user's own configuration, or the built-in one.
    #[default]
    Own,
    /// A file that a person named, by `--config` or `OSTLER_CONFIG`, and `servers.d` beside it.
    Explicit,
    /// An imported file of another host that belongs to the user.
    Imported(PathBuf),
    /// An imported file that belongs to a project, and comes with whatever is checked out there.
    Project(PathBuf),
}

impl Origin {
    /// What an imported file is. A project's is one called `.mcp.json`, or any in a folder such as `.cursor` or `.vscode`,
    /// unless these lie in the home folder itself.
    pub(super) fn of_import(path: &Path, environment: &Environment) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let hidden = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let project = if path.file_name().is_some_and(|name| name == ".mcp.json") {
            Some(folder)
        } else if hidden {
            folder.parent()
        } else {
            None
        };
        let home = environment.filled("HOME").map(Path::new);
        match project {
            Some(project) if home != Some(project) => Self::Project(path.to_owned()),
            Some(_) | None => Self::Imported(path.to_owned()),
        }
    }

    /// Whether a person must approve a launch line from there before it is run.
    pub fn needs_consent(&self) -> bool {
        match self {
            Self::Own | Self::Explicit | Self::Imported(_) => false,
            Self::Project(_) => true,
        }
    }
}

/// Who we are, to the file system.
#[derive(Debug, Clone, Copy)]
struct Us {
    user: u32,
    group: u32,
}

/// Why a file cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doubt {
    /// Anybody may write it, or it belongs to somebody who may.
    Strangers(String),
    /// A group may write it.
    Group(String),
}

fn doubt(mode: u32, owner: Us, us: Us) -> Option<Doubt> {
    if mode & 0o002 != 0 {
        let text = "everybody on this machine can write it, and so run programs as you; take that away with chmod o-w";
        return Some(Doubt::Strangers(text.to_owned()));
    }
    if owner.user != us.user && owner.user != 0 {
        let text = format!(
            "it belongs to the user {}, who can so run programs as you; make it your own, or name the configuration with --config",
            owner.user
        );
        return Some(Doubt::Strangers(text));
    }
    // A group of one's own is what a umask of 002 expects.
    let foreign_group = mode & 0o020 != 0 && owner.group != us.group && owner.group != 0;
    foreign_group.then(|| {
        let text = format!(
            "everybody in the group {} can write it, and so run programs as you; take that away with chmod g-w",
            owner.group
        );
        Doubt::Group(text)
    })
}

/// Reports a file or folder that others can write. What cannot be looked at is left to those who read it.
pub(super) fn vet(path: &Path, spot: &Spot, named_by: &Origin, report: &mut Report) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let us = Us { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() };
    let owner = |metadata: &Metadata| Us { user: metadata.uid(), group: metadata.gid() };
    match doubt(metadata.mode(), owner(&metadata), us) {
        None => {}
        Some(Doubt::Strangers(text)) if *named_by != Origin::Explicit => {
            report.problem::<()>(spot, text);
        }
        Some(Doubt::Strangers(text) | Doubt::Group(text)) => report.notice(spot, &text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_strangers_can_write_is_doubted() {
        let us = Us { user: 1000, group: 1000 };
        let kind = |mode, user, group| match doubt(mode, Us { user, group }, us) {
            None => "none",
            Some(Doubt::Strangers(_)) => "strangers",
            Some(Doubt::Group(_)) => "group",
        };
        for (mode, user, group, expected) in [
            (0o100_644, 1000, 1000, "none"),
            (0o100_664, 1000, 1000, "none"),
            (0o100_644, 0, 0, "none"),
            (0o100_664, 0, 0, "none"),
            (0o100_664, 1000, 50, "group"),
            (0o100_644, 1001, 1000, "strangers"),
            (0o100_666, 1000, 1000, "strangers"),
            (0o040_777, 0, 0, "strangers"),
        ] {
            assert_eq!(kind(mode, user, group), expected, "{mode:o} {user} {group}");
        }
    }

    #[test]
    fn a_projects_file_is_told_from_the_users() {
        let environment = Environment::new(Path::new("/"), &[("HOME", "/home/u")]);
        for (path, project) in [
            ("/home/u/code/p/.mcp.json", true),
            ("/home/u/code/p/.cursor/mcp.json", true),
            ("/home/u/code/p/.vscode/mcp.json", true),
            ("/home/u/code/p/.roo/mcp.json", true),
            ("/home/u/code/../.mcp.json", true),
            ("/home/u/.mcp.json", false),
            ("/home/u/.cursor/mcp.json", false),
            ("/home/u/.config/Claude/claude_desktop_config.json", false),
            ("/home/u/servers.json", false),
        ] {
            let origin = Origin::of_import(Path::new(path), &environment);
            let expected = if project { Origin::Project(path.into()) } else { Origin::Imported(path.into()) };
            assert_eq!(origin, expected, "{path}");
            assert_eq!(origin.needs_consent(), project, "{path}");
        }
    }
}
