//! The reaper as a program of its own, for embedders who name it by path and for tests.

fn main() {
    ostler_process::reaper::intercept();
    refuse();
}

/// Says that people do not start this program, and ends with `EX_USAGE`.
#[expect(clippy::print_stderr, reason = "a program that was started by hand answers on the terminal")]
fn refuse() -> ! {
    eprintln!("ostler-reaper is started by ostler, not by hand");
    std::process::exit(64);
}
