//! What is unwise about a launch line and no error: packages that are whatever was published last, and texts for a shell.

use super::Check;
use crate::config::file::Launch;
use crate::config::report::At;

/// How a program that fetches and runs packages is told which.
struct Runner {
    /// The program and the words after it.
    call: &'static [&'static str],
    /// Options whose next word is the package.
    package: &'static [&'static str],
    /// Options whose next word is something else.
    other: &'static [&'static str],
    /// Between name and version.
    mark: &'static str,
}

const NPM_OTHER: &[&str] = &["-c", "--call", "-w", "--workspace", "--registry", "--cache", "--prefix", "--userconfig"];
const UV_OTHER: &[&str] = &[
    "--with",
    "-w",
    "--python",
    "-p",
    "--index-url",
    "-i",
    "--index",
    "--default-index",
    "--directory",
    "--refresh-package",
];

const RUNNERS: [Runner; 10] = [
    npm(&["npx"]),
    npm(&["bunx"]),
    npm(&["pnpx"]),
    npm(&["npm", "exec"]),
    npm(&["pnpm", "dlx"]),
    npm(&["yarn", "dlx"]),
    npm(&["bun", "x"]),
    Runner { call: &["uvx"], package: &["--from"], other: UV_OTHER, mark: "==" },
    Runner { call: &["uv", "tool", "run"], package: &["--from"], other: UV_OTHER, mark: "==" },
    Runner {
        call: &["pipx", "run"],
        package: &["--spec"],
        other: &["--python", "--index-url", "-i", "--pip-args"],
        mark: "==",
    },
];

const fn npm(call: &'static [&'static str]) -> Runner {
    Runner { call, package: &["-p", "--package"], other: NPM_OTHER, mark: "@" }
}

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "ksh", "fish"];

impl Check<'_> {
    /// Notes what is unwise about a launch line.
    pub(super) fn advise(&mut self, launch: &Launch) {
        let Some(command) = &launch.command else { return };
        let program = command.value.rsplit('/').next().unwrap_or_default();
        let args: &[At<String>] = launch.args.as_ref().map_or(&[], |at| &at.value);
        let words: Vec<&str> = args.iter().map(|arg| arg.value.as_str()).collect();
        if let Some(Unpinned { package, index, mark }) = unpinned(program, &words) {
            let name = bare_name(package);
            let notice = format!(
                "{package:?} is whatever was published last; pin it: write \"{name}{mark}1.2.3\", with the version that you trust"
            );
            self.report.notice(&args[index].spot, &notice);
        }
        if SHELLS.contains(&program)
            && let Some(first) = args.first()
            && first.value.starts_with('-')
            && !first.value.starts_with("--")
            && first.value.contains('c')
        {
            let notice = "a shell takes this text apart, and stands between us and the server; write the program as command and its words as args";
            self.report.notice(&first.spot, notice);
        }
    }
}

/// A package that is run without a version.
#[derive(Debug, PartialEq, Eq)]
struct Unpinned<'a> {
    package: &'a str,
    /// Which argument has it.
    index: usize,
    /// What stands between name and version.
    mark: &'static str,
}

fn unpinned<'a>(program: &str, args: &[&'a str]) -> Option<Unpinned<'a>> {
    let runner = RUNNERS.iter().find(|runner| {
        let (first, more) = runner.call.split_first().expect("every call has a program");
        program == *first && args.starts_with(more)
    })?;
    let mut index = runner.call.len() - 1;
    loop {
        let word = *args.get(index)?;
        let (option, joined) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            Some(_) | None => (word, None),
        };
        if runner.package.contains(&option) {
            let index = if joined.is_some() { index } else { index + 1 };
            let package = joined.or_else(|| args.get(index).copied())?;
            return is_unpinned(package).then_some(Unpinned { package, index, mark: runner.mark });
        }
        if !word.starts_with('-') {
            return is_unpinned(word).then_some(Unpinned { package: word, index, mark: runner.mark });
        }
        let takes_next = runner.other.contains(&option) && joined.is_none();
        index += if takes_next { 2 } else { 1 };
    }
}

/// Whether a package is named without an exact version. Paths, addresses and variables are somebody's own decision.
fn is_unpinned(package: &str) -> bool {
    if package.is_empty() || package.starts_with(['.', '/', '~']) || package.contains([':', '$']) {
        return false;
    }
    let version = match package.split_once("==") {
        Some((_, version)) => Some(version),
        None => package.rsplit_once('@').filter(|(name, _)| !name.is_empty()).map(|(_, version)| version),
    };
    !version.is_some_and(is_exact)
}

/// `1.2.3`, `2026.8.31`, `1.2.3-rc.1`, `0.5`: two numbers at least, and neither a range nor a tag.
fn is_exact(version: &str) -> bool {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let numbers = release.split('.').filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).count();
    numbers >= 2 && release.split('.').all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
}

/// A package's name without version and extras of it.
fn bare_name(package: &str) -> &str {
    let package = package.split(['=', '>', '<', '~', '^', '!', '[']).next().unwrap_or_default();
    match package.rsplit_once('@') {
        Some((name, _)) if !name.is_empty() => name,
        Some(_) | None => package,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package<'a>(line: &'a str) -> Option<&'a str> {
        let words: Vec<&'a str> = line.split(' ').collect();
        unpinned(words[0], &words[1..]).map(|unpinned| unpinned.package)
    }

    #[test]
    fn a_package_without_an_exact_version_is_found() {
        for (line, found) in [
            ("npx -y @playwright/mcp@latest", Some("@playwright/mcp@latest")),
            ("npx -y @playwright/mcp", Some("@playwright/mcp")),
            ("npx -y @playwright/mcp@0.0.41 --headless", None),
            ("npx thing@^1.2.3", Some("thing@^1.2.3")),
            ("npx thing@1", Some("thing@1")),
            ("npx thing@1.x", Some("thing@1.x")),
            ("npx thing@2026.8.31", None),
            ("npx thing@1.2.3-rc.1", None),
            ("npx --package thing tool", Some("thing")),
            ("npx --package=thing@1.2.3 tool", None),
            ("npx --registry https://r.example thing", Some("thing")),
            ("npx ./server", None),
            ("npx ${PACKAGE}", None),
            ("npx", None),
            ("npm exec thing", Some("thing")),
            ("npm start", None),
            ("bunx thing", Some("thing")),
            ("bun x thing@1.2.3", None),
            ("uvx mcp-server-time", Some("mcp-server-time")),
            ("uvx mcp-server-time==1.2", None),
            ("uvx mcp-server-time@latest", Some("mcp-server-time@latest")),
            ("uvx --from git+https://example.org/x server", None),
            ("uvx --from thing[extra] server", Some("thing[extra]")),
            ("uvx --python 3.13 thing", Some("thing")),
            ("uv tool run thing", Some("thing")),
            ("uv run server.py", None),
            ("pipx run thing", Some("thing")),
            ("pipx run --spec thing==1.2.3 tool", None),
            ("node server.js", None),
        ] {
            assert_eq!(package(line), found, "{line}");
        }
    }

    #[test]
    fn a_name_is_what_stands_before_its_version() {
        for (given, name) in
            [("@a/b@latest", "@a/b"), ("@a/b", "@a/b"), ("thing[extra]>=1", "thing"), ("thing@^1", "thing")]
        {
            assert_eq!(bare_name(given), name);
        }
    }
}
