//! Control groups: one for a server's tree, below our own, with limits of memory and of processes.
//!
//! Version 2 where our own group carries the controller, else version 1. The daemon makes a group and removes it after the
//! tree; its child enters it between fork and exec. Whether limits must be kept at all is not decided here. Linux only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::limits::ResourceLimits;

/// Where our process may be kept when the groups are wanted beside it: version 2 allows no processes above others.
/// With systemd: `Delegate=yes` and `DelegateSubgroup=ostler-self`.
const SELF: &str = "ostler-self";
/// How our groups are called, before the name of the instance.
const PREFIX: &str = "ostler-";
/// How often a group is tried to be made while another one's removal takes its folder away.
const TRIES: usize = 4;

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The folder below which groups with one controller are made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    version: Version,
}

/// Where groups can be made, found once.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    memory: Result<Place, String>,
    pids: Result<Place, String>,
}

/// The groups of one tree: one, or one for each controller. Removed when dropped, if nothing is left in them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    folders: Vec<PathBuf>,
    /// Where the kernel counts whom the limit of memory has ended.
    counter: Option<PathBuf>,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

impl Places {
    /// Looks where our process is.
    pub(crate) fn find() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::from(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn from(memberships: &str, mounts: &str) -> Self {
        let find = |controller| place(memberships, mounts, controller);
        Self { memory: find(Controller::Memory), pids: find(Controller::Pids) }
    }

    /// Makes the groups that the limits ask for. What cannot be limited is told to `warn`, with the reason.
    pub(crate) fn make(&self, name: &Name<'_>, limits: &ResourceLimits, warn: impl Fn(&str, &str)) -> Groups {
        let mut groups = Groups::default();
        if let Some(bytes) = limits.memory {
            let made = self.memory.clone().and_then(|place| {
                let (file, counter) = match place.version {
                    Version::One => ("memory.limit_in_bytes", "memory.oom_control"),
                    Version::Two => ("memory.max", "memory.events"),
                };
                let folder = place.make(name, file, bytes)?;
                groups.counter = Some(folder.join(counter));
                Ok(folder)
            });
            groups.add(made, |why| warn(Controller::Memory.name(), why));
        }
        if let Some(count) = limits.processes {
            let made = self.pids.clone().and_then(|place| place.make(name, "pids.max", u64::from(count)));
            groups.add(made, |why| warn(Controller::Pids.name(), why));
        }
        groups
    }
}

/// Finds the group of ours that carries the controller. Errors: why there is none, in words.
fn place(memberships: &str, mounts: &str, controller: Controller) -> Result<Place, String> {
    let name = controller.name();
    let second = own_folder(memberships, mounts, Version::Two, str::is_empty, |_| true);
    if let Some(own) = second {
        let base = if own.ends_with(SELF) { own.parent().unwrap_or(&own) } else { &own };
        let lists = |file: &str| fs::read_to_string(base.join(file)).is_ok_and(|text| holds(&text, ' ', name));
        if lists("cgroup.controllers") {
            if !lists("cgroup.subtree_control") {
                enable(base, name).map_err(|error| {
                    format!(
                        "{}: {error}; run it as a unit with Delegate=yes and DelegateSubgroup={SELF}",
                        base.display()
                    )
                })?;
            }
            return Ok(Place { folder: base.to_owned(), version: Version::Two });
        }
    }
    let is_its = |list: &str| holds(list, ',', name);
    own_folder(memberships, mounts, Version::One, is_its, is_its)
        .map(|folder| Place { folder, version: Version::One })
        .ok_or_else(|| format!("no control group of this process carries the controller {name}"))
}

/// The folder of our own group in a mounted hierarchy, as `cgroups(7)` and `proc_pid_mountinfo(5)` tell it.
fn own_folder(
    memberships: &str,
    mounts: &str,
    version: Version,
    is_membership: impl Fn(&str) -> bool,
    is_mount: impl Fn(&str) -> bool,
) -> Option<PathBuf> {
    let path = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        is_membership(controllers).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (root, point) = {
            let mut fields = before.split(' ').skip(3);
            (fields.next()?, fields.next()?)
        };
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let wanted = match version {
            Version::One => "cgroup",
            Version::Two => "cgroup2",
        };
        if kind != wanted || !is_mount(options) {
            return None;
        }
        // A path that is not below the mounted root belongs to another namespace.
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below)).filter(|folder| folder.is_dir())
    })
}

fn holds(list: &str, separator: char, name: &str) -> bool {
    list.trim().split(separator).any(|listed| listed == name)
}

fn enable(base: &Path, controller: &str) -> io::Result<()> {
    write(&base.join("cgroup.subtree_control"), &format!("+{controller}"))
}

/// Writes into a file of the kernel, which exists or not.
fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// What the groups of one tree are called.
pub(crate) struct Name<'a> {
    pub(crate) instance: &'a str,
    pub(crate) id: u64,
    pub(crate) server: &'a str,
}

