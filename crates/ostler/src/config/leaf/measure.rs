//! Values with a unit: spans of time, sizes of messages, amounts of memory.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;

use super::{Leaf, wrong};
use crate::config::document::{Node, Value};
use crate::config::report::{Report, Spot};

/// A span of time: more than nothing, at most 30 days. Written as `"500ms"`, `"30s"`, `"5m"`, `"1h"` or `"1m30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Period(pub Duration);

/// So long that nobody means it, and short enough for every clock.
const LONGEST: Duration = Duration::from_hours(30 * 24);

impl Period {
    /// Whether `period` is one: more than nothing, at most 30 days.
    pub(in crate::config) fn in_bounds(period: Duration) -> bool {
        !period.is_zero() && period <= LONGEST
    }

    fn parse(text: &str) -> Option<Duration> {
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
            let number: u32 = rest[..digits].parse().ok()?;
            let tail = &rest[digits..];
            let unit_length = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
            let unit = match &tail[..unit_length] {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_mins(1),
                "h" => Duration::from_hours(1),
                _ => return None,
            };
            total = total.checked_add(unit.checked_mul(number)?)?;
            rest = &tail[unit_length..];
        }
        Some(total)
    }
}

impl Leaf for Period {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#"a duration such as "500ms", "30s", "5m" or "1h""#;
        if let Value::Integer(number) = node.value {
            return report.problem(spot, format!("{number} has no unit; write a duration such as \"{number}s\""));
        }
        let Value::Text(text) = &node.value else {
            return wrong(&node.value, spot, report, WANTED);
        };
        match Self::parse(text) {
            None => report.problem(spot, format!("{text:?} is not a duration; write {WANTED}")),
            Some(Duration::ZERO) => report.problem(spot, format!("it must be longer than nothing; write {WANTED}")),
            Some(period) if period > LONGEST => {
                report.problem(spot, r#"it is too long; write at most "720h" (30 days)"#)
            }
            Some(period) => Some(Self(period)),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$", "examples": ["500ms", "30s", "5m", "1h"]})
    }
}

/// A size in bytes, from 1 KiB to 1 GiB. Written as `"64KiB"` or `"4MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Size(pub usize);

impl Leaf for Size {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#"a size such as "64KiB" or "4MiB", from "1KiB" to "1GiB""#;
        let bytes = bytes(&node.value, 1 << 10..=1 << 30, WANTED, spot, report)?;
        usize::try_from(bytes).ok().map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB)$", "examples": ["64KiB", "4MiB"]})
    }
}

/// How much memory a server may have, from 1 MiB to 16 TiB. Written like a [`Size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Memory(pub u64);

impl Leaf for Memory {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#"an amount of memory such as "512MiB" or "2GiB", from "1MiB" to "16384GiB""#;
        bytes(&node.value, 1 << 20..=1 << 44, WANTED, spot, report).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB)$", "examples": ["512MiB", "2GiB"]})
    }
}

/// A number of bytes with its unit.
fn bytes(value: &Value, bounds: RangeInclusive<u64>, wanted: &str, spot: &Spot, report: &mut Report) -> Option<u64> {
    let Value::Text(text) = value else {
        return wrong(value, spot, report, wanted);
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[split..].trim_start() {
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = text[..split].parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match bytes.filter(|bytes| bounds.contains(bytes)) {
        Some(bytes) => Some(bytes),
        None => report.problem(spot, format!("{text:?} is not such a size; write {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::leaf::tests::{read, text};

    #[test]
    fn durations_have_units() {
        let cases = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1m30s", 90_000)];
        for (given, millis) in cases {
            assert_eq!(read(text(given)), Ok(Period(Duration::from_millis(millis))), "{given}");
        }
        for given in ["", "30", "s", "-1s", "1.5s", "1 s", "30S", "0s", "721h", "99999999999s", "1d"] {
            let message = read::<Period>(text(given)).unwrap_err();
            assert!(message.starts_with("t:1: k: ") && message.contains("; write "), "{given}: {message}");
        }
        let unit = read::<Period>(Value::Integer(30));
        assert_eq!(unit, Err("t:1: k: 30 has no unit; write a duration such as \"30s\"".to_owned()));
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(read(text("4MiB")), Ok(Size(4 << 20)));
        assert_eq!(read(text("64 KiB")), Ok(Size(64 << 10)));
        for given in ["4", "4MB", "MiB", "0KiB", "2GiB", "99999999999999999999KiB", "-1KiB"] {
            assert!(read::<Size>(text(given)).unwrap_err().contains("write a size such as"), "{given}");
        }
    }

    #[test]
    fn memory_has_bounds_of_its_own() {
        assert_eq!(read(text("512MiB")), Ok(Memory(512 << 20)));
        assert_eq!(read(text("64GiB")), Ok(Memory(64 << 30)));
        for given in ["1KiB", "512", "512MB", "16385GiB"] {
            assert!(read::<Memory>(text(given)).unwrap_err().contains("write an amount of memory such as"), "{given}");
        }
    }
}
