//! When the configuration is read again: at a SIGHUP, and when one of its files has changed and been left alone since.
//!
//! It looks at times, sizes and inodes, a few times a second: editors replace files, and a handful of looks costs nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::reload::Reloader;

/// How often it looks. A change is taken up after one to two of these.
const LOOK: Duration = Duration::from_millis(400);

/// What tells a file from what it was. `None`: it is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

/// All files of a configuration.
type Stamps = BTreeMap<PathBuf, Stamp>;

/// Reloads whenever there is a reason to. Never ends by itself.
pub(super) async fn run(reloader: Reloader, mut hangup: Signal) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen { stamps: look(reloader.live().config().watched()).await, moving: None };
    loop {
        tokio::select! {
            biased;
            Some(()) = hangup.recv() => {
                tracing::info!("SIGHUP: the configuration is read again");
                seen = Seen { stamps: look(reloader.live().config().watched()).await, moving: None };
            }
            _ = ticks.tick() => {
                let now = look(reloader.live().config().watched()).await;
                if !seen.has_changed(now) {
                    continue;
                }
                tracing::info!("a file of the configuration has changed");
            }
        }
        reloader.reload().await;
        // A file that changed while it was being read is a change that is still to come.
        let now = look(reloader.live().config().watched()).await;
        seen.learn(now);
    }
}

/// What the files were when they were read last.
struct Seen {
    stamps: Stamps,
    /// What they were at the last look, if that was something else.
    moving: Option<Stamps>,
}

impl Seen {
    /// Whether the files are other ones than those that were read, and the same as at the last look.
    fn has_changed(&mut self, now: Stamps) -> bool {
        if now == self.stamps {
            self.moving = None;
            return false;
        }
        if self.moving.as_ref() != Some(&now) {
            self.moving = Some(now);
            return false;
        }
        self.stamps = now;
        self.moving = None;
        true
    }

    /// Takes up files that were not known, and drops those that no longer belong to the configuration.
    fn learn(&mut self, now: Stamps) {
        let known = std::mem::take(&mut self.stamps);
        let kept = |(path, stamp)| {
            let stamp = known.get(&path).copied().unwrap_or(stamp);
            (path, stamp)
        };
        self.stamps = now.into_iter().map(kept).collect();
    }
}

/// Looks at the files, away from the runtime's threads: a folder may lie on a network that is slow.
async fn look(paths: Vec<PathBuf>) -> Stamps {
    let stamps = move || {
        let stamped = paths.into_iter().map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        stamped.collect()
    };
    tokio::task::spawn_blocking(stamps).await.unwrap_or_default()
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(files: &[(&str, i64)]) -> Stamps {
        files.iter().map(|(path, time)| (PathBuf::from(path), Some((*time, 0, 1, 1)))).collect()
    }

    #[test]
    fn a_change_counts_once_it_has_come_to_rest() {
        let mut seen = Seen { stamps: stamps(&[("a", 1)]), moving: None };
        assert!(!seen.has_changed(stamps(&[("a", 1)])));
        assert!(!seen.has_changed(stamps(&[("a", 2)])), "it may still be written");
        assert!(!seen.has_changed(stamps(&[("a", 3)])), "it was");
        assert!(seen.has_changed(stamps(&[("a", 3)])));
        assert!(!seen.has_changed(stamps(&[("a", 3)])), "a change is one change");
        assert!(!seen.has_changed(stamps(&[])));
        assert!(!seen.has_changed(stamps(&[("a", 3)])), "it is back as it was");
        assert!(!seen.has_changed(stamps(&[])));
        assert!(seen.has_changed(stamps(&[])), "a file that is gone is a change");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again() {
        let mut seen = Seen { stamps: stamps(&[("a", 1), ("b", 1)]), moving: None };
        // The new configuration no longer has b and imports c; meanwhile a was written again.
        let now = stamps(&[("a", 2), ("c", 1)]);
        seen.learn(now.clone());
        assert!(!seen.has_changed(now.clone()));
        assert!(seen.has_changed(now));
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_one_of_the_same_size_looks_different() {
        let home = tempfile::tempdir().expect("a folder");
        let (path, other) = (home.path().join("a"), home.path().join("b"));
        assert_eq!(look(vec![path.clone()]).await[&path], None);
        std::fs::write(&path, "one").expect("written");
        let before = look(vec![path.clone()]).await;
        assert_eq!(look(vec![path.clone()]).await, before);
        std::fs::write(&other, "two").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert_ne!(look(vec![path.clone()]).await, before);
    }
}
