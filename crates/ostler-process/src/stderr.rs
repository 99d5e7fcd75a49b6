//! A child's standard error: always drained, kept as a bounded ring of clean lines.
//!
//! Not a log: whoever wants the lines in one reads the tail when something happened.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::child::Life;

/// How many bytes of finished lines are kept.
const RING: usize = 64 * 1024;
/// Where a line is cut.
const LINE: usize = 8 * 1024;
/// How much [`Stderr::tail`] returns at most.
const TAIL: usize = 4 * 1024;
/// How many chunks are read under one lock: twice what a pipe holds.
const CHUNKS: usize = 16;

/// The last words of a child. Cheap to clone; outlives the child.
#[derive(Clone)]
pub struct Stderr(Arc<Mutex<Drain>>);

struct Drain {
    ring: Ring,
    pipe: Option<Arc<pipe::Receiver>>,
}

impl Stderr {
    /// Starts to drain `pipe`, until its end or until nothing is left of the child.
    pub(crate) fn drain(pipe: pipe::Receiver, life: watch::Receiver<Life>) -> Self {
        let pipe = Arc::new(pipe);
        let stderr = Self(Arc::new(Mutex::new(Drain { ring: Ring::default(), pipe: Some(pipe.clone()) })));
        tokio::spawn(stderr.clone().follow(pipe, life));
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
        self.lock().ring.count
    }

    async fn follow(self, pipe: Arc<pipe::Receiver>, mut life: watch::Receiver<Life>) {
        loop {
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
            }
        }
        self.lock().pipe = None;
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

impl Drain {
    /// Reads what is there, a bounded amount. Returns false when there will be no more.
    fn pump(&mut self, read: impl Fn(&pipe::Receiver, &mut [u8]) -> io::Result<usize>) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut chunk = [0; LINE];
        for _ in 0..CHUNKS {
            match read(pipe, &mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.ring.push(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    count: u64,
    /// The line that is not finished yet, raw, at most [`LINE`] bytes.
    open: Vec<u8>,
}

impl Ring {
    fn push(&mut self, mut chunk: &[u8]) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.extend(&chunk[..end]);
            self.finish();
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk);
    }

    /// What goes beyond the cut is dropped.
    fn extend(&mut self, part: &[u8]) {
        let room = LINE - self.open.len();
        self.open.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn finish(&mut self) {
        let line = clean(&self.open);
        self.open.clear();
        self.count += 1;
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > RING {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }

    fn tail(&self) -> String {
        let open = clean(&self.open);
        let mut kept: Vec<&str> = Vec::new();
        let mut room = TAIL;
        let newest_first = std::iter::once(open.as_str()).chain(self.lines.iter().rev().map(String::as_str));
        for line in newest_first.skip_while(|line| line.is_empty()) {
            let cost = line.len() + usize::from(!kept.is_empty());
            if cost > room {
                if kept.is_empty() {
                    kept.push(&line[line.ceil_char_boundary(line.len() - room)..]);
                }
                break;
            }
            room -= cost;
            kept.push(line);
        }
        kept.reverse();
        kept.join("\n")
    }
}

/// Makes text of raw bytes: invalid UTF-8 replaced, terminal sequences and control characters removed, tabs as spaces.
fn clean(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\t' => cleaned.push(' '),
            other if other.is_control() => {}
            other => cleaned.push(other),
        }
    }
    // A replaced byte becomes three: the cut holds afterwards too.
    cleaned.truncate(cleaned.floor_char_boundary(LINE));
    cleaned
}

/// Skips what belongs to the escape character before: a CSI sequence to its final byte, an OSC to its end, else one.
fn skip_sequence(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => while characters.next().is_some_and(|next| !('\u{40}'..='\u{7e}').contains(&next)) {},
        Some(']') => {
            while let Some(next) = characters.next() {
                if next == '\u{7}' || (next == '\u{1b}' && characters.next() == Some('\\')) {
                    break;
                }
            }
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tail_has_what_was_written_before_it_was_asked_for() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let (_alive, life) = watch::channel(Life::Running);
        let stderr = Stderr::drain(receiver, life);
        sender.writable().await.unwrap();
        sender.try_write(b"first\nlast").unwrap();
        // No other task has run since.
        assert_eq!(stderr.tail(), "first\nlast");
        assert_eq!(stderr.lines(), 1);
    }

    #[test]
    fn a_line_is_clean_text() {
        let check = |raw: &[u8], expected: &str| assert_eq!(clean(raw), expected, "{raw:?}");
        check(b"plain", "plain");
        check(b"\x1b[1;31mred\x1b[0m\r", "red");
        check(b"\x1b]0;title\x07shown", "shown");
        check(b"\x1b]8;;http://x\x1b\\link", "link");
        check(b"a\tb\x00c\x08\x7f", "a bc");
        check(b"caf\xc3\xa9 \xff", "café \u{fffd}");
        check("\u{9b}31mx".as_bytes(), "31mx");
        check(b"cut short \x1b[", "cut short ");
    }

    #[test]
    fn the_ring_forgets_its_oldest_lines() {
        let mut ring = Ring::default();
        for number in 0..20_000 {
            ring.push(format!("line {number}\n").as_bytes());
        }
        assert_eq!(ring.count, 20_000);
        assert!(ring.bytes <= RING);
        assert!(ring.tail().ends_with("line 19998\nline 19999"));
        assert!(ring.tail().len() <= TAIL);
    }

    #[test]
    fn a_line_without_end_takes_bounded_room() {
        let mut ring = Ring::default();
        for _ in 0..100 {
            ring.push(&[b'x'; 4096]);
        }
        assert_eq!(ring.open.len(), LINE);
        assert_eq!(ring.tail(), "x".repeat(TAIL));
        ring.push(b"\nnext");
        assert_eq!(ring.tail(), "next");
        assert_eq!(ring.count, 1);
    }

    #[test]
    fn invalid_bytes_do_not_grow_a_line_beyond_its_cut() {
        let mut ring = Ring::default();
        ring.push(&[0xff; LINE]);
        ring.push(b"\n");
        assert!(ring.bytes <= LINE + 1);
    }
}
