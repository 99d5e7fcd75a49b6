//! The values that a key can have: durations, sizes, words of a closed set, lists. Each reads itself from a node, says what
//! to write instead when it cannot, and describes itself as JSON Schema.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ostler_core::Secret;
use serde_json::json;

use super::document::{Node, Table, Value};
use super::report::{At, Report, Spot};

/// Something that can be read from a node.
pub(super) trait Leaf: Sized {
    /// Reads it. `None`: a problem was reported.
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self>;

    /// Its JSON Schema.
    fn schema() -> serde_json::Value;
}

/// Reports a value of the wrong kind.
pub(super) fn wrong<T>(value: &Value, spot: &Spot, report: &mut Report, wanted: &str) -> Option<T> {
    report.problem(spot, format!("{} does not fit here; write {wanted}", value.kind()))
}

/// Reads `key` out of `table`, with its place. JSON's null counts as absent.
pub(super) fn take<T: Leaf>(table: &mut Table, key: &str, spot: &Spot, report: &mut Report) -> Option<At<T>> {
    let entry = table.take(key)?;
    if matches!(entry.node.value, Value::Null) {
        return None;
    }
    let spot = spot.key(key, entry.line);
    let value = T::read(entry.node, &spot, report)?;
    Some(At { value, spot })
}

impl Leaf for String {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Text(text) = node.value else {
            return wrong(&node.value, spot, report, "a text in quotes");
        };
        if text.contains('\0') {
            return report.problem(spot, "a zero byte cannot be passed on; remove it");
        }
        Some(text)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string"})
    }
}

impl Leaf for bool {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Bool(truth) = node.value else {
            return wrong(&node.value, spot, report, "true or false, without quotes");
        };
        Some(truth)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "boolean"})
    }
}

fn whole(value: &Value) -> Option<u32> {
    let Value::Integer(number) = value else { return None };
    u32::try_from(*number).ok()
}

impl Leaf for u32 {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        match whole(&node.value) {
            Some(number) => Some(number),
            None => wrong(&node.value, spot, report, "a whole number from 0 on, without quotes"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
    }
}

impl Leaf for NonZeroU32 {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        match whole(&node.value).and_then(NonZeroU32::new) {
            Some(number) => Some(number),
            None => wrong(&node.value, spot, report, "a whole number from 1 on, without quotes"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})
    }
}

impl Leaf for f64 {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let number = if let Value::Float(number) = node.value {
            Some(number).filter(|number| number.is_finite())
        } else {
            whole(&node.value).map(f64::from)
        };
        match number {
            Some(number) => Some(number),
            None => wrong(&node.value, spot, report, "a number, without quotes"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "number"})
    }
}

impl<T: Leaf> Leaf for Vec<At<T>> {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::List(items) = node.value else {
            return wrong(&node.value, spot, report, "a list in [ ]");
        };
        let read = |(index, item): (usize, Node)| {
            let spot = spot.item(index, item.line);
            Some(At { value: T::read(item, &spot, report)?, spot })
        };
        Some(items.into_iter().enumerate().filter_map(read).collect())
    }

    fn schema() -> serde_json::Value {
        json!({"type": "array", "items": T::schema()})
    }
}

/// A table whose keys are names, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Named<T>(pub Vec<(String, At<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Leaf> Leaf for Named<T> {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(table) = node.value else {
            return wrong(&node.value, spot, report, "a table of names and values");
        };
        let mut named = Self::default();
        for entry in table.0 {
            let spot = spot.key(&entry.key, entry.line);
            if let Some(value) = T::read(entry.node, &spot, report) {
                named.0.push((entry.key, At { value, spot }));
            }
        }
        Some(named)
    }

    fn schema() -> serde_json::Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

/// A span of time: more than nothing, at most 30 days. Written as `"500ms"`, `"30s"`, `"5m"`, `"1h"` or `"1m30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub Duration);

/// So long that nobody means it, and short enough for every clock.
const LONGEST: Duration = Duration::from_hours(30 * 24);

