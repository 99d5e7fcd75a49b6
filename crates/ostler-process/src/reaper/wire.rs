//! What the daemon and the reaper say to each other: length-framed records on one stream socket. Pure.
//!
//! The three pipe ends of a spawn travel beside its first byte. Both ends are the same program, so an unknown record is
//! an error and not a future version; `Hello` carries the version nevertheless, for a reaper that is named by path.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use ostler_core::status::Exit;

/// Changes with every change of the records.
pub(crate) const VERSION: u32 = 2;
/// The largest record. A launch beyond it is refused before it is sent.
pub(crate) const MAX: usize = 1024 * 1024;

/// From the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Spawn(Box<Start>),
    Ease { id: u64 },
    Term { id: u64 },
    Kill { id: u64 },
}

/// What to start, all of it resolved.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Start {
    pub(crate) id: u64,
    /// The value by which everything below the server is known.
    pub(crate) cookie: OsString,
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    /// The control groups that it enters; their doors travel behind the pipes.
    pub(crate) groups: Vec<PathBuf>,
    /// Its own temporary folder, which makes it a sandboxed one; the ruleset travels behind the doors.
    pub(crate) temporary: Option<PathBuf>,
    pub(crate) open_files: Option<u64>,
    pub(crate) core: u64,
}

/// From the reaper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Hello {
        version: u32,
    },
    Spawned {
        id: u64,
        pid: u32,
        /// Why it runs outside of its control groups; 0 if it does not.
        ungrouped: i32,
    },
    Refused {
        id: u64,
        refusal: Refusal,
    },
    Exited {
        id: u64,
        exit: Exit,
    },
    /// Nothing is left, but for as many as cannot be killed.
    Released {
        id: u64,
        survivors: u32,
    },
}

/// Where a spawn failed, with the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Folder(i32),
    Exec(i32),
    Sandbox(i32),
}

impl Order {
    /// The record with its length before it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Spawn(start) => {
                out.byte(0);
                out.u64(start.id);
                out.bytes(start.cookie.as_bytes());
                out.bytes(start.program.as_bytes());
                out.u32(count(start.args.len()));
                for argument in &start.args {
                    out.bytes(argument.as_bytes());
                }
                out.u32(count(start.env.len()));
                for (name, value) in &start.env {
                    out.bytes(name.as_bytes());
                    out.bytes(value.as_bytes());
                }
                out.path(start.cwd.as_ref());
                out.u32(count(start.groups.len()));
                for group in &start.groups {
                    out.bytes(group.as_os_str().as_bytes());
                }
                out.path(start.temporary.as_ref());
                out.byte(u8::from(start.open_files.is_some()));
                out.u64(start.open_files.unwrap_or_default());
                out.u64(start.core);
            }
            Self::Ease { id } => out.tagged(1, *id),
            Self::Term { id } => out.tagged(2, *id),
            Self::Kill { id } => out.tagged(3, *id),
        }
        out.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> io::Result<Self> {
        let mut input = Reader(record);
        let order = match input.byte()? {
            0 => {
                let mut start =
                    Start { id: input.u64()?, cookie: input.text()?, program: input.text()?, ..Start::default() };
                for _ in 0..input.u32()? {
                    start.args.push(input.text()?);
                }
                for _ in 0..input.u32()? {
                    start.env.push((input.text()?, input.text()?));
                }
                start.cwd = input.path()?;
                for _ in 0..input.u32()? {
                    start.groups.push(input.text()?.into());
                }
                start.temporary = input.path()?;
                let is_limited = input.byte()? == 1;
                start.open_files = Some(input.u64()?).filter(|_| is_limited);
                start.core = input.u64()?;
                Self::Spawn(Box::new(start))
            }
            1 => Self::Ease { id: input.u64()? },
            2 => Self::Term { id: input.u64()? },
            3 => Self::Kill { id: input.u64()? },
            _ => return Err(broken()),
        };
        input.end(order)
    }
}

impl Fact {
    /// The record with its length before it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Hello { version } => {
                out.byte(0);
                out.u32(*version);
            }
            Self::Spawned { id, pid, ungrouped } => {
                out.tagged(1, *id);
                out.u32(*pid);
                out.i32(*ungrouped);
            }
            Self::Refused { id, refusal } => {
                let (tag, errno) = match refusal {
                    Refusal::Folder(errno) => (2, errno),
                    Refusal::Exec(errno) => (3, errno),
                    Refusal::Sandbox(errno) => (7, errno),
                };
                out.tagged(tag, *id);
                out.i32(*errno);
            }
            Self::Exited { id, exit } => {
                let (tag, number) = match exit {
                    Exit::Code(code) => (4, code),
                    Exit::Signal(signal) => (5, signal),
                };
                out.tagged(tag, *id);
                out.i32(*number);
            }
            Self::Released { id, survivors } => {
                out.tagged(6, *id);
                out.u32(*survivors);
            }
        }
        out.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> io::Result<Self> {
        let mut input = Reader(record);
        let fact = match input.byte()? {
            0 => Self::Hello { version: input.u32()? },
            1 => Self::Spawned { id: input.u64()?, pid: input.u32()?, ungrouped: input.i32()? },
            2 => Self::Refused { id: input.u64()?, refusal: Refusal::Folder(input.i32()?) },
            3 => Self::Refused { id: input.u64()?, refusal: Refusal::Exec(input.i32()?) },
            4 => Self::Exited { id: input.u64()?, exit: Exit::Code(input.i32()?) },
            5 => Self::Exited { id: input.u64()?, exit: Exit::Signal(input.i32()?) },
            7 => Self::Refused { id: input.u64()?, refusal: Refusal::Sandbox(input.i32()?) },
            6 => Self::Released { id: input.u64()?, survivors: input.u32()? },
            _ => return Err(broken()),
        };
        input.end(fact)
    }
}

