//! The simulation: the whole runtime on a paused clock, seed after seed.
//!
//! It is a program of the package of tests, which looks into the rooms as this package does not; here it is started, in
//! release mode, because it plays weeks.

use anyhow::bail;

use crate::ci::cargo;

/// Plays what `arguments` say; without any, all that a release needs. Errors: a promise was broken.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut line = vec!["run", "--release", "--quiet", "--package", "ostler-tests", "--bin", "sim", "--"];
    line.extend(arguments.iter().map(String::as_str));
    match cargo(&line, &[]) {
        Ok(()) => Ok(()),
        Err(_) => bail!("sim: a promise was broken, or it could not be played; it says which above"),
    }
}
