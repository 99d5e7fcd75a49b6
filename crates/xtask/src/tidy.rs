//! The walls of the house as checks: who imports whom, what a manifest says, what a source file holds.
//!
//! Each rule is a function from text to violations, so that its test can show it failing. What clippy, rustc and
//! cargo-deny can keep is theirs; here is the rest.

mod arrows;
mod code;
mod manifest;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

/// A broken wall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The file, from the root of the workspace, with the line if one is meant; or the crate.
    pub place: String,
    /// What is wrong and what the rule is.
    pub what: String,
}

impl Violation {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// The root of this workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lies two folders below the root").to_owned()
}

/// Checks the whole workspace at `root`. Errors: only if it cannot be read.
pub fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut violations = Vec::new();

    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata failed")?;
    let packages: Vec<_> = metadata.workspace_packages().into_iter().map(arrows::Package::from).collect();
    violations.extend(arrows::check(&packages));

    let workspace = read(&root.join("Cargo.toml"))?;
    violations.extend(manifest::check_workspace(&workspace)?);
    for package in metadata.workspace_packages() {
        let path = package.manifest_path.as_std_path();
        violations.extend(manifest::check_member(&place(root, path), &read(path)?, &workspace)?);
    }
    violations.extend(check_clippy(root)?);

    let decisions = root.join("crates/DECISIONS.md");
    violations.extend(source::check_decisions(&place(root, &decisions), &read(&decisions)?));

    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut unsafe_files = Vec::new();
    for path in &files {
        // A file that is not text has nothing to read for us.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let place = place(root, path);
        violations.extend(source::check_text(&place, &text));
        if path.extension().is_some_and(|extension| extension == "rs") {
            violations.extend(source::check_rust(&place, &text));
            if source::holds_unsafe(&text) {
                unsafe_files.push(place);
            }
        }
    }
    violations.extend(source::check_unsafe(&unsafe_files));
    Ok(violations)
}

/// Every room has limits of its own, and they repeat the root's, because clippy reads the nearest file only.
fn check_clippy(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let shared = read(&root.join("clippy.toml"))?;
    let mut violations = Vec::new();
    for room in arrows::ROOMS {
        let path = root.join("crates").join(room.name).join("clippy.toml");
        match fs::read_to_string(&path) {
            Ok(own) => violations.extend(manifest::check_clippy(&place(root, &path), &own, &shared)?),
            Err(_) => violations.push(Violation::new(room.name, "has no clippy.toml with its bans")),
        }
    }
    Ok(violations)
}

/// Folders that hold nothing of ours.
const FOREIGN: &[&str] =
    &["target", ".git", ".foreign", "node_modules", ".venv", "__pycache__", "proptest-regressions"];

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if kind.is_dir() && !FOREIGN.iter().any(|foreign| name == *foreign) {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && name != "Cargo.lock" {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn place(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