impl Place {
    fn make(&self, name: &Name<'_>, file: &str, limit: u64) -> Result<PathBuf, String> {
        let parent = self.folder.join(format!("{PREFIX}{}", name.instance));
        // Incarnations overlap when one cannot be killed: each has a group of its own.
        let folder = parent.join(format!("{}.{}", name.server, name.id));
        let mut made = Ok(());
        for _ in 0..TRIES {
            made = self.make_parent(&parent).and_then(|()| fs::create_dir(&folder));
            if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        let is_new = made.is_ok();
        // The number is used once, so one that is there was made for another limit of the same tree.
        let is_there = made.or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) });
        let limited = is_there.and_then(|()| write(&folder.join(file), &limit.to_string()));
        limited.map(|()| folder.clone()).map_err(|error| {
            if is_new {
                remove(&folder);
            }
            format!("{}: {error}", folder.display())
        })
    }

    fn make_parent(&self, parent: &Path) -> io::Result<()> {
        match fs::create_dir(parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match self.version {
            Version::One => Ok(()),
            // Its own controllers are those that the base hands down.
            Version::Two => {
                let given = fs::read_to_string(parent.join("cgroup.controllers"))?;
                let known = [Controller::Memory, Controller::Pids].map(Controller::name);
                known.into_iter().filter(|name| holds(&given, ' ', name)).try_for_each(|name| enable(parent, name))
            }
        }
    }
}

impl Groups {
    fn add(&mut self, made: Result<PathBuf, String>, warn: impl Fn(&str)) {
        match made {
            Ok(folder) if !self.folders.contains(&folder) => self.folders.push(folder),
            Ok(_) => {}
            Err(why) => warn(&why),
        }
    }

    /// The folders, for whoever removes them if we cannot.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    /// What a process writes `0` to, to enter.
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |folder: &PathBuf| OpenOptions::new().write(true).open(folder.join("cgroup.procs"));
        self.folders.iter().map(|folder| open(folder).map(|file: File| file.into())).collect()
    }

    /// Whether the limit of memory has ended a process in it.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let count = |file: &PathBuf| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse::<u64>().ok()
        };
        self.counter.as_ref().and_then(count).is_some_and(|count| count > 0)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            remove(folder);
        }
    }
}

/// Removes a group, and the group of our instance with its last. Fails, unheard, while a process is in it.
pub(crate) fn remove(folder: &Path) {
    if fs::remove_dir(folder).is_ok()
        && let Some(parent) = folder.parent()
    {
        let _ = fs::remove_dir(parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: &[&str] = &["one/memory/ours", "one/pids", "two/ours/ostler-self", "two/bare"];

    /// Folders that look like hierarchies, and what the kernel would say of them.
    fn mounts(root: &Path) -> String {
        for place in PLACES {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        let root = root.display();
        format!(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             35 31 0:32 /docker/1 {root}/one/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
             39 31 0:36 / {root}/one/pids rw - cgroup cgroup rw,pids\n\
             41 31 0:38 / {root}/two rw - cgroup2 cgroup2 rw,nsdelegate\n"
        )
    }

    fn write_all(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn our_own_group_is_found_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        let at = |version, path: &str| Ok(Place { folder: root.path().join(path), version });
        let first = "8:pids:/\n4:memory:/docker/1/ours\n1:name=systemd:/\n";
        let found = Places::from(first, &mounts);
        assert_eq!(found.memory, at(Version::One, "one/memory/ours"));
        assert_eq!(found.pids, at(Version::One, "one/pids"));
        // Of version 2 there is a group that carries nothing of use.
        write_all(&root.path().join("two/bare"), &[("cgroup.controllers", "hugetlb\n")]);
        assert_eq!(Places::from(&format!("{first}0::/bare\n"), &mounts).memory, at(Version::One, "one/memory/ours"));
        assert!(Places::from("0::/bare\n", &mounts).memory.is_err());
        // And one that has what is wanted, above the group that only we are in.
        let ours = root.path().join("two/ours");
        write_all(&ours, &[("cgroup.controllers", "cpu memory pids\n"), ("cgroup.subtree_control", "memory pids\n")]);
        let found = Places::from(&format!("{first}0::/ours/ostler-self\n"), &mounts);
        assert_eq!((found.memory, found.pids), (at(Version::Two, "two/ours"), at(Version::Two, "two/ours")));
        // What another namespace calls its own is not ours.
        assert!(Places::from("4:memory:/elsewhere\n", &mounts).memory.is_err());
    }

    #[test]
    fn a_controller_that_cannot_be_handed_down_is_explained() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        // Without the file that hands controllers down, writing to it fails.
        write_all(&root.path().join("two/bare"), &[("cgroup.controllers", "memory\n")]);
        let why = Places::from("0::/bare\n", &mounts).memory.unwrap_err();
        assert!(why.contains("DelegateSubgroup=ostler-self"), "{why}");
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_told_and_leaves_no_group() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { folder: root.path().to_owned(), version: Version::One };
        let places = Places { memory: Ok(place), pids: Err("because".to_owned()) };
        let limits = ResourceLimits { memory: Some(1), processes: Some(1), ..ResourceLimits::default() };
        let told = std::cell::RefCell::new(Vec::new());
        let name = Name { instance: "1", id: 2, server: "math" };
        // No kernel puts files into this folder, so there is nothing to write the limit to.
        let groups = places.make(&name, &limits, |what, why| told.borrow_mut().push((what.to_owned(), why.to_owned())));
        assert_eq!(groups.folders(), Vec::<PathBuf>::new());
        let told = told.into_inner();
        assert_eq!((told.len(), told[0].0.as_str()), (2, "memory"));
        assert_eq!(told[1], ("pids".to_owned(), "because".to_owned()));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(!groups.ran_out_of_memory());
    }
}
