//! The ring of a child's last lines: bounded in bytes and, while a child floods, in lines a second. Pure.
//!
//! Every line is counted and the newest are always there. Of a flood only some lines are kept, which their numbers show.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::StderrLine;
use super::redact::Redactor;

/// How many bytes of finished lines are kept.
const RING: usize = 64 * 1024;
/// How many of them are kept, however short: an empty one takes room, too.
const LINES: usize = 4096;
/// Where a line is cut.
pub(super) const LINE: usize = 8 * 1024;
/// How much [`Ring::tail`] returns at most, and how much of the newest waits, raw, while a child floods.
pub(super) const TAIL: usize = 4 * 1024;
/// How many lines are kept a second, in the long run.
const RATE: f64 = 500.0;
/// How many are kept at once.
const BURST: f64 = 2000.0;

#[derive(Default)]
pub(super) struct Ring {
    lines: VecDeque<StderrLine>,
    bytes: usize,
    count: u64,
    /// Finished lines that wait for their turn, raw. What goes beyond [`TAIL`] is dropped, oldest first.
    waiting: VecDeque<(u64, Vec<u8>)>,
    waiting_bytes: usize,
    dropped: u64,
    bucket: Bucket,
    /// The line that is not finished yet, raw, at most [`LINE`] bytes.
    open: Vec<u8>,
    redactor: Redactor,
}

impl Ring {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { redactor, ..Self::default() }
    }

    pub(super) fn push(&mut self, mut chunk: &[u8], now: Instant) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.extend(&chunk[..end]);
            self.finish(now);
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk);
    }

    /// How many lines were finished.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them were dropped unread.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of the newest line that is kept.
    pub(super) fn newest(&self) -> u64 {
        self.lines.back().map_or(0, |line| line.number)
    }

    /// When the next waiting line has its turn.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.waiting.is_empty() { None } else { self.bucket.due() }
    }

    /// Keeps the waiting lines whose turn it is.
    pub(super) fn settle(&mut self, now: Instant) {
        while !self.waiting.is_empty() && self.bucket.take(now) {
            self.keep_oldest();
        }
    }

    /// There will be no more: what waits is kept, and the open line is one.
    pub(super) fn close(&mut self) {
        while !self.waiting.is_empty() {
            self.keep_oldest();
        }
        if !self.open.is_empty() {
            let text = self.redactor.redact_cut(clean(&std::mem::take(&mut self.open)));
            self.keep(self.count + 1, text);
        }
    }

    /// The kept lines behind the one with the number `seen`.
    pub(super) fn since(&self, seen: u64) -> Vec<StderrLine> {
        let start = self.lines.partition_point(|line| line.number <= seen);
        self.lines.range(start..).cloned().collect()
    }

    /// What goes beyond the cut is dropped.
    fn extend(&mut self, part: &[u8]) {
        let room = LINE - self.open.len();
        self.open.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn finish(&mut self, now: Instant) {
        self.count += 1;
        let line = std::mem::take(&mut self.open);
        self.waiting_bytes += line.len() + 1;
        self.waiting.push_back((self.count, line));
        self.settle(now);
        while self.waiting_bytes > TAIL && self.waiting.len() > 1 {
            let Some((_, oldest)) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.len() + 1;
            self.dropped += 1;
        }
    }

    fn keep_oldest(&mut self) {
        let Some((number, line)) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= line.len() + 1;
        self.keep(number, self.readable(&line));
    }

    fn keep(&mut self, number: u64, text: String) {
        self.bytes += text.len() + 1;
        self.lines.push_back(StderrLine { number, text });
        while self.bytes > RING || self.lines.len() > LINES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len() + 1;
        }
    }

    /// A finished line, clean and without secrets.
    fn readable(&self, raw: &[u8]) -> String {
        let text = clean(raw);
        let is_cut = raw.len() == LINE || text.len() > LINE - char::MAX_LEN_UTF8;
        if is_cut { self.redactor.redact_cut(text) } else { self.redactor.redact(text) }
    }

    pub(super) fn tail(&self) -> String {
        let newest: Vec<String> = std::iter::once(self.redactor.redact_cut(clean(&self.open)))
            .chain(self.waiting.iter().rev().map(|(_, line)| self.readable(line)))
            .collect();
        let mut kept: Vec<&str> = Vec::new();
        let mut room = TAIL;
        let newest_first =
            newest.iter().map(String::as_str).chain(self.lines.iter().rev().map(|line| line.text.as_str()));
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

/// Counts out turns: [`RATE`] a second, [`BURST`] at once.
#[derive(Default)]
struct Bucket {
    /// How many turns are used up, and when that was true.
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.used = (self.used - elapsed.as_secs_f64() * RATE).max(0.0);
        let is_free = self.used + 1.0 <= BURST;
        if is_free {
            self.used += 1.0;
        }
        is_free
    }

    fn due(&self) -> Option<Instant> {
        Some(self.at? + Duration::from_secs_f64((self.used + 1.0 - BURST).max(0.0) / RATE))
    }
}

