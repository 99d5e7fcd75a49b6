//! Texts with `{captures}`: matched against a prompt, or filled in with what was captured.
//!
//! `{name}` takes as little as it can, one character at least; `{name:number}` takes a number only. Case, runs of
//! white space, the shape of quotes and the punctuation at the end do not matter for a match. `{{` and `}}` are braces.

use std::collections::{BTreeMap, HashSet};

/// How much of a prompt is matched, in characters.
const MAX_PROMPT: usize = 1_024;

/// A text with references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Reference { name: String, kind: Kind },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

/// What the references stand for.
pub(super) type Bindings = BTreeMap<String, String>;

impl Template {
    /// Reads a template. Errors: what is wrong with its braces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let end = if brace == "{" { rest.find('}') } else { None };
            let Some(end) = end else { return Err(format!("a single '{brace}' in {text:?}; write it twice")) };
            let (name, kind) = rest[..end].split_once(':').unwrap_or((&rest[..end], "text"));
            let kind = match kind {
                "text" => Kind::Text,
                "number" => Kind::Number,
                other => return Err(format!("'{other}' in {text:?} is no kind of capture; there is 'number'")),
            };
            if !is_name(name) {
                return Err(format!("'{name}' in {text:?} is no name: use a-z, 0-9 and '_'"));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Reference { name: name.to_owned(), kind });
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// The names that it refers to, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Reference { name, .. } => Some(name.as_str()),
        })
    }

    /// The name, if it is exactly one reference and nothing else.
    pub(super) fn only_reference(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Reference { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// The text with every reference replaced. One without a value stays as it was written.
    pub(super) fn fill(&self, values: &Bindings) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Reference { name, .. } => values.get(name).cloned().unwrap_or_else(|| format!("{{{name}}}")),
        };
        self.0.iter().map(text).collect()
    }

    /// The template as a person would write an example of it.
    pub(super) fn shown(&self) -> String {
        self.fill(&Bindings::new())
    }

    /// Matches a whole prompt and returns the captures.
    pub(super) fn matches(&self, prompt: &str) -> Option<Bindings> {
        let prompt = folded(prompt);
        let bare = prompt.trim_end_matches(['.', '?', '!', ' ']);
        // A text that is captured last keeps its punctuation, unless the pattern has some after it.
        let as_it_is = || self.match_exactly(&prompt);
        match self.0.last() {
            Some(Piece::Reference { .. }) => as_it_is().or_else(|| self.match_exactly(bare)),
            Some(Piece::Literal(_)) | None => self.match_exactly(bare),
        }
    }

    fn match_exactly(&self, prompt: &str) -> Option<Bindings> {
        let text: Vec<char> = prompt.chars().take(MAX_PROMPT + 1).collect();
        if text.len() > MAX_PROMPT {
            return None;
        }
        let last = self.0.len().saturating_sub(1);
        let pieces: Vec<Part<'_>> = self
            .0
            .iter()
            .enumerate()
            .map(|(index, piece)| match piece {
                Piece::Literal(literal) => Part::Literal(literal_chars(literal, index == 0, index == last)),
                Piece::Reference { name, kind } => Part::Capture(name, *kind),
            })
            .collect();
        let mut search = Search { text: &text, pieces: &pieces, dead_ends: HashSet::new(), ends: Vec::new() };
        if !search.run(0, 0) {
            return None;
        }
        let mut captures = Bindings::new();
        let mut start = 0;
        for (part, end) in pieces.iter().zip(search.ends) {
            if let Part::Capture(name, _) = part {
                let captured: String = text[start..end].iter().collect();
                captures.insert((*name).to_owned(), captured.trim().to_owned());
            }
            start = end;
        }
        Some(captures)
    }
}

/// A piece of a pattern, ready to be compared.
enum Part<'a> {
    Literal(Vec<char>),
    Capture(&'a str, Kind),
}

/// A search with backtracking that remembers its dead ends, so that its cost is pieces x length x length at most.
struct Search<'a> {
    text: &'a [char],
    pieces: &'a [Part<'a>],
    dead_ends: HashSet<(usize, usize)>,
    /// Where each matched piece ends.
    ends: Vec<usize>,
}

