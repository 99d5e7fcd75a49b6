//! The misbehaving MCP server as a program. What it can do wrong: `fake_server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ostler_tests::fake::main()
}
