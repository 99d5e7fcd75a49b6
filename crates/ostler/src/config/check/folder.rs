//! `servers.d`: files beside the main one, each with servers and groups and nothing else, in the order of their names.
//!
//! What they say is checked as if it stood in the main file; relative paths start at the main file's folder too, so that a
//! table can be moved from one to the other.

use std::path::{Path, PathBuf};

use super::{Check, vet};
use crate::config::file::FolderFile;
use crate::config::leaf::Leaf;
use crate::config::report::Spot;
use crate::config::{document, read_text};

/// What the folder is called.
pub(super) const NAME: &str = "servers.d";

impl Check<'_> {
    /// The files of `folder`, which need not be there. Adds it and them to `files`.
    pub(super) fn folder(&mut self, folder: &Path, files: &mut Vec<PathBuf>) -> Vec<FolderFile> {
        files.push(folder.to_owned());
        let spot = Spot::file(&folder.display().to_string());
        let paths = match listed(folder) {
            Ok(Some(paths)) => paths,
            Ok(None) => return Vec::new(),
            Err(error) => {
                let advice = "make it a readable folder, or remove it";
                self.report.problem::<()>(&spot, format!("the folder cannot be read: {error}; {advice}"));
                return Vec::new();
            }
        };
        vet(folder, &spot, &self.origin, self.report);
        files.extend(paths.iter().cloned());
        paths.iter().filter_map(|path| self.folder_file(path)).collect()
    }

    fn folder_file(&mut self, path: &Path) -> Option<FolderFile> {
        let spot = Spot::file(&path.display().to_string());
        vet(path, &spot, &self.origin, self.report);
        let text = match read_text(path) {
            Ok(text) => text,
            Err(why) => {
                let advice = "make it a readable file, or remove it";
                return self.report.problem(&spot, format!("the file cannot be read: {why}; {advice}"));
            }
        };
        let node = document::toml(&text, &spot, self.report)?;
        FolderFile::read(node, &spot, self.report)
    }
}

/// The `.toml` files, without hidden ones, by name. `None`: there is no folder.
fn listed(folder: &Path) -> std::io::Result<Option<Vec<PathBuf>>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(Some(paths))
}
