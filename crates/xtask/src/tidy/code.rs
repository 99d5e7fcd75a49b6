//! Tells code from comments and literals in Rust source, well enough to look for words.
//!
//! Not a parser: it knows comments, strings, raw strings and characters, and nothing else.

/// The source with every comment and literal blanked out. Lines keep their numbers.
pub(super) fn without_comments_and_literals(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped =
            comment(rest).or_else(|| raw_string(rest, &code)).or_else(|| string(rest)).or_else(|| character(rest));
        if let Some(length) = skipped {
            code.push(' ');
            code.extend(rest[..length].chars().filter(|&character| character == '\n'));
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of the comment that `rest` starts with. Block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut place = 0;
    while place < rest.len() {
        let here = &rest.as_bytes()[place..];
        if here.starts_with(b"/*") {
            depth += 1;
            place += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return Some(place);
            }
        } else {
            place += 1;
        }
    }
    Some(rest.len())
}

/// The length of the raw string that `rest` starts with, if `before` does not end within a word.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    if before.ends_with(|last: char| last.is_alphanumeric() || last == '_') && !before.ends_with(['b', 'c']) {
        return None;
    }
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |place| place + end.len());
    Some(1 + hashes + 1 + length)
}

/// The length of the plain string that `rest` starts with.
fn string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('"')?;
    let mut is_escaped = false;
    for (place, character) in body.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(place + 2),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The length of the character literal that `rest` starts with; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let mut characters = body.char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        let (_, _) = characters.next()?;
        return characters.find(|(_, character)| *character == '\'').map(|(place, _)| place + 2);
    }
    let (place, second) = characters.next()?;
    (second == '\'').then_some(place + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_vanish_and_code_stays() {
        let check = |source: &str, expected: &str| {
            let code = without_comments_and_literals(source);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source:?}");
            let breaks = |text: &str| text.matches('\n').count();
            assert_eq!(breaks(&code), breaks(source), "{source:?}");
        };
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"f("x \" y", z)"#, "f( , z)");
        check(r##"f(r#"x " y"#, z)"##, "f( , z)");
        check("f(r\"\\\", z)", "f( , z)");
        check("f(b\"x\", b'y', '\\'', '\"', 'z')", "f(b , b , , , )");
        check("fn f<'a>(x: &'a str) -> &'static str {}", "fn f<'a>(x: &'a str) -> &'static str {}");
        check("'\\u{1b}' a", "a");
        check("bar\"x\"", "bar");
        check("let r#type = 1; \"a\nb\"", "let r#type = 1;");
    }
}
