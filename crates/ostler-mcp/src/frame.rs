//! Cuts a stream of bytes into lines, within bounds: no line can make us hold more than the cap and one read.
//!
//! It knows UTF-8 and how deep brackets nest, nothing of JSON-RPC. A line that breaks a bound is skipped to its newline
//! and reported with its first and last bytes, so that `envelope` can say which call it would have answered.

use std::io::BufRead;
use std::ops::Range;

/// How deep arrays and objects may nest.
pub(crate) const MAX_DEPTH: usize = 64;

/// How much is read at once, at most, and how far the buffer can grow beyond the cap.
const READ: usize = 64 << 10;

/// What an idle connection holds at least.
const FIRST_READ: usize = 8 << 10;

/// How much of the beginning of a line is kept that is longer than the cap.
const HEAD: usize = 512;

/// How much of its end: room for an id, which some servers write last.
const TAIL: usize = 128;

/// A line that goes on for this long is no accident.
const RUNAWAY: usize = 64 << 20;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A line that is within all bounds, without its line end. Never blank.
    Line(&'a str),
    /// A line that is not, with what is known of it.
    Broken {
        /// The bound that it breaks.
        flaw: Flaw,
        /// Its first bytes: at most 512 if it is longer than the cap, else all of it.
        head: &'a [u8],
        /// The last bytes of a line that is longer than the cap, at most 128.
        tail: &'a [u8],
    },
}

/// The bound that a line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Longer than the cap.
    Oversize,
    /// Not UTF-8.
    Utf8,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl Flaw {
    /// The label, for metrics.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Utf8 => "utf8",
            Self::Depth => "depth",
        }
    }
}

/// Collects bytes and gives lines.
#[derive(Debug)]
pub(crate) struct Decoder {
    cap: usize,
    buffer: Vec<u8>,
    /// Where the current line begins in the buffer.
    start: usize,
    /// How far the buffer was searched for a newline.
    searched: usize,
    /// The line that is being skipped, if one is.
    skip: Option<Skip>,
    /// The first and the last bytes of the line that is being skipped, or was skipped last.
    head: Vec<u8>,
    tail: Vec<u8>,
    /// How many lines were skipped so far.
    skipped: u64,
}

#[derive(Debug)]
struct Skip {
    bytes: usize,
}

enum Found {
    Line(Range<usize>),
    Oversize,
}

impl Decoder {
    /// A decoder for lines of at most `cap` bytes.
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            cap,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            skip: None,
            head: Vec::new(),
            tail: Vec::new(),
            skipped: 0,
        }
    }

    /// The buffer, with room at its end for the next read.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        let most = self.cap + READ;
        let wanted = (self.buffer.len() + FIRST_READ).max(self.buffer.len() * 2).min(most);
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ {
            self.buffer = Vec::with_capacity(READ);
        } else if self.buffer.capacity() < wanted {
            self.buffer.reserve_exact(wanted - self.buffer.len());
        }
        &mut self.buffer
    }

    /// Gives a buffer that one read has filled more room for the next.
    pub(crate) fn widen(&mut self) {
        if self.buffer.len() == self.buffer.capacity() && self.buffer.capacity() < READ {
            self.buffer.reserve_exact(READ - self.buffer.len());
        }
    }

    /// Whether a line goes on beyond all reason.
    pub(crate) fn has_run_away(&self) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.bytes > RUNAWAY)
    }

    /// The number of the line that is being skipped, if its end has not come yet.
    pub(crate) fn skipping(&self) -> Option<u64> {
        self.skip.as_ref().map(|_| self.skipped)
    }

    /// The next line, if a whole one is there.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        match self.find()? {
            Found::Oversize => Some(Frame::Broken { flaw: Flaw::Oversize, head: &self.head, tail: &self.tail }),
            Found::Line(range) => Some(judge(&self.buffer[range])),
        }
    }

    fn find(&mut self) -> Option<Found> {
        loop {
            let unseen = &self.buffer[self.searched..];
            let newline = newline(unseen);
            match (&mut self.skip, newline) {
                (Some(_), Some(at)) => {
                    extend_tail(&mut self.tail, &unseen[..at]);
                    self.searched += at + 1;
                    self.start = self.searched;
                    self.skip = None;
                    self.skipped += 1;
                    return Some(Found::Oversize);
                }
                (Some(skip), None) => {
                    skip.bytes += unseen.len();
                    extend_tail(&mut self.tail, unseen);
                    self.forget();
                    return None;
                }
                (None, Some(at)) => {
                    let line = self.start..self.searched + at;
                    self.searched += at + 1;
                    self.start = self.searched;
                    if line.len() > self.cap {
                        self.keep_ends(line);
                        return Some(Found::Oversize);
                    }
                    if !self.buffer[line.clone()].trim_ascii().is_empty() {
                        return Some(Found::Line(line));
                    }
                }
                (None, None) => {
                    self.searched = self.buffer.len();
                    let bytes = self.searched - self.start;
                    if bytes > self.cap {
                        self.keep_ends(self.start..self.searched);
                        self.skip = Some(Skip { bytes });
                        self.forget();
                    }
                    return None;
                }
            }
        }
    }

    fn keep_ends(&mut self, line: Range<usize>) {
        // Not more than the cap, so that the head never depends on how the bytes came.
        let end = line.end.min(line.start + HEAD.min(self.cap));
        self.head.clear();
        self.head.extend_from_slice(&self.buffer[line.start..end]);
        self.tail.clear();
        extend_tail(&mut self.tail, &self.buffer[line]);
    }

    fn forget(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.searched = 0;
    }
}

