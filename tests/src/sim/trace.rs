//! The story of a run: one line an event, with its virtual time.
//!
//! What happens in the same millisecond is sorted: it has no order that means anything. Kept are a digest of all, the
//! last lines, and all of them if they are wanted.

use std::collections::VecDeque;
use std::time::Duration;

/// How many lines a failure shows.
const SHOWN: usize = 50;

pub(super) struct Trace {
    at: Duration,
    /// The lines of the present millisecond.
    now: Vec<String>,
    last: VecDeque<String>,
    all: Option<Vec<String>>,
    digest: u64,
    lines: u64,
}

/// What is left of a trace in the end.
pub(super) struct Told {
    /// All lines if they were kept, else the last fifty.
    pub(super) lines: Vec<String>,
    /// Equal for equal traces, whether lines were kept or not.
    pub(super) digest: u64,
    pub(super) count: u64,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self {
            at: Duration::ZERO,
            now: Vec::new(),
            last: VecDeque::new(),
            all: keep.then(Vec::new),
            digest: 0xcbf2_9ce4_8422_2325,
            lines: 0,
        }
    }

    pub(super) fn say(&mut self, at: Duration, line: String) {
        if at != self.at {
            self.flush();
            self.at = at;
        }
        self.now.push(line);
    }

    pub(super) fn finish(mut self) -> Told {
        self.flush();
        let lines = self.all.unwrap_or_else(|| self.last.into());
        Told { lines, digest: self.digest, count: self.lines }
    }

    fn flush(&mut self) {
        self.now.sort_unstable();
        for line in std::mem::take(&mut self.now) {
            let line = format!("{:>9.3} {line}", self.at.as_secs_f64());
            // FNV-1a: stable from build to build.
            for byte in line.bytes().chain([b'\n']) {
                self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            self.lines += 1;
            if let Some(all) = &mut self.all {
                all.push(line);
                continue;
            }
            if self.last.len() == SHOWN {
                self.last.pop_front();
            }
            self.last.push_back(line);
        }
    }
}
