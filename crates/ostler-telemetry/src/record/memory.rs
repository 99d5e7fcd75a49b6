//! What was told to the recorder before, where the next fact depends on it.
//!
//! A recorder forgets nothing by itself: words of a server that changed must be set to zero by whoever set them, and
//! a server that invents tool names must not fill the memory of Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_core::ServerId;

use crate::log;

/// Tools of one server that are counted by name; those after them are counted together.
pub(super) const TOOLS_BY_NAME: usize = 200;

/// The longest label that a foreign server can cause, in bytes.
const WORD: usize = 64;

/// The words of one incarnation about itself, fit to be labels.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) version: String,
    pub(super) revision: String,
    pub(super) transport: &'static str,
}

impl Info {
    pub(super) fn new(version: &str, revision: &str, transport: &'static str) -> Self {
        Self { version: log::line(version, WORD), revision: log::line(revision, WORD), transport }
    }
}

#[derive(Default)]
struct Memory {
    infos: BTreeMap<ServerId, Info>,
    tools: BTreeMap<ServerId, BTreeSet<String>>,
}

static MEMORY: Mutex<Memory> = Mutex::new(Memory { infos: BTreeMap::new(), tools: BTreeMap::new() });

fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers what the server says now and returns what it said before.
pub(super) fn replace_info(server: &ServerId, now: Option<Info>) -> Option<Info> {
    let mut memory = memory();
    match now {
        Some(now) => memory.infos.insert(server.clone(), now),
        None => memory.infos.remove(server),
    }
}

/// The label of a tool: its name, or `_other` once the server has shown more than [`TOOLS_BY_NAME`] names.
pub(super) fn tool_label(server: &ServerId, tool: &str) -> String {
    let name = log::line(tool, WORD);
    let mut memory = memory();
    let known = memory.tools.entry(server.clone()).or_default();
    if known.contains(&name) {
        return name;
    }
    if known.len() >= TOOLS_BY_NAME {
        return "_other".to_owned();
    }
    known.insert(name.clone());
    name
}
