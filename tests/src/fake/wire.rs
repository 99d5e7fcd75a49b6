//! Lines in and lines out of the fake server, and the record of what came in.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Stdin, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// Standard output, one whole line at a time, from any thread. A reader that has gone is no error here.
#[derive(Default)]
pub(super) struct Output {
    turn: Mutex<()>,
    is_hushed: AtomicBool,
}

impl Output {
    pub(super) fn send(&self, message: &Value) {
        self.line(message.to_string().as_bytes());
    }

    /// From now on nothing is said.
    pub(super) fn hush(&self) {
        self.is_hushed.store(true, Ordering::SeqCst);
    }

    pub(super) fn line(&self, bytes: &[u8]) {
        let _turn = self.turn.lock().expect("no writer panics");
        if self.is_hushed.load(Ordering::SeqCst) {
            return;
        }
        let mut out = io::stdout().lock();
        drop(out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
    }
}

/// Standard input by lines; every byte read is recorded before it is looked at.
pub(super) struct Input {
    lines: BufReader<Tee>,
}

struct Tee {
    source: Stdin,
    record: Option<File>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Some(record) = &mut self.record {
            record.write_all(&buffer[..count])?;
        }
        Ok(count)
    }
}

impl Input {
    /// Errors: `record` cannot be opened.
    pub(super) fn new(record: Option<&str>) -> io::Result<Self> {
        let record = record.map(append_to).transpose()?;
        Ok(Self { lines: BufReader::new(Tee { source: io::stdin(), record }) })
    }

    /// The next line, or `None` at the end of the input.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line),
        }
    }
}

pub(super) fn append_to(path: impl AsRef<Path>) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