impl Period {
    /// Whether `period` is one: more than nothing, at most 30 days.
    pub(super) fn in_bounds(period: Duration) -> bool {
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
pub(super) struct Size(pub usize);

impl Leaf for Size {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#"a size such as "64KiB" or "4MiB", from "1KiB" to "1GiB""#;
        let Value::Text(text) = &node.value else {
            return wrong(&node.value, spot, report, WANTED);
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[split..].trim_start() {
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let bytes = text[..split].parse::<usize>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        match bytes {
            Some(bytes) if (1 << 10..=1 << 30).contains(&bytes) => Some(Self(bytes)),
            Some(_) | None => report.problem(spot, format!("{text:?} is not such a size; write {WANTED}")),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB)$", "examples": ["64KiB", "4MiB"]})
    }
}

/// Where to listen: `"127.0.0.1:9464"`, `"localhost:9464"`, `"[::1]:9464"`, or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen(pub Option<SocketAddr>);

impl Leaf for Listen {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#"an address and a port such as "127.0.0.1:9464", or "off""#;
        let Value::Text(text) = &node.value else {
            return wrong(&node.value, spot, report, WANTED);
        };
        if text == "off" {
            return Some(Self(None));
        }
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = local.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        match address.or_else(|| text.parse().ok()) {
            Some(address) => Some(Self(Some(address))),
            None => report.problem(spot, format!("{text:?} is not an address; write {WANTED}")),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "string", "examples": ["127.0.0.1:9464", "off"]})
    }
}

/// Where a value comes from that may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// Written out, with `${VAR}` inside.
    Text(Secret),
    /// The content of a file.
    File(String),
    /// What a command prints.
    Command(Vec<String>),
}

impl Leaf for Given {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        const WANTED: &str = r#""text", "${VAR}", {file = "path"} or {command = ["program", "argument"]}"#;
        match node.value {
            Value::Text(_) => String::read(node, spot, report).map(|text| Self::Text(Secret::new(text))),
            Value::Bool(truth) => Some(Self::Text(Secret::new(truth.to_string()))),
            Value::Integer(number) => Some(Self::Text(Secret::new(number.to_string()))),
            Value::Float(number) => Some(Self::Text(Secret::new(number.to_string()))),
            Value::Null | Value::Date | Value::List(_) => wrong(&node.value, spot, report, WANTED),
            Value::Table(mut table) => {
                let file = take::<String>(&mut table, "file", spot, report);
                let command = take::<Vec<At<String>>>(&mut table, "command", spot, report);
                match (file, command) {
                    (Some(file), None) if table.0.is_empty() => Some(Self::File(file.value)),
                    (None, Some(command)) if table.0.is_empty() && !command.value.is_empty() => {
                        Some(Self::Command(command.value.into_iter().map(|word| word.value).collect()))
                    }
                    _ => report.problem(spot, format!("this table says nothing that can be read; write {WANTED}")),
                }
            }
        }
    }

    fn schema() -> serde_json::Value {
        let table = |key: &str, value: serde_json::Value| json!({"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": false});
        let words = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
        json!({"anyOf": [
            {"type": ["string", "number", "boolean"]},
            table("file", json!({"type": "string"})),
            table("command", words),
        ]})
    }
}

/// Declares an enum whose members are words of the file.
macro_rules! choice {
    ($(#[$doc:meta])* $visibility:vis $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name { $($(#[$item_doc])* $item),+ }

        impl $crate::config::leaf::Leaf for $name {
            fn read(
                node: $crate::config::document::Node,
                spot: &$crate::config::report::Spot,
                report: &mut $crate::config::report::Report,
            ) -> Option<Self> {
                let wanted = [$(concat!("\"", $word, "\"")),+].join(", ");
                let $crate::config::document::Value::Text(word) = &node.value else {
                    return $crate::config::leaf::wrong(&node.value, spot, report, &format!("one of {wanted}"));
                };
                match word.as_str() {
                    $($word => Some(Self::$item),)+
                    _ => report.problem(spot, format!("unknown value {word:?}; write one of {wanted}")),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": [$($word),+]})
            }
        }
    };
}
pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Leaf>(value: Value) -> Result<T, String> {
        let mut report = Report::default();
        let leaf = T::read(Node { line: 1, value }, &Spot::file("t").key("k", 1), &mut report);
        report.finish().map_err(|errors| errors.to_string())?;
        Ok(leaf.expect("a value that is not there was reported"))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

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
    fn a_listener_has_an_address_or_is_off() {
        assert_eq!(read(text("127.0.0.1:9464")), Ok(Listen(Some(([127, 0, 0, 1], 9464).into()))));
        assert_eq!(read(text("localhost:0")), Ok(Listen(Some(([127, 0, 0, 1], 0).into()))));
        assert_eq!(read(text("off")), Ok(Listen(None)));
        for given in ["9464", ":9464", "example.org:80", "127.0.0.1", ""] {
            assert!(read::<Listen>(text(given)).unwrap_err().contains("write an address"), "{given}");
        }
    }

    #[test]
    fn a_wrong_text_is_not_repeated_where_it_may_be_secret() {
        let message = read::<Vec<At<String>>>(text("hunter2")).err().unwrap();
        assert_eq!(message, "t:1: k: a text does not fit here; write a list in [ ]");
    }
}
