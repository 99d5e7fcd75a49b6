//! Words of others made harmless.

pub(crate) use crate::http::words::{count, span};

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
}
