//! The bounds of one launch, made in the daemon: what its child takes upon itself, and what is removed after its tree.
//!
//! Limits that this host cannot keep are left out, with one warning; a sandbox that it cannot keep refuses the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_os = "linux")]
use std::sync::OnceLock;
#[cfg(target_os = "linux")]
use tokio::time::timeout;

use crate::limits::{ResourceLimits, Sandbox};
#[cfg(target_os = "linux")]
use crate::look::PATIENCE;
use crate::reaper::Prepared;
use crate::spawn::SpawnError;

#[cfg(target_os = "linux")]
use crate::cgroup::{Groups, Name, Places};
#[cfg(target_os = "linux")]
use crate::kernel::Bounds;
#[cfg(target_os = "linux")]
use crate::sandbox::{self, Temporary, Wishes};

/// What is known of this host's means. One for a reaper's handle.
#[derive(Default)]
pub(crate) struct Means {
    #[cfg(target_os = "linux")]
    places: OnceLock<Places>,
    is_warned: AtomicBool,
}

/// What is removed after a tree.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    #[cfg(target_os = "linux")]
    pub(crate) groups: Groups,
    #[cfg(target_os = "linux")]
    pub(crate) temporary: Option<Temporary>,
}

/// The bounds of one launch.
#[derive(Default)]
pub(crate) struct Confines {
    #[cfg(target_os = "linux")]
    pub(crate) bounds: Bounds,
    pub(crate) remains: Remains,
    pub(crate) means: Arc<Means>,
}

impl Means {
    /// Says, once, that limits are not kept. Returns whether this was the time.
    pub(crate) fn warn(&self, limit: &str, reason: &str) -> bool {
        let is_first = !self.is_warned.swap(true, Ordering::Relaxed);
        if is_first {
            tracing::warn!(limit, reason, "a limit of servers cannot be kept on this host; they run without it");
        }
        is_first
    }
}

impl Remains {
    /// Whether the limit of memory has ended one of the tree.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.groups.ran_out_of_memory();
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Removes all of it. What a server left in its temporary folder is removed in the background.
    pub(crate) fn remove(self) {
        #[cfg(target_os = "linux")]
        if let Some(temporary) = self.temporary {
            drop(tokio::task::spawn_blocking(move || drop(temporary)));
        }
    }
}

/// Gives the launch its bounds. Touches files only if a limit or the sandbox needs them, and then not on this thread.
#[cfg(target_os = "linux")]
pub(crate) async fn confine(
    mut prepared: Prepared,
    means: Arc<Means>,
    limits: ResourceLimits,
    sandbox: Sandbox,
) -> Result<Prepared, SpawnError> {
    prepared.confines.bounds.core = limits.core;
    prepared.confines.bounds.open_files = limits.open_files;
    prepared.confines.means = Arc::clone(&means);
    if sandbox == Sandbox::Off && !limits.need_group() {
        return Ok(prepared);
    }
    let suspect = match &sandbox {
        Sandbox::Restricted { writable } => writable.first().cloned(),
        Sandbox::Off => None,
    };
    let suspect = suspect.unwrap_or_else(|| prepared.line.program.clone().into());
    let made = tokio::task::spawn_blocking(move || {
        group(&mut prepared, &means, limits)?;
        if let Sandbox::Restricted { writable } = &sandbox {
            restrict(&mut prepared, writable)?;
        }
        Ok(prepared)
    });
    match timeout(PATIENCE, made).await {
        Ok(made) => made.unwrap_or(Err(SpawnError::ShutDown)),
        // The paths of a sandbox are opened, and can lie anywhere.
        Err(_) => Err(SpawnError::Silent { path: suspect }),
    }
}

#[cfg(target_os = "linux")]
fn group(prepared: &mut Prepared, means: &Means, limits: ResourceLimits) -> Result<(), SpawnError> {
    if !limits.need_group() {
        return Ok(());
    }
    let instance = prepared.instance.trim_end_matches('.');
    let name = Name { instance, id: prepared.id, server: prepared.server.as_str() };
    let places = means.places.get_or_init(Places::find);
    let groups = places.make(&name, &limits, |limit, reason| {
        means.warn(limit, reason);
    });
    prepared.confines.bounds.doors = groups.doors().map_err(SpawnError::Host)?;
    prepared.confines.remains.groups = groups;
    Ok(())
}

#[cfg(target_os = "linux")]
fn restrict(prepared: &mut Prepared, writable: &[std::path::PathBuf]) -> Result<(), SpawnError> {
    if !sandbox::is_supported() {
        return Err(SpawnError::no_sandbox());
    }
    let temporary = Temporary::make(&format!("ostler-{}{}", prepared.instance, prepared.id))?;
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    let program = prepared.line.find();
    let wishes = Wishes {
        program: program.as_deref(),
        cwd: prepared.asked_cwd.as_deref(),
        writable,
        temporary: temporary.path(),
        home: home.as_deref(),
    };
    prepared.confines.bounds.ruleset = Some(sandbox::ruleset(&wishes)?);
    let (name, value) = temporary.variable();
    prepared.env.retain(|(other, _)| *other != name);
    prepared.env.push((name, value));
    prepared.confines.remains.temporary = Some(temporary);
    Ok(())
}

/// Without Linux there is nothing that could keep a tree in bounds.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn confine(
    mut prepared: Prepared,
    means: Arc<Means>,
    limits: ResourceLimits,
    sandbox: Sandbox,
) -> Result<Prepared, SpawnError> {
    if sandbox != Sandbox::Off {
        return Err(SpawnError::no_sandbox());
    }
    if limits.need_group() || limits.open_files.is_some() {
        means.warn("memory, processes, open files", "this system has no control groups");
    }
    prepared.confines.means = means;
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_kept_are_told_once() {
        let means = Means::default();
        assert!(means.warn("memory", "read-only"));
        assert!(!means.warn("pids", "read-only"));
        assert!(!means.warn("memory", "read-only"));
    }
}
