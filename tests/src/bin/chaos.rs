//! The runs that break things on purpose, as a program: `cargo xtask chaos`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ostler_tests::chaos::main()
}
