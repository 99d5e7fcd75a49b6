//! Server-sent events, read from chunks of any size: the events do not depend on where the chunks are cut.
//!
//! Format: WHATWG HTML, section 9.2.6. Only `event` and `data` are read; ids, retry hints and comments are skipped.

/// The largest event, in bytes, names included.
pub(super) const MAX_EVENT: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty if the stream gave none.
    pub(super) name: String,
    /// Its data, lines joined by newlines.
    pub(super) data: String,
}

/// An event is larger than [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {MAX_EVENT} bytes")]
pub(super) struct TooLarge;

/// The reader. An event that the stream does not finish is never given out.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_return: bool,
    past_first_line: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes in a chunk and returns the events that it completes. After an error the stream is worth nothing.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &byte in chunk {
            let joined = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if joined => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => {
                    if self.line.len() + self.event.data.len() + self.event.name.len() >= MAX_EVENT {
                        return Err(TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let mut text = &*text;
        if !self.past_first_line {
            self.past_first_line = true;
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn the_fields_of_an_event_are_read() {
        let check = |stream: &str, expected: &[Event]| {
            assert_eq!(Parser::default().push(stream.as_bytes()).expect("small"), expected, "{stream:?}");
        };
        check("event: a\ndata: 1\n\n", &[event("a", "1")]);
        check("event:a\r\ndata:1\r\n\r\n", &[event("a", "1")]);
        check("data: 1\rdata: 2\r\r", &[event("", "1\n2")]);
        check("data:  x\n\n", &[event("", " x")]);
        check("\u{feff}data: x\n\n", &[event("", "x")]);
        check(": comment\nid: 7\nretry: 1\nodd\ndata\n\n", &[event("", "")]);
        check("event: a\n\ndata: 1\n\n", &[event("", "1")]);
        check("data: 1\n", &[]);
        check("data: 1\n\ndata: 2", &[event("", "1")]);
    }

    #[test]
    fn an_event_has_a_limit_however_it_is_made_up() {
        let mut long_line = Parser::default();
        assert_eq!(long_line.push(&vec![b'x'; MAX_EVENT + 1]), Err(TooLarge));
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        let mut many_lines = Parser::default();
        let results: Vec<_> = (0..5).map(|_| many_lines.push(line.as_bytes()).is_err()).collect();
        assert_eq!(results, [false, false, false, true, true]);
        let mut small = Parser::default();
        for _ in 0..5 {
            small.push(line.as_bytes()).expect("a small event");
            small.push(b"\n").expect("its end");
        }
    }

    proptest! {
        #[test]
        fn where_the_chunks_are_cut_does_not_matter(
            stream in "(data: ?[aé€😀]{0,3}|event: b|:c|\u{feff}|x)?(\r|\n|\r\n){1,3}(data:[a:]{0,3}(\n|\r|\r\n){1,2}){0,4}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = stream.as_bytes();
            let whole = Parser::default().push(bytes).expect("small");
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.sort_unstable();
            let mut parser = Parser::default();
            let mut pieces = Vec::new();
            let mut start = 0;
            for end in places.into_iter().chain([bytes.len()]) {
                pieces.extend(parser.push(&bytes[start..end]).expect("small"));
                start = end;
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
