//! Numbers and times in words, for answers and for what is printed.

use std::time::Duration;

use super::dto::millis;

/// A duration for people, as [`span`] has it.
pub(crate) fn span_of(duration: Duration) -> String {
    span(millis(duration))
}

/// Milliseconds for people: `41 ms`, `2.1 s`, `3 m 12 s`, `5 h 2 m`, `3 d 4 h`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_units() {
        let check = |ms, expected| assert_eq!(span(ms), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(2_149, "2.1 s");
        check(192_000, "3 m 12 s");
        check(18_120_000, "5 h 2 m");
        check(273_600_000, "3 d 4 h");
    }
}
