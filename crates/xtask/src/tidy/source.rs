//! What files must and must not hold.

use std::collections::BTreeSet;

use super::Violation;
use super::code::without_comments_and_literals;

/// The most lines that a file of Rust may have.
const LONGEST: usize = 500;

/// The most lines that an entry of the decisions may have, its title among them.
const LONGEST_DECISION: usize = 15;

/// A word that code must not hold.
struct Banned {
    word: &'static str,
    why: &'static str,
    /// Where it is at home: paths that start or end with one of these may use it; [`TESTS`] stands for all tests.
    home: &'static [&'static str],
}

const BANNED: &[Banned] = &[
    Banned { word: "todo!", why: "what is not there is not written down as code", home: &[] },
    Banned { word: "unimplemented!", why: "what is not there is not written down as code", home: &[] },
    Banned { word: "#[ignore", why: "a test that does not run is no test", home: &[] },
    Banned { word: "thread::sleep", why: "wait for an event, or for tokio's clock", home: &[] },
    Banned { word: "#[allow", why: "use #[expect(lint, reason = \"...\")]", home: &[] },
    Banned { word: "#![allow", why: "use #![expect(lint, reason = \"...\")]", home: &[] },
    Banned { word: "tokio::time::Instant::now", why: "use clock::now()", home: &["/clock.rs", TESTS] },
    Banned { word: "where_is(", why: "actors are found by handles, never by name", home: &[] },
    Banned { word: "call!(", why: "a ractor call without a timeout can wait for ever", home: &[TESTS] },
    Banned { word: "counter!(", why: "metrics are recorded by ostler-telemetry alone", home: METRICS },
    Banned { word: "gauge!(", why: "metrics are recorded by ostler-telemetry alone", home: METRICS },
    Banned { word: "histogram!(", why: "metrics are recorded by ostler-telemetry alone", home: METRICS },
];

/// Every test: the package, a room's `tests` folder, a `tests` module.
const TESTS: &str = "tests";

const METRICS: &[&str] = &["crates/ostler-telemetry/src/record"];

/// Paths of one machine, written in two parts so that this file does not hold them.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// The folder whose one module may hold `unsafe`.
const UNSAFE_HOME: &str = "crates/ostler-process/src/";

fn is_at(place: &str, home: &str) -> bool {
    if home == TESTS {
        return place.starts_with("tests/") || place.contains("/tests/") || place.ends_with("/tests.rs");
    }
    place.starts_with(home) || place.ends_with(home)
}

/// Checks any text file.
pub(super) fn check_text(place: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for path in MACHINE_PATHS {
            if holds(line, path) {
                violations
                    .push(Violation::new(format!("{place}:{number}"), format!("names a path of one machine: {path}")));
            }
        }
    }
    violations
}

