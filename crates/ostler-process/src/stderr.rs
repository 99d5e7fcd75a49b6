//! A child's standard error: always drained, kept as a bounded ring of clean lines.
//!
//! Not a log: whoever wants the lines in one reads the tail when something happened, or follows them. `ring` keeps them.

mod redact;
mod ring;

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::unix::pipe;
use tokio::sync::watch;

pub(crate) use self::redact::Redactor;
use self::ring::{LINE, Ring};
use crate::child::Life;
use crate::clock;

/// How many chunks are read under one lock: twice what a pipe holds.
const CHUNKS: usize = 16;

/// The last words of a child. Cheap to clone; outlives the child.
#[derive(Clone)]
pub struct Stderr(Arc<Mutex<Drain>>);

/// One line of a child's standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StderrLine {
    /// Which it is of all that the child wrote, from 1. A gap to the one before: a flood, of which some lines were dropped.
    pub number: u64,
    /// Without control characters, at most 8 KiB.
    pub text: String,
}

struct Drain {
    ring: Ring,
    pipe: Option<Arc<pipe::Receiver>>,
    /// Tells followers that lines came; dropped after the last one.
    news: Option<watch::Sender<u64>>,
}

impl Stderr {
    /// Starts to drain `pipe`, until its end or until nothing is left of the child.
    pub(crate) fn drain(pipe: pipe::Receiver, life: watch::Receiver<Life>, redactor: Redactor) -> Self {
        let pipe = Arc::new(pipe);
        let news = Some(watch::Sender::new(0));
        let drain = Drain { ring: Ring::new(redactor), pipe: Some(pipe.clone()), news };
        let stderr = Self(Arc::new(Mutex::new(drain)));
        tokio::spawn(stderr.clone().empty(pipe, life));
        stderr
    }

    /// The last lines, at most 4 KiB, without control characters.
    ///
    /// After [`Child::exited`](crate::Child::exited) everything that the child wrote has been seen.
    pub fn tail(&self) -> String {
        let mut drain = self.lock();
        // The end of the process can be known before its last words were drained; they are in the pipe.
        drain.pump(|pipe, chunk| nix::unistd::read(pipe, chunk).map_err(io::Error::from));
        drain.ring.tail()
    }

    /// How many lines it wrote, finished ones.
    pub fn lines(&self) -> u64 {
        self.lock().ring.count()
    }

    /// How many of them were dropped unread: 500 lines a second are kept, 2,000 at once, and always the newest.
    pub fn dropped(&self) -> u64 {
        self.lock().ring.dropped()
    }

    /// The lines behind the one with the number `seen` that are still kept, at most 64 KiB. 0: all of them.
    pub fn since(&self, seen: u64) -> Vec<StderrLine> {
        self.lock().ring.since(seen)
    }

    /// A reader that starts with all that is kept and waits for more.
    pub fn follow(&self) -> StderrFollower {
        let news = self.lock().news.as_ref().map(watch::Sender::subscribe);
        StderrFollower { stderr: self.clone(), news, seen: 0 }
    }

    /// Whether both are of the same child.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether there will be no more lines.
    pub fn has_ended(&self) -> bool {
        self.lock().news.is_none()
    }

    async fn empty(self, pipe: Arc<pipe::Receiver>, mut life: watch::Receiver<Life>) {
        loop {
            // Being ready costs a task nothing of its budget: without this a flood would never let the thread go.
            tokio::task::yield_now().await;
            let due = self.lock().ring.due();
            tokio::select! {
                biased;
                ready = pipe.readable() => {
                    let is_open = ready.is_ok() && self.lock().pump(pipe::Receiver::try_read);
                    if !is_open {
                        break;
                    }
                }
                // A descriptor can outlive the tree, in the hands of a process that is none of ours.
                _ = life.wait_for(|life| matches!(life, Life::Released(_))) => {
                    self.lock().pump(|pipe, chunk| nix::unistd::read(pipe, chunk).map_err(io::Error::from));
                    break;
                }
                () = reached(due) => self.lock().settle(),
            }
        }
        self.lock().close();
    }

    fn lock(&self) -> MutexGuard<'_, Drain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stderr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stderr").field("lines", &self.lines()).finish_non_exhaustive()
    }
}

/// Reads a standard error from its oldest kept line to its end. A slow reader misses lines and can see that it did.
#[derive(Debug)]
pub struct StderrFollower {
    stderr: Stderr,
    news: Option<watch::Receiver<u64>>,
    seen: u64,
}

impl StderrFollower {
    /// The next lines, at least one; `None` when the child is gone and all was read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<StderrLine>> {
        loop {
            let lines = self.stderr.since(self.seen);
            if let Some(newest) = lines.last() {
                self.seen = newest.number;
                return Some(lines);
            }
            let news = self.news.as_mut()?;
            // News since the last time are seen at once, also if we have just read the lines: then we look in vain.
            if news.changed().await.is_err() {
                self.news = None;
            }
        }
    }
}

