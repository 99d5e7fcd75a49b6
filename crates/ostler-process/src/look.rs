//! A look at what a launch names before anybody waits for it: a file system that hangs must hold up no one else.
//!
//! Finds out whether program and working folder answer, not whether they are good: that the exec tells.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::clock;
use crate::spawn::{Line, SpawnError};

/// How long a look may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer counts: many servers of one program are looked at once.
const FRESH: Duration = Duration::from_secs(10);

/// The looks of one reaper's handle.
#[derive(Default)]
pub(crate) struct Looks {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// What was looked at in vain, and still is: not looked at again meanwhile, so that threads do not pile up.
    hanging: BTreeSet<Target>,
    /// What answered, and when. Only fresh ones are kept.
    answered: BTreeMap<Target, Instant>,
}

type Target = (Option<PathBuf>, OsString, Option<OsString>);

impl Looks {
    /// Looks at the working folder and the program of `line`. Errors: one of them does not answer.
    pub(crate) async fn at(&self, line: &Line) -> Result<(), SpawnError> {
        self.within((line.cwd.clone(), line.program.clone(), line.path.clone()), look).await
    }

    async fn within(
        &self,
        target: Target,
        look: impl FnOnce(&Target, &Mutex<PathBuf>) + Send + 'static,
    ) -> Result<(), SpawnError> {
        {
            let mut seen = lock(&self.seen);
            if seen.hanging.contains(&target) {
                return Err(SpawnError::Silent { path: target.1.into() });
            }
            let now = clock::now();
            seen.answered.retain(|_, at| now.saturating_duration_since(*at) < FRESH);
            if seen.answered.contains_key(&target) {
                return Ok(());
            }
        }
        let suspect = Arc::new(Mutex::new(PathBuf::from(&target.1)));
        let (done, mut answer) = oneshot::channel::<()>();
        let look = {
            let (seen, suspect, target) = (Arc::clone(&self.seen), Arc::clone(&suspect), target.clone());
            move || {
                look(&target, &suspect);
                let mut seen = lock(&seen);
                seen.hanging.remove(&target);
                // With the lock held: nobody declares it hanging after this.
                let _ = done.send(());
            }
        };
        // Not a thread of the runtime: one that hangs would keep the runtime from ending.
        let thread = std::thread::Builder::new().name("ostler-look".to_owned()).spawn(look);
        thread.map_err(SpawnError::Host)?;
        let is_in_time = timeout(PATIENCE, &mut answer).await.is_ok();
        let mut seen = lock(&self.seen);
        if is_in_time || answer.try_recv().is_ok() {
            seen.answered.insert(target, clock::now());
            return Ok(());
        }
        seen.hanging.insert(target);
        drop(seen);
        let path = lock(&suspect).clone();
        Err(SpawnError::Silent { path })
    }
}

fn look(target: &Target, suspect: &Mutex<PathBuf>) {
    let (cwd, program, path) = target.clone();
    if let Some(cwd) = &cwd {
        lock(suspect).clone_from(cwd);
        // What is wrong with it is told by whoever enters it.
        let _ = fs::metadata(cwd);
    }
    *lock(suspect) = PathBuf::from(&program);
    let Some(file) = (Line { program, path, cwd }).find() else { return };
    lock(suspect).clone_from(&file);
    // Its content may lie elsewhere than its name. Only a file: a pipe would wait for a writer.
    let _ = File::open(file).and_then(|mut file| file.read(&mut [0]));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_told_and_not_looked_at_again_until_it_does() {
        let looks = Looks::default();
        let target: Target = (Some("/net/share".into()), "server".into(), None);
        let (answer, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let hang = move |target: &Target, suspect: &Mutex<PathBuf>| {
            *lock(suspect) = target.0.clone().unwrap();
            let _ = hangs.recv();
        };
        // The paused clock jumps to the limit as soon as nothing else happens.
        let error = looks.within(target.clone(), hang).await.unwrap_err();
        let told = |error: SpawnError| (error.to_string(), error.fault().class);
        assert!(matches!(&error, SpawnError::Silent { .. }));
        assert_eq!(told(error).1, ostler_core::status::FaultClass::HostResource);
        let never = |_: &Target, _: &Mutex<PathBuf>| panic!("looked at twice");
        let again = looks.within(target.clone(), never).await.unwrap_err();
        assert_eq!(told(again).0, "'server' does not answer");
        assert_eq!(lock(&looks.seen).hanging.len(), 1);
        drop(answer);
        tokio::time::resume();
        tokio::time::timeout(PATIENCE, async {
            while !lock(&looks.seen).hanging.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it answers");
        looks.within(target.clone(), |_, _| {}).await.unwrap();
        let never = |_: &Target, _: &Mutex<PathBuf>| panic!("looked at twice");
        looks.within(target.clone(), never).await.unwrap();
        // The answer is not believed for ever.
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        let hang = |_: &Target, _: &Mutex<PathBuf>| std::thread::park();
        looks.within(target, hang).await.unwrap_err();
    }
}
