//! The walls of the house hold: import arrows, manifests, head comments, long files, banned words.
//!
//! The rules and their own tests live in `xtask`; here they meet the workspace as it is.

#[test]
fn no_wall_of_the_house_is_broken() {
    let violations = xtask::tidy::check(&xtask::tidy::root()).expect("the workspace can be read");
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "tidy found {} violations:\n{}", lines.len(), lines.join("\n"));
}