impl Drain {
    /// Reads what is there, a bounded amount. Returns false when there will be no more.
    fn pump(&mut self, read: impl Fn(&pipe::Receiver, &mut [u8]) -> io::Result<usize>) -> bool {
        let Some(pipe) = self.pipe.clone() else { return false };
        let now = clock::now();
        let mut chunk = [0; LINE];
        let mut is_open = true;
        for _ in 0..CHUNKS {
            match read(&pipe, &mut chunk) {
                Ok(0) => {
                    is_open = false;
                    break;
                }
                Ok(length) => self.ring.push(&chunk[..length], now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    is_open = error.kind() == io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.tell();
        is_open
    }

    fn settle(&mut self) {
        self.ring.settle(clock::now());
        self.tell();
    }

    fn close(&mut self) {
        self.pipe = None;
        self.ring.close();
        self.news = None;
    }

    fn tell(&self) {
        let newest = self.ring.newest();
        if let Some(news) = &self.news {
            news.send_if_modified(|told| std::mem::replace(told, newest) != newest);
        }
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tail_has_what_was_written_before_it_was_asked_for() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let (_alive, life) = watch::channel(Life::Running);
        let stderr = Stderr::drain(receiver, life, Redactor::default());
        sender.writable().await.unwrap();
        sender.try_write(b"first\nlast").unwrap();
        // No other task has run since.
        assert_eq!(stderr.tail(), "first\nlast");
        assert_eq!(stderr.lines(), 1);
    }

    #[tokio::test]
    async fn a_flood_lets_others_have_the_thread() {
        use std::io::Write;
        use std::sync::atomic::{AtomicUsize, Ordering};

        /// Enough for many a round of reading.
        const FLOOD: usize = 8 * 1024 * 1024;
        let (sender, receiver) = pipe::pipe().unwrap();
        let mut sender = std::fs::File::from(sender.into_blocking_fd().unwrap());
        let written = Arc::new(AtomicUsize::new(0));
        let writer = {
            let written = Arc::clone(&written);
            // Short lines take longer to read than to write.
            std::thread::spawn(move || {
                while written.load(Ordering::Relaxed) < FLOOD && sender.write_all(&[b'\n'; 4096]).is_ok() {
                    written.fetch_add(4096, Ordering::Relaxed);
                }
            })
        };
        let (_alive, life) = watch::channel(Life::Running);
        let stderr = Stderr::drain(receiver, life, Redactor::default());
        let mut most = 0;
        while !stderr.has_ended() {
            let before = written.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            most = most.max(written.load(Ordering::Relaxed) - before);
        }
        writer.join().unwrap();
        assert_eq!(stderr.lines(), FLOOD as u64);
        // What is read in a round, and what a pipe holds.
        assert!(most <= 4 * CHUNKS * LINE, "{most} bytes were written while nobody else had a turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_sees_every_kept_line_once_and_the_end() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let (alive, life) = watch::channel(Life::Running);
        let stderr = Stderr::drain(receiver, life, Redactor::default());
        sender.writable().await.unwrap();
        sender.try_write(b"one\ntwo\nopen").unwrap();
        let mut follower = stderr.follow();
        let texts = |lines: Option<Vec<StderrLine>>| {
            lines.map(|lines| lines.into_iter().map(|line| (line.number, line.text)).collect::<Vec<_>>())
        };
        let line = |number: u64, text: &str| (number, text.to_owned());
        assert_eq!(texts(follower.next().await), Some(vec![line(1, "one"), line(2, "two")]));
        sender.try_write(b"ed\n").unwrap();
        assert_eq!(texts(follower.next().await), Some(vec![line(3, "opened")]));
        assert!(!stderr.has_ended());
        sender.try_write(b"last words").unwrap();
        drop(sender);
        assert_eq!(texts(follower.next().await), Some(vec![line(4, "last words")]));
        assert_eq!(texts(follower.next().await), None);
        assert!(stderr.has_ended());
        // One who comes late sees it all, and the end.
        let mut late = stderr.follow();
        assert_eq!(late.next().await.map(|lines| lines.len()), Some(4));
        assert_eq!(late.next().await, None);
        drop(alive);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_lines_of_a_flood_reach_a_follower_in_time() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let (_alive, life) = watch::channel(Life::Running);
        let stderr = Stderr::drain(receiver, life, Redactor::default());
        let mut follower = stderr.follow();
        sender.writable().await.unwrap();
        let numbers: Vec<String> = (1..=3000).map(|number| number.to_string()).collect();
        let flood = numbers.join("\n") + "\n";
        assert_eq!(sender.try_write(flood.as_bytes()).unwrap(), flood.len());
        let mut seen = Vec::new();
        while seen.last() != Some(&3000) {
            seen.extend(follower.next().await.unwrap().into_iter().map(|line| line.number));
        }
        // The burst, then what waited; 3000 - 2000 lines of five bytes, of which 4 KiB wait.
        let expected: Vec<u64> = (1..=2000).chain(2182..=3000).collect();
        assert_eq!(seen, expected);
        assert_eq!(stderr.dropped(), 181);
    }
}
