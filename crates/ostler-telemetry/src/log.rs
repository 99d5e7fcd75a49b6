//! Makes foreign text fit for a terminal, a log and a label: control characters out, length cut.
//!
//! What a server, a model or a child's standard error says is data. It must not move a cursor, forge a line of our
//! log or turn the direction of the text after it. Redaction of secrets is not done here: they never come this far.

/// What stands for the part that was cut.
const CUT: &str = "…";

/// One clean line of at most `max` bytes: line breaks and tabs become single spaces.
pub fn line(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    for character in visible(text) {
        if character.is_whitespace() {
            if !clean.is_empty() && !clean.ends_with(' ') {
                clean.push(' ');
            }
        } else {
            clean.push(character);
        }
        if clean.len() > max {
            break;
        }
    }
    clean.truncate(clean.trim_end().len());
    cut(clean, max)
}

/// Clean text of at most `max` bytes that keeps its line breaks and tabs. What is too long loses its end.
pub fn text(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    for character in visible(text) {
        clean.push(character);
        if clean.len() > max {
            break;
        }
    }
    cut(clean, max)
}

/// Clean text of at most `max` bytes that keeps its line breaks and tabs. What is too long loses its beginning.
pub fn tail(text: &str, max: usize) -> String {
    let clean: String = visible(text).collect();
    if clean.len() <= max {
        return clean;
    }
    if max < CUT.len() {
        return String::new();
    }
    let mut start = clean.len() - (max - CUT.len());
    while !clean.is_char_boundary(start) {
        start += 1;
    }
    format!("{CUT}{}", &clean[start..])
}

fn cut(mut clean: String, max: usize) -> String {
    if clean.len() <= max {
        return clean;
    }
    let mut end = max.saturating_sub(CUT.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    if max >= CUT.len() {
        clean.push_str(CUT);
    }
    clean
}

/// The characters of `text` that a reader may see, line breaks and tabs among them; escape sequences are left out whole.
fn visible(text: &str) -> impl Iterator<Item = char> {
    let mut escape = Escape::Outside;
    text.chars().filter(move |&character| {
        let (next, shown) = escape.step(character);
        escape = next;
        shown && is_visible(character)
    })
}

/// Where a reader of ECMA-48 escape sequences stands.
#[derive(Clone, Copy)]
enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// Within a control sequence, until its final byte.
    Control,
    /// Within a string (title, link), until BEL or ESC `\`.
    Text,
}

impl Escape {
    /// Reads one character. Returns where the reader stands then and whether the character belongs to the text.
    fn step(self, character: char) -> (Self, bool) {
        match character {
            '\u{1b}' => return (Self::Begun, false),
            '\u{9b}' => return (Self::Control, false),
            // A sequence that a line break interrupts is broken: the text after it is text again.
            '\n' => return (Self::Outside, true),
            _ => {}
        }
        let next = match self {
            Self::Outside => return (Self::Outside, true),
            Self::Begun => match character {
                '[' => Self::Control,
                ']' | 'P' | 'X' | '^' | '_' => Self::Text,
                ' '..='/' => Self::Begun,
                _ => Self::Outside,
            },
            Self::Control if matches!(character, ' '..='?') => Self::Control,
            Self::Text if !matches!(character, '\u{7}' | '\u{9c}') => Self::Text,
            Self::Control | Self::Text => Self::Outside,
        };
        (next, false)
    }
}

fn is_visible(character: char) -> bool {
    matches!(character, '\n' | '\t') || !(character.is_control() || is_hidden(character))
}

/// Marks that turn the direction of text, and characters without width that hide in names.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_no_breaks() {
        let check = |text: &str, expected: &str| assert_eq!(line(text, 80), expected, "{text:?}");
        check("plain", "plain");
        check("  two\r\n\tlines \n", "two lines");
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("\u{9b}2Jgone", "gone");
        check("\u{1b}]0;title\u{7}after", "after");
        check("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link");
        check("\u{1b}(Bascii", "ascii");
        check("a\u{0}b\u{7}c\u{7f}d\u{85}e", "abcde");
        check("user\u{202e}gnp.exe\u{2066}x", "usergnp.exex");
        check("na\u{200b}me\u{feff}\u{e0041}", "name");
        check("broken \u{1b}]0;title\nnext", "broken next");
        check("grüße 世界", "grüße 世界");
    }

    #[test]
    fn text_keeps_its_lines() {
        assert_eq!(text("a\n\tb\u{1b}[1mc\r\n", 80), "a\n\tbc\n");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_says_so() {
        assert_eq!(line("abcdefgh", 8), "abcdefgh");
        assert_eq!(line("abcdefghi", 8), "abcde…");
        assert_eq!(text("üüüüü", 8), "üü…");
        assert_eq!(tail("abcdefghi", 8), "…efghi");
        assert_eq!(tail("üüüüü", 8), "…üü");
        for max in 0..12 {
            for cut in [line("aübücüdü", max), text("aübücüdü", max), tail("aübücüdü", max)] {
                assert!(cut.len() <= max, "{cut:?} is longer than {max}");
            }
        }
    }
}