fn judge(line: &[u8]) -> Frame<'_> {
    let head = line.trim_ascii();
    match std::str::from_utf8(head) {
        Err(_) => Frame::Broken { flaw: Flaw::Utf8, head, tail: &[] },
        Ok(_) if is_too_deep(head) => Frame::Broken { flaw: Flaw::Depth, head, tail: &[] },
        Ok(text) => Frame::Line(text),
    }
}

/// Appends to the last bytes of a line; what is no longer among the last is dropped.
fn extend_tail(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(&more[more.len().saturating_sub(TAIL)..]);
    tail.drain(..tail.len().saturating_sub(TAIL));
}

/// Where the first newline is. `BufRead` searches a word at a time, which a loop over the bytes does not.
fn newline(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let passed = rest.skip_until(b'\n').expect("memory can be read");
    passed.checked_sub(1).filter(|&last| bytes[last] == b'\n')
}

/// Whether brackets outside of strings nest deeper than allowed. Exact for JSON; anything else fails later.
fn is_too_deep(line: &[u8]) -> bool {
    // Few brackets at all is the common case, and counting them is cheap.
    if line.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX_DEPTH {
        return false;
    }
    let mut depth = 0usize;
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A broken frame: its flaw, its head and its tail.
    type Broken = (Flaw, Vec<u8>, Vec<u8>);

    /// All frames of a stream that comes in these chunks, as owned.
    fn decode<'a>(cap: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<String, Broken>> {
        let mut decoder = Decoder::new(cap);
        let mut frames = Vec::new();
        for chunk in chunks {
            for part in chunk.chunks(READ) {
                decoder.space().extend_from_slice(part);
                while let Some(frame) = decoder.next_frame() {
                    frames.push(match frame {
                        Frame::Line(text) => Ok(text.to_owned()),
                        Frame::Broken { flaw, head, tail } => Err((flaw, head.to_vec(), tail.to_vec())),
                    });
                }
            }
        }
        frames
    }

    fn nested(depth: usize) -> Vec<u8> {
        [vec![b'['; depth], vec![b']'; depth], vec![b'\n']].concat()
    }

    #[test]
    fn blank_lines_and_carriage_returns_are_nothing() {
        assert_eq!(decode(10, [&b"\n\r\n  \na\r\nb"[..], b"\n"]), [Ok("a".to_owned()), Ok("b".to_owned())]);
    }

    #[test]
    fn the_cap_is_exact() {
        assert_eq!(decode(4, [&b"aaaa\nbbbbb\ncc\n"[..]])[0], Ok("aaaa".to_owned()));
        assert_eq!(
            decode(4, [&b"aaaa\nbbbbb\ncc\n"[..]])[1],
            Err((Flaw::Oversize, b"bbbb".to_vec(), b"bbbbb".to_vec()))
        );
        assert_eq!(decode(4, [&b"aaaa\nbbbbb\ncc\n"[..]])[2], Ok("cc".to_owned()));
    }

    #[test]
    fn depth_is_counted_outside_of_strings_only() {
        assert!(decode(4096, [&*nested(MAX_DEPTH)])[0].is_ok());
        assert!(matches!(decode(4096, [&*nested(MAX_DEPTH + 1)])[0], Err((Flaw::Depth, ..))));
        let text = format!("[\"\\\"{}\"]\n", "[".repeat(100));
        assert_eq!(decode(4096, [text.as_bytes()]), [Ok(text.trim().to_owned())]);
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_first_and_its_last_bytes() {
        let line = [&b"first"[..], &vec![b'x'; 3 * READ], &b"last\n"[..]].concat();
        for cut in [1, 100, READ, line.len() - 1] {
            let frames = decode(1000, [&line[..cut], &line[cut..]]);
            let [Err((Flaw::Oversize, head, tail))] = &frames[..] else { panic!("{} frames", frames.len()) };
            assert_eq!((head.len(), tail.len()), (HEAD, TAIL));
            assert!(head.starts_with(b"first") && tail.ends_with(b"xlast"), "cut at {cut}");
        }
    }

    #[test]
    fn a_short_line_that_is_broken_is_kept_whole() {
        let line = [&[b'x'; 4 * HEAD][..], b"\xff", &[b'y'; HEAD], b"\n"].concat();
        assert_eq!(decode(4096, [&line[..]]), [Err((Flaw::Utf8, line.trim_ascii().to_vec(), Vec::new()))]);
    }

    #[test]
    fn each_line_that_is_skipped_has_its_own_number() {
        let mut decoder = Decoder::new(4);
        let mut feed = |bytes: &[u8]| {
            decoder.space().extend_from_slice(bytes);
            while decoder.next_frame().is_some() {}
            decoder.skipping()
        };
        assert_eq!(
            [&b"a\nb"[..], b"bbbb", b"bb", b"b\ncccccc", b"\n"].map(&mut feed),
            [None, Some(0), Some(0), Some(1), None]
        );
    }

    #[test]
    fn a_line_without_end_holds_the_cap_and_one_read_at_most() {
        let mut decoder = Decoder::new(100_000);
        let chunk = vec![b'x'; READ];
        for _ in 0..(RUNAWAY / READ) {
            assert!(!decoder.has_run_away());
            let space = decoder.space();
            space.extend_from_slice(&chunk[..(space.capacity() - space.len()).min(READ)]);
            assert!(space.capacity() <= 100_000 + READ, "{}", space.capacity());
            assert_eq!(decoder.next_frame(), None);
        }
        for _ in 0..2 * RUNAWAY / READ {
            decoder.space().extend_from_slice(&chunk[..FIRST_READ]);
            assert_eq!(decoder.next_frame(), None);
        }
        assert!(decoder.has_run_away());
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-z{}\\[\\]\"\\\\ äö]{0,30}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>().prop_filter("a line", |byte| *byte != b'\n'), 0..40),
            (60..70usize).prop_map(|depth| vec![b'['; depth]),
        ]
    }

    proptest! {
        #[test]
        fn the_frames_do_not_depend_on_how_the_bytes_arrive(
            lines in prop::collection::vec(line(), 0..12),
            cuts in prop::collection::vec(1..30usize, 1..40),
            cap in 10..80usize,
        ) {
            let stream: Vec<u8> = lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(decode(cap, chunks), decode(cap, [&stream[..]]));
        }
    }
}
