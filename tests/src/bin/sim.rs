//! The simulation as a program; `cargo xtask sim` runs it. What it takes: `sim --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ostler_tests::sim::main()
}
