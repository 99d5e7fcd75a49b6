//! The program `ostler`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ostler::main()
}