/// Collects a stream and cuts it into records.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Vec<u8>);

impl Inbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole record, without its length. Errors: the length is beyond [`MAX`].
    pub(crate) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((head, rest)) = self.0.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX {
            return Err(broken());
        }
        let Some(record) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.0.drain(..4 + length);
        Ok(Some(record))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![0; 4])
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn tagged(&mut self, tag: u8, id: u64) {
        self.byte(tag);
        self.u64(id);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.u32(count(value.len()));
        self.0.extend_from_slice(value);
    }

    fn path(&mut self, path: Option<&PathBuf>) {
        self.byte(u8::from(path.is_some()));
        if let Some(path) = path {
            self.bytes(path.as_os_str().as_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = count(self.0.len() - 4);
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(broken)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> io::Result<OsString> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(OsString::from_vec(text.to_vec()))
    }

    fn path(&mut self) -> io::Result<Option<PathBuf>> {
        if self.byte()? == 1 { self.text().map(|path| Some(path.into())) } else { Ok(None) }
    }

    fn end<T>(self, value: T) -> io::Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(broken()) }
    }
}

/// A length beyond 4 GiB saturates: its record is beyond [`MAX`] and is never sent.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a broken record between daemon and reaper")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Order {
        Order::Spawn(Box::new(Start {
            id: 7,
            cookie: "1.0.7.math.1".into(),
            program: "sh".into(),
            args: vec!["-c".into(), OsString::from_vec(vec![0xff, 0xfe]), OsString::new()],
            env: vec![("PATH".into(), "/bin".into()), ("EMPTY".into(), OsString::new())],
            cwd: Some("/tmp".into()),
            groups: vec!["/sys/fs/cgroup/a".into(), "/sys/fs/cgroup/b".into()],
            temporary: Some("/tmp/t".into()),
            open_files: Some(64),
            core: u64::MAX,
        }))
    }

    fn body(frame: &[u8]) -> &[u8] {
        &frame[4..]
    }

    #[test]
    fn what_is_said_is_heard() {
        for order in [start(), Order::Ease { id: 1 }, Order::Term { id: 2 }, Order::Kill { id: u64::MAX }] {
            assert_eq!(Order::decode(body(&order.encode())).unwrap(), order);
        }
        for fact in [
            Fact::Hello { version: VERSION },
            Fact::Spawned { id: 1, pid: 4_000_000, ungrouped: 13 },
            Fact::Refused { id: 1, refusal: Refusal::Folder(2) },
            Fact::Refused { id: 1, refusal: Refusal::Exec(13) },
            Fact::Refused { id: 1, refusal: Refusal::Sandbox(1) },
            Fact::Exited { id: 1, exit: Exit::Code(255) },
            Fact::Exited { id: 1, exit: Exit::Signal(37) },
            Fact::Released { id: 1, survivors: 2 },
        ] {
            assert_eq!(Fact::decode(body(&fact.encode())).unwrap(), fact);
        }
    }

    #[test]
    fn a_cut_or_padded_record_is_an_error() {
        let frame = start().encode();
        for end in 4..frame.len() {
            assert!(Order::decode(&frame[4..end]).is_err(), "cut at {end}");
        }
        let mut padded = frame;
        padded.push(0);
        assert!(Order::decode(body(&padded)).is_err());
        assert!(Order::decode(&[9]).is_err());
        assert!(Fact::decode(&[]).is_err());
    }

    #[test]
    fn a_stream_is_cut_into_records_wherever_it_breaks() {
        let stream = [start().encode(), Order::Kill { id: 3 }.encode()].concat();
        let mut inbox = Inbox::default();
        let mut heard = Vec::new();
        for byte in stream {
            inbox.push(&[byte]);
            while let Some(record) = inbox.pop().unwrap() {
                heard.push(Order::decode(&record).unwrap());
            }
        }
        assert_eq!(heard, [start(), Order::Kill { id: 3 }]);
    }

    #[test]
    fn a_record_beyond_the_limit_is_an_error_before_it_is_collected() {
        let mut inbox = Inbox::default();
        inbox.push(&u32::try_from(MAX + 1).unwrap().to_le_bytes());
        assert!(inbox.pop().is_err());
    }
}
