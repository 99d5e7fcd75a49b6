//! The runs that take long and need the real product: breaking it on purpose, and measuring it.
//!
//! They are programs of the package of tests; here they are only built, in release mode, and started.

use anyhow::bail;

use crate::ci::cargo;

/// The package that holds them.
const PACKAGE: &str = "ostler-tests";

/// Runs the program `name` of the package of tests with `arguments`. Errors: it says that a bound was missed, or failed.
pub fn run(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    // All programs, because each finds the servers and the product beside itself.
    cargo(&["build", "--release", "--quiet", "--package", PACKAGE, "--bins"], &[])?;
    let mut line = vec!["run", "--release", "--quiet", "--package", PACKAGE, "--bin", name, "--"];
    line.extend(arguments.iter().map(String::as_str));
    match cargo(&line, &[]) {
        Ok(()) => Ok(()),
        Err(_) => bail!("{name}: a bound was missed, or the run could not be made; it says which above"),
    }
}
