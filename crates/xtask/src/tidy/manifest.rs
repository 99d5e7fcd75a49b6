//! What manifests and clippy files must say.

use std::collections::BTreeSet;

use anyhow::Context;
use toml::{Table, Value};

use super::Violation;

/// The one member whose lints differ from the workspace's, in `unsafe_code` alone.
const UNSAFE_MEMBER: &str = "crates/ostler-process/Cargo.toml";

/// Checks the root manifest.
pub(super) fn check_workspace(text: &str) -> anyhow::Result<Vec<Violation>> {
    let manifest = parse("Cargo.toml", text)?;
    let mut violations = Vec::new();
    for profile in ["dev", "test", "release"] {
        if at(&manifest, &["profile", profile, "panic"]).is_some_and(|panic| panic.as_str() != Some("unwind")) {
            violations.push(Violation::new(
                "Cargo.toml",
                format!("panics unwind in profile {profile}: supervision catches them"),
            ));
        }
    }
    if at(&manifest, &["workspace", "lints", "rust", "unsafe_code"]).and_then(Value::as_str) != Some("forbid") {
        violations.push(Violation::new("Cargo.toml", "unsafe_code is forbidden in the workspace's lints"));
    }
    Ok(violations)
}

/// Checks the manifest of one member against the root's.
pub(super) fn check_member(place: &str, text: &str, workspace: &str) -> anyhow::Result<Vec<Violation>> {
    let manifest = parse(place, text)?;
    let mut violations = Vec::new();
    let is_shared = at(&manifest, &["lints", "workspace"]).and_then(Value::as_bool) == Some(true);
    if place == UNSAFE_MEMBER {
        for lint in differences(&manifest, &parse("Cargo.toml", workspace)?) {
            violations
                .push(Violation::new(place, format!("lint {lint} must be as in the workspace, unsafe_code denied")));
        }
    } else if !is_shared {
        violations.push(Violation::new(place, "[lints] must say workspace = true"));
    }
    for (name, specification) in dependencies(&manifest) {
        if at_value(specification, "workspace").and_then(Value::as_bool) != Some(true) {
            violations.push(Violation::new(place, format!("dependency {name} must say workspace = true")));
        }
    }
    for (key, value) in manifest.get("package").and_then(Value::as_table).into_iter().flatten() {
        let is_common = matches!(key.as_str(), "version" | "edition" | "rust-version" | "license" | "publish");
        if is_common && at_value(value, "workspace").is_none() {
            violations.push(Violation::new(place, format!("{key} is the workspace's: {key}.workspace = true")));
        }
    }
    Ok(violations)
}

/// Checks that a crate's clippy file repeats every shared setting.
pub(super) fn check_clippy(place: &str, own: &str, shared: &str) -> anyhow::Result<Vec<Violation>> {
    let own = parse(place, own)?;
    let shared = parse("clippy.toml", shared)?;
    let missing = shared.iter().filter(|(key, value)| own.get(*key) != Some(value));
    Ok(missing.map(|(key, value)| Violation::new(place, format!("must repeat {key} = {value}"))).collect())
}

/// The lints in which the member differs from the workspace's with `unsafe_code` denied instead of forbidden.
fn differences(member: &Table, workspace: &Table) -> Vec<String> {
    let deny = Value::String("deny".to_owned());
    let mut found = Vec::new();
    for tool in ["rust", "clippy"] {
        let own = at(member, &["lints", tool]).and_then(Value::as_table).cloned().unwrap_or_default();
        let mut shared =
            at(workspace, &["workspace", "lints", tool]).and_then(Value::as_table).cloned().unwrap_or_default();
        if tool == "rust" {
            shared.insert("unsafe_code".to_owned(), deny.clone());
        }
        let lints: BTreeSet<_> = own.keys().chain(shared.keys()).collect();
        found.extend(
            lints.into_iter().filter(|lint| own.get(*lint) != shared.get(*lint)).map(|lint| format!("{tool}::{lint}")),
        );
    }
    found
}

/// Every dependency of every kind and target, with what is said of it.
fn dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(|targets| targets.values()).filter_map(Value::as_table);
    let mut found = Vec::new();
    for table in tables.chain([manifest]) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            found.extend(table.get(kind).and_then(Value::as_table).into_iter().flatten());
        }
    }
    found
}

fn parse(place: &str, text: &str) -> anyhow::Result<Table> {
    text.parse().with_context(|| format!("{place} is not TOML"))
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| at_value(value, key))
}

fn at_value<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.as_table()?.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "[workspace.lints.rust]\nunsafe_code = 'forbid'\nunreachable_pub = 'warn'\n";

    fn check(place: &str, text: &str) -> usize {
        check_member(place, text, WORKSPACE).expect("it is TOML").len()
    }

    #[test]
    fn a_member_takes_lints_dependencies_and_package_keys_from_the_workspace() {
        let good = "package.name = 'a'\npackage.edition.workspace = true\nlints.workspace = true\n\
                    [dependencies]\nserde.workspace = true\ntokio = { workspace = true, optional = true }\n";
        assert_eq!(check("a/Cargo.toml", good), 0);
        assert_eq!(check("a/Cargo.toml", ""), 1);
        assert_eq!(check("a/Cargo.toml", "package.edition = '2021'\nlints.workspace = true"), 1);
        for kind in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            assert_eq!(check("a/Cargo.toml", &format!("lints.workspace = true\n[{kind}]\nserde = '1'")), 1, "{kind}");
        }
    }

    #[test]
    fn the_room_with_unsafe_code_differs_in_that_lint_alone() {
        let repeated = "[lints.rust]\nunsafe_code = 'deny'\nunreachable_pub = 'warn'\n";
        assert_eq!(check(UNSAFE_MEMBER, repeated), 0);
        assert_eq!(check("crates/ostler-mcp/Cargo.toml", repeated), 1);
        assert_eq!(check(UNSAFE_MEMBER, "[lints.rust]\nunsafe_code = 'deny'\n"), 1);
        assert_eq!(check(UNSAFE_MEMBER, "[lints.rust]\nunsafe_code = 'allow'\nunreachable_pub = 'warn'\n"), 1);
    }

    #[test]
    fn the_root_forbids_unsafe_code_and_lets_panics_unwind() {
        let check = |text: &str| check_workspace(text).expect("it is TOML").len();
        assert_eq!(check(WORKSPACE), 0);
        assert_eq!(check(""), 1);
        assert_eq!(check(&format!("{WORKSPACE}[profile.release]\npanic = 'abort'")), 1);
    }

    #[test]
    fn a_clippy_file_repeats_the_shared_settings() {
        let check = |own: &str| check_clippy("a/clippy.toml", own, "one = true\ntwo = 2").expect("it is TOML").len();
        assert_eq!(check("two = 2\nthree = 3\none = true"), 0);
        assert_eq!(check("one = true"), 1);
        assert_eq!(check("one = false\ntwo = 2"), 1);
    }
}