/// Checks a file of Rust.
pub(super) fn check_rust(place: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !text.starts_with("//!") {
        violations.push(Violation::new(place, "must open with a //! comment that says what it is responsible for"));
    }
    if place == "mod.rs" || place.ends_with("/mod.rs") {
        violations.push(Violation::new(place, "is called mod.rs: write foo.rs beside foo/"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        violations.push(Violation::new(place, format!("has {lines} lines; at {LONGEST} a file is two files")));
    }
    for (number, line) in (1..).zip(without_comments_and_literals(text).lines()) {
        for Banned { word, why, home } in BANNED {
            if holds(line, word) && !home.iter().any(|home| is_at(place, home)) {
                violations.push(Violation::new(format!("{place}:{number}"), format!("{word} is banned: {why}")));
            }
        }
    }
    violations
}

/// Checks the list of decisions: an entry that needs more lines is not decided yet.
pub(super) fn check_decisions(place: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for entry in text.split("\n## ").skip(1) {
        let lines = entry.trim_end().lines().count();
        if lines > LONGEST_DECISION {
            let title = entry.lines().next().unwrap_or_default();
            let what = format!("the entry '{title}' has {lines} lines, {LONGEST_DECISION} are the most");
            violations.push(Violation::new(place, what));
        }
    }
    violations
}

/// Whether the file's code holds `unsafe`.
pub(super) fn holds_unsafe(text: &str) -> bool {
    without_comments_and_literals(text)
        .split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .any(|word| word == "unsafe")
}

/// Checks that the files with `unsafe` are one module of the one crate.
pub(super) fn check_unsafe(files: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| !file.starts_with(UNSAFE_HOME)) {
        violations.push(Violation::new(file, "holds unsafe, which only one module of ostler-process may"));
    }
    let modules: BTreeSet<_> = files.iter().filter_map(|file| file.strip_prefix(UNSAFE_HOME)).map(module).collect();
    if modules.len() > 1 {
        violations.push(Violation::new(UNSAFE_HOME, format!("holds unsafe in more than one module: {modules:?}")));
    }
    violations
}

/// The module that a file below `src` belongs to: `kernel` for `kernel.rs` and for `kernel/fork.rs`.
fn module(path: &str) -> &str {
    path.split_once('/').map_or(path.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// Whether `line` holds `word` and not only as the end of a longer word.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(place, _)| {
        let is_glued =
            line[..place].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '.');
        !is_glued
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(place: &str, body: &str) -> Vec<String> {
        let text = format!("//! A head.\n{body}\n");
        check_rust(place, &text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_opens_with_its_head_comment() {
        assert_eq!(check_rust("a.rs", "//! A head.\n"), []);
        assert_eq!(check_rust("a.rs", "use std::fmt;\n").len(), 1);
        assert_eq!(check_rust("a.rs", "").len(), 1);
    }

    #[test]
    fn no_file_is_called_mod() {
        assert_eq!(rust("src/mod.rs", "").len(), 1);
        assert_eq!(rust("src/xmod.rs", "").len(), 0);
    }

    #[test]
    fn a_long_file_is_two_files() {
        assert_eq!(rust("a.rs", &"\n".repeat(LONGEST - 2)).len(), 0);
        assert_eq!(rust("a.rs", &"\n".repeat(LONGEST)).len(), 1);
    }

    #[test]
    fn every_banned_word_is_found_in_code_and_nowhere_else() {
        for Banned { word, .. } in BANNED {
            assert_eq!(rust("crates/ostler/src/a.rs", &format!("fn f() {{ {word} }}")).len(), 1, "{word}");
            assert_eq!(rust("crates/ostler/src/a.rs", &format!("// {word}")).len(), 0, "{word}");
            assert_eq!(rust("crates/ostler/src/a.rs", &format!("const A: &str = r#\"{word}\"#;")).len(), 0, "{word}");
        }
        let found = rust("crates/ostler/src/a.rs", "\n  std::thread::sleep(x)");
        assert_eq!(
            found,
            ["crates/ostler/src/a.rs:3: thread::sleep is banned: wait for an event, or for tokio's clock"]
        );
        assert_eq!(rust("crates/ostler/src/a.rs", "describe_counter!(x)").len(), 0);
    }

    #[test]
    fn a_word_is_allowed_at_home() {
        assert_eq!(rust("crates/ostler-runtime/src/clock.rs", "tokio::time::Instant::now()").len(), 0);
        assert_eq!(rust("crates/ostler-telemetry/src/record/a.rs", "counter!(x)").len(), 0);
        assert_eq!(rust("crates/ostler-runtime/src/a.rs", "metrics::counter!(x)").len(), 1);
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_text() {
        for path in MACHINE_PATHS {
            assert_eq!(check_text("README.md", &format!("see {path}main")).len(), 1, "{path}");
            assert_eq!(check_text("a.rs", &format!("// `{path}x`")).len(), 1, "{path}");
        }
        assert_eq!(check_text("README.md", concat!("some", "/wo", "rk/x")), []);
    }

    #[test]
    fn a_decision_is_short() {
        let check =
            |lines: usize| check_decisions("d.md", &format!("# D\n\n## 1. A\n{}\n## 2. B\n", "x\n".repeat(lines)));
        assert_eq!(check(LONGEST_DECISION - 1), []);
        assert_eq!(check(LONGEST_DECISION).len(), 1);
    }

    #[test]
    fn unsafe_code_lives_in_one_module_of_one_crate() {
        assert!(holds_unsafe("unsafe { f() }"));
        assert!(holds_unsafe("#[unsafe(no_mangle)]"));
        assert!(!holds_unsafe("// unsafe\nlet unsafe_code = \"unsafe\";"));
        let check = |files: &[&str]| check_unsafe(&files.iter().map(ToString::to_string).collect::<Vec<_>>()).len();
        assert_eq!(check(&["crates/ostler-process/src/sys.rs"]), 0);
        assert_eq!(check(&["crates/ostler-process/src/sys.rs", "crates/ostler-process/src/spawn.rs"]), 1);
        assert_eq!(check(&["crates/ostler-process/src/sys.rs", "crates/ostler-process/src/sys/fork.rs"]), 0);
        assert_eq!(check(&["crates/ostler-mcp/src/frame.rs"]), 1);
    }
}
