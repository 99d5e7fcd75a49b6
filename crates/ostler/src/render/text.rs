//! Words of others made harmless, and durations made readable.

/// Replaces what could move a terminal's cursor, colour its screen or turn its text around.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// The text on one line, clean, cut to `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    // Cut before the words are collected: a tool may answer with megabytes.
    let head: String = text.chars().take(limit * 4).collect();
    let mut line = clean(&head.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.chars().count() > limit || head.len() < text.len() {
        line = line.chars().take(limit.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(c, '\n' | '\t') || !(c.is_control() || turns)
}

/// Milliseconds for people: `41 ms`, `2.1 s`, `3 m 12 s`, `5 h 2 m`, `3 d 4 h`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_never_reaches_a_terminal() {
        assert_eq!(clean("a\x1b[31mb\r\u{202e}c\td\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c\td\n");
    }

    #[test]
    fn a_long_text_becomes_one_short_line() {
        assert_eq!(one_line("a\n  b\tc", 10), "a b c");
        assert_eq!(one_line("0123456789", 10), "0123456789");
        assert_eq!(one_line("0123456789x", 10), "012345678…");
        assert_eq!(one_line(&format!("a{}", " ".repeat(100)), 10), "a…");
    }

    #[test]
    fn a_span_has_at_most_two_units() {
        let check = |ms, expected| assert_eq!(span(ms), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(2_149, "2.1 s");
        check(192_000, "3 m 12 s");
        check(18_120_000, "5 h 2 m");
        check(273_600_000, "3 d 4 h");
    }
}
