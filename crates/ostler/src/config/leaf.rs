//! The values that a key can have: numbers, words of a closed set, lists, and `measure`s. Each reads itself from a node, says
//! what to write instead when it cannot, and describes itself as JSON Schema.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use ostler_core::Secret;
use serde_json::json;

use super::document::{Node, Table, Value};
use super::report::{At, Report, Spot};

mod measure;

pub(super) use measure::{Memory, Period, Size};

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

/// An exit code.
impl Leaf for u8 {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        match whole(&node.value).and_then(|number| Self::try_from(number).ok()) {
            Some(number) => Some(number),
            None => wrong(&node.value, spot, report, "an exit code from 0 to 255, without quotes"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({"type": "integer", "minimum": 0, "maximum": u8::MAX})
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

/// A value, or the word `"off"`, by which a server or a group takes back what holds for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch<T> {
    /// The word.
    Off,
    /// The value.
    On(T),
}

impl<T> Switch<T> {
    /// The value, unless it is switched off.
    pub(super) fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: Leaf> Leaf for Switch<T> {
    fn read(node: Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        if matches!(&node.value, Value::Text(word) if word == "off") {
            return Some(Self::Off);
        }
        let mut inner = Report::default();
        let value = T::read(node, spot, &mut inner);
        report.absorb(inner, spot, ", or \"off\"");
        value.map(Self::On)
    }

    fn schema() -> serde_json::Value {
        json!({"anyOf": [{"const": "off"}, T::schema()]})
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

    pub(super) fn read<T: Leaf>(value: Value) -> Result<T, String> {
        let mut report = Report::default();
        let leaf = T::read(Node { line: 1, value }, &Spot::file("t").key("k", 1), &mut report);
        report.finish().map_err(|errors| errors.to_string())?;
        Ok(leaf.expect("a value that is not there was reported"))
    }

    pub(super) fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn what_can_be_switched_off_says_so() {
        assert_eq!(read(text("off")), Ok(Switch::<NonZeroU32>::Off));
        assert_eq!(read(Value::Integer(3)), Ok(Switch::On(NonZeroU32::new(3).unwrap())));
        let message =
            "t:1: k: the number 0 does not fit here; write a whole number from 1 on, without quotes, or \"off\"";
        assert_eq!(read::<Switch<NonZeroU32>>(Value::Integer(0)), Err(message.to_owned()));
    }

    #[test]
    fn an_exit_code_fits_a_byte() {
        assert_eq!(read(Value::Integer(255)), Ok(255_u8));
        for given in [Value::Integer(256), Value::Integer(-1), text("0")] {
            assert!(read::<u8>(given).unwrap_err().ends_with("write an exit code from 0 to 255, without quotes"));
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