/// Makes text of raw bytes: invalid UTF-8 replaced, terminal sequences and control characters removed, tabs as spaces.
pub(super) fn clean(raw: &[u8]) -> String {
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

    fn now() -> Instant {
        crate::clock::now()
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
        let mut now = now();
        for number in 0..20_000 {
            ring.push(format!("line {number}\n").as_bytes(), now);
            now += Duration::from_millis(2);
        }
        assert_eq!((ring.count, ring.dropped), (20_000, 0));
        assert!(ring.bytes <= RING);
        assert!(ring.tail().ends_with("line 19998\nline 19999"));
        assert!(ring.tail().len() <= TAIL);
    }

    #[test]
    fn a_line_without_end_takes_bounded_room() {
        let mut ring = Ring::default();
        for _ in 0..100 {
            ring.push(&[b'x'; 4096], now());
        }
        assert_eq!(ring.open.len(), LINE);
        assert_eq!(ring.tail(), "x".repeat(TAIL));
        ring.push(b"\nnext", now());
        assert_eq!(ring.tail(), "next");
        assert_eq!(ring.count, 1);
    }

    #[test]
    fn invalid_bytes_do_not_grow_a_line_beyond_its_cut() {
        let mut ring = Ring::default();
        ring.push(&[0xff; LINE], now());
        ring.push(b"\n", now());
        assert!(ring.bytes <= LINE + 1);
    }

    #[test]
    fn of_a_flood_the_burst_the_rate_and_the_newest_are_kept_and_the_rest_is_counted() {
        let mut ring = Ring::default();
        let start = now();
        let line = |number: u64| format!("{number:7}\n");
        let flood = |ring: &mut Ring, from: u64, to: u64, now: Instant| {
            (from..=to).for_each(|number| ring.push(line(number).as_bytes(), now));
        };
        flood(&mut ring, 1, 10_000, start);
        assert_eq!(ring.newest(), 2000);
        // Eight bytes a line: the newest four KiB wait.
        assert_eq!((ring.count, ring.waiting.len(), ring.dropped), (10_000, 512, 7488));
        assert!(ring.tail().ends_with("  9999\n  10000"), "{}", ring.tail());
        // A second later as many more as the rate allows have had their turn, whoever asks.
        let later = start + Duration::from_secs(1);
        flood(&mut ring, 10_001, 10_001, later);
        assert_eq!((ring.waiting.len(), ring.newest()), (13, 9988));
        ring.settle(later + Duration::from_secs(1));
        assert_eq!((ring.due(), ring.newest(), ring.dropped), (None, 10_001, 7488));
        let kept = ring.since(2000);
        assert_eq!((kept[0].number, kept[0].text.trim(), kept.len()), (9489, "9489", 513));
    }

    #[test]
    fn short_lines_are_counted_too() {
        let mut ring = Ring::default();
        let mut now = now();
        for _ in 0..20_000 {
            ring.push(b"\n", now);
            now += Duration::from_millis(2);
        }
        assert_eq!((ring.lines.len(), ring.newest(), ring.dropped), (LINES, 20_000, 0));
    }

    #[test]
    fn secrets_are_nowhere_in_the_ring() {
        let secret = ostler_core::secret::Secret::new("hunter2-hunter2");
        let mut ring = Ring::new(Redactor::new(std::slice::from_ref(&secret)));
        let now = now();
        // Written in two pieces, coloured in the middle, then into the cut, then not to its end.
        ring.push(b"a=hunter2", now);
        assert_eq!(ring.tail(), "a=***");
        ring.push(b"-hunter2\nb=hunter2\x1b[1m-hunter2;\n", now);
        assert_eq!(ring.tail(), "a=***\nb=***;");
        ring.push(&[&[b'.'; LINE - 8], secret.expose().as_bytes(), b"\nc=hunter2-hun"].concat(), now);
        ring.close();
        let kept: Vec<String> = ring.since(0).into_iter().map(|line| line.text).collect();
        assert_eq!(kept, ["a=***", "b=***;", &format!("{}***", ".".repeat(LINE - 8)), "c=***"]);
        // What waits for its turn in a flood is shown, too.
        (0..5000).for_each(|_| ring.push(b"hunter2-hunter2\n", now));
        assert!(!ring.waiting.is_empty() && !ring.tail().contains("hunter2"), "{}", ring.tail());
    }

    #[test]
    fn the_end_keeps_what_waits_and_what_is_open() {
        let mut ring = Ring::default();
        let now = now();
        (0..3000).for_each(|_| ring.push(b"x\n", now));
        ring.push(b"last words", now);
        assert_eq!(ring.newest(), 2000);
        ring.close();
        assert_eq!(ring.since(2999).iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["x", "last words"]);
        assert_eq!((ring.count, ring.due()), (3000, None));
        assert!(ring.tail().ends_with("x\nlast words"));
    }
}
