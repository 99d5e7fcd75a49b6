//! Blots out configured secrets in the lines of a standard error, where a server may well print its own environment. Pure.
//!
//! Finds a secret as it was configured, not in another encoding.

use std::sync::Arc;

use ostler_core::secret::Secret;

use super::ring::clean;

/// What is too short to be told from other words is left alone.
const SHORTEST: usize = 6;
/// From how many bytes on the beginning of a secret, before a cut, is blotted out.
const BEGINNING: usize = 4;
/// What is shown instead.
const BLOT: &str = "***";

/// The texts to blot out. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Arc<[String]>);

impl Redactor {
    /// A secret of several lines is one of each: lines are all that is ever seen.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let lines = secrets.iter().flat_map(|secret| secret.expose().lines());
        let texts = lines.map(|line| clean(line.as_bytes()).trim().to_owned());
        Self(texts.filter(|text| text.chars().count() >= SHORTEST).collect())
    }

    /// Blots out what is whole in `line`.
    pub(super) fn redact(&self, line: String) -> String {
        let found = self.find(&line);
        blot(line, found)
    }

    /// The same of a line of which the rest is missing; a secret may have begun at its end.
    pub(super) fn redact_cut(&self, line: String) -> String {
        let mut found = self.find(&line);
        found.extend(self.0.iter().filter_map(|text| beginning(&line, text)).map(|start| (start, line.len())));
        blot(line, found)
    }

    fn find(&self, line: &str) -> Vec<(usize, usize)> {
        let places = |text: &'_ String| -> Vec<_> {
            line.match_indices(text.as_str()).map(|(start, _)| (start, start + text.len())).collect()
        };
        self.0.iter().flat_map(places).collect()
    }
}

fn blot(line: String, mut found: Vec<(usize, usize)>) -> String {
    if found.is_empty() {
        return line;
    }
    found.sort_unstable();
    let (mut redacted, mut seen) = (String::with_capacity(line.len()), 0);
    for (start, end) in found {
        // What overlaps is one blot.
        if start >= seen {
            redacted.push_str(&line[seen..start]);
            redacted.push_str(BLOT);
        }
        seen = seen.max(end);
    }
    redacted.push_str(&line[seen..]);
    redacted
}

/// Where the line ends with a beginning of `text`. The cut may have gone through a character.
fn beginning(line: &str, text: &str) -> Option<usize> {
    let line = line.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let lengths = text.char_indices().rev().map(|(index, _)| index).filter(|length| *length >= BEGINNING);
    let mut beginnings = lengths.map(|length| &text[..length]);
    beginnings.find(|part| line.ends_with(part)).map(|part| line.len() - part.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_out_wherever_they_stand() {
        let secrets = [
            "hunter2!",
            "12345",
            "caf\u{e9}-\u{e9}t\u{e9}",
            "key-line-one\nkey-line-two\n",
            "hunter2!hunter",
            "a\tb\tc\td",
        ];
        let redactor = Redactor::new(&secrets.map(Secret::new));
        let check = |line: &str, expected: &str| assert_eq!(redactor.redact(line.to_owned()), expected, "{line}");
        check("nothing to see", "nothing to see");
        check("", "");
        check("hunter2!", "***");
        check("TOKEN=hunter2!, again hunter2!.", "TOKEN=***, again ***.");
        check("hunter2!hunter and hunter2!hunter2!", "*** and ***");
        check("the short 12345 stays", "the short 12345 stays");
        check("un caf\u{e9}-\u{e9}t\u{e9}!", "un ***!");
        check("key-line-two", "***");
        check("a b c d", "***");
    }

    #[test]
    fn a_secret_that_a_cut_went_through_is_blotted_out_too() {
        let redactor = Redactor::new(&[Secret::new("caf\u{e9}-\u{e9}t\u{e9}"), Secret::new("hunter2!")]);
        let check = |line: &str, expected: &str| assert_eq!(redactor.redact_cut(line.to_owned()), expected, "{line}");
        assert_eq!(redactor.redact("TOKEN=hunt".to_owned()), "TOKEN=hunt");
        check("hunter2! and hunter2!", "*** and ***");
        check("TOKEN=hunt", "TOKEN=***");
        check("TOKEN=hunter2", "TOKEN=***");
        check("a hunter", "a ***");
        check("hunters", "hunters");
        check("on the hun", "on the hun");
        check("caf\u{e9}-\u{fffd}", "***");
        check("caf\u{e9}", "***");
    }
}