impl Search<'_> {
    fn run(&mut self, piece: usize, start: usize) -> bool {
        if piece == self.pieces.len() {
            return start == self.text.len();
        }
        if self.dead_ends.contains(&(piece, start)) {
            return false;
        }
        let rest = &self.text[start..];
        let candidates: Vec<usize> = match &self.pieces[piece] {
            Part::Literal(literal) => {
                let hit = rest.len() >= literal.len() && rest.iter().zip(literal).all(|(a, b)| alike(*a, *b));
                if hit { vec![literal.len()] } else { Vec::new() }
            }
            Part::Capture(_, Kind::Text) => (1..=rest.len()).collect(),
            Part::Capture(_, Kind::Number) => {
                let longest = rest.iter().take_while(|c| c.is_ascii_digit() || "+-.eE".contains(**c)).count();
                (1..=longest).rev().filter(|length| is_number(&rest[..*length].iter().collect::<String>())).collect()
            }
        };
        for length in candidates {
            self.ends.push(start + length);
            if self.run(piece + 1, start + length) {
                return true;
            }
            self.ends.pop();
        }
        self.dead_ends.insert((piece, start));
        false
    }
}

/// Whether a text reads as a finite number.
pub(super) fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digit = |c: char| c.is_ascii_digit();
    body.starts_with(digit) && body.ends_with(digit) && body.parse::<f64>().is_ok_and(f64::is_finite)
}

pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A literal with its white space folded; a space at the pattern's own ends, and its last punctuation, is dropped.
fn literal_chars(literal: &str, first: bool, last: bool) -> Vec<char> {
    let mut text = folded(literal);
    if literal.starts_with(char::is_whitespace) && !first {
        text.insert(0, ' ');
    }
    if last {
        text.truncate(text.trim_end_matches(['.', '?', '!', ' ']).len());
    } else if literal.ends_with(char::is_whitespace) && !text.ends_with(' ') {
        text.push(' ');
    }
    text.chars().collect()
}

fn alike(left: char, right: char) -> bool {
    plain(left).to_lowercase().eq(plain(right).to_lowercase())
}

fn plain(character: char) -> char {
    match character {
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matched(pattern: &str, prompt: &str) -> Option<Vec<(String, String)>> {
        Some(Template::parse(pattern).expect("a template").matches(prompt)?.into_iter().collect())
    }

    #[test]
    fn a_pattern_matches_what_a_person_would_call_the_same() {
        let check = |pattern: &str, prompt: &str, expected: Option<&[(&str, &str)]>| {
            let expected = expected
                .map(|pairs| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
            assert_eq!(matched(pattern, prompt), expected, "{pattern:?} {prompt:?}");
        };
        let both: &[(&str, &str)] = &[("a", "2"), ("b", "3")];
        check("Add {a} and {b}", "Add 2 and 3", Some(both));
        check("Add {a} and {b}", "  add 2\n AND  3 ", Some(both));
        check("Add {a} and {b}.", "Add 2 and 3.", Some(both));
        check("Add {a} and {b}.", "add 2 and 3", Some(both));
        check("Add {a} and {b}", "add 2 and ", None);
        check("Add {a} and {b}", "please add 2 and 3", None);
        check("Say {what}", "say Hello and BYE!", Some(&[("what", "Hello and BYE!")]));
        check("under '{key}'?", "UNDER ‘Magic’?", Some(&[("key", "Magic")]));
        check("{a} and {b}", "x and y and z", Some(&[("a", "x"), ("b", "y and z")]));
        check("Add {a:number} and {b:number}", "add -2.5 and 3e2", Some(&[("a", "-2.5"), ("b", "3e2")]));
        check("Add {a:number} and {b:number}", "add 2 and 3.", Some(both));
        check("Add {a:number} and {b:number}", "add 2 and 3 and multiply 4 by 5", None);
        check("Add {a:number} and {b:number}", "add two and 3", None);
        check("{{x}} {a}", "{x} 1", Some(&[("a", "1")]));
    }

    #[test]
    fn bad_braces_are_named() {
        let check = |text: &str, part: &str| {
            let error = Template::parse(text).expect_err("refused");
            assert!(error.contains(part), "{error}");
        };
        check("a {b", "single '{'");
        check("a } b", "single '}'");
        check("{a b}", "no name");
        check("{}", "no name");
        check("{a:float}", "no kind");
    }

    #[test]
    fn a_long_prompt_cannot_make_the_match_slow() {
        let pattern = "{a}x{b}x{c}x{d}x{e}y";
        assert_eq!(matched(pattern, &"x".repeat(MAX_PROMPT)), None);
    }

    proptest! {
        #[test]
        fn filling_in_what_was_captured_gives_the_prompt(a in "[a-w]{1,5}", b in "[0-9]{1,4}", c in "[a-z ]{0,3}[a-z]") {
            let template = Template::parse("{a} x {b:number} then {c}").expect("a template");
            let c = folded(&c);
            let prompt = format!("{a} x {b} then {c}");
            let captures = template.matches(&prompt).expect("it matches");
            prop_assert_eq!(template.fill(&captures), prompt);
        }
    }
}
