//! The program `ostler` as the tests run it: the same `main`, built in this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    ostler::main()
}
