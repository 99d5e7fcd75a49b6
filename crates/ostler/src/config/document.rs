//! One tree for TOML and JSON, in which every value knows its line.
//!
//! It knows the two syntaxes and nothing of what the keys mean; that is `file` and `import`. JSON may have comments and
//! trailing commas, as the hosts' own readers allow them.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, Spot};

/// A value and its line. It has no `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    /// Counted from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What both syntaxes can say.
#[derive(Clone)]
pub(super) enum Value {
    /// JSON's null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// TOML's dates and times, which no key of ours takes.
    Date,
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Keys and values in the order of the file.
#[derive(Clone, Default)]
pub(super) struct Table(pub Vec<Entry>);

/// A key and its value.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// The key's line, counted from 1.
    pub line: usize,
    /// The value.
    pub node: Node,
}

impl Table {
    /// Removes `key` and returns it.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        let index = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(index))
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

impl Value {
    /// What the value is, for messages. Texts are not quoted: they may be secret.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => format!("{truth}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Text(_) => "a text".to_owned(),
            Self::Date => "a date".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }

    /// The same value for keeping, without its lines.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null | Self::Date => serde_json::Value::Null,
            Self::Bool(truth) => (*truth).into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(table) => table.0.iter().map(|entry| (entry.key.clone(), entry.node.value.to_json())).collect(),
        }
    }
}

/// Offsets of line starts: turns an offset into a line.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// Reads TOML. All syntax errors are reported at once.
pub(super) fn toml(text: &str, file: &Spot, report: &mut Report) -> Option<Node> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        report.problem::<()>(&file.on_line(line), format!("this is not TOML: {message}"));
    }
    if !errors.is_empty() {
        return None;
    }
    Some(Node { line: 1, value: Value::Table(toml_table(table.into_inner(), &lines)) })
}

fn toml_table(table: DeTable<'_>, lines: &Lines) -> Table {
    let mut entries: Vec<(usize, Entry)> = table
        .into_iter()
        .map(|(key, value)| {
            let offset = key.span().start;
            let entry =
                Entry { key: key.into_inner().into_owned(), line: lines.at(offset), node: toml_node(value, lines) };
            (offset, entry)
        })
        .collect();
    entries.sort_by_key(|(offset, _)| *offset);
    Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn toml_node(value: Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let line = lines.at(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Bool(truth),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| toml_node(item, lines)).collect()),
        DeValue::Table(table) => Value::Table(toml_table(table, lines)),
    };
    Node { line, value }
}

/// Reads JSON, with comments and trailing commas.
pub(super) fn json(text: &str, file: &Spot, report: &mut Report) -> Option<Node> {
    let text = relaxed(text.trim_start_matches('\u{feff}'));
    let raw: &RawValue = match serde_json::from_str(&text) {
        Ok(raw) => raw,
        Err(error) => {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            return report.problem(&file.on_line(error.line().max(1)), format!("this is not JSON: {message}"));
        }
    };
    let mut reader = JsonReader { start: text.as_ptr().addr(), lines: Lines::of(&text), file, report };
    reader.node(raw)
}

struct JsonReader<'a> {
    start: usize,
    lines: Lines,
    file: &'a Spot,
    report: &'a mut Report,
}

impl JsonReader<'_> {
    /// A raw value is a slice of the whole text, so its address tells its line.
    fn node(&mut self, raw: &RawValue) -> Option<Node> {
        let line = self.lines.at(raw.get().as_ptr().addr() - self.start);
        let value = match raw.get().as_bytes().first() {
            Some(b'{') => Value::Table(self.table(raw, line)?),
            Some(b'[') => {
                let items: Vec<&RawValue> = self.parsed(raw, line)?;
                Value::List(items.into_iter().map(|item| self.node(item)).collect::<Option<_>>()?)
            }
            Some(b'"') => Value::Text(self.parsed(raw, line)?),
            Some(b't' | b'f') => Value::Bool(self.parsed(raw, line)?),
            Some(b'n') => Value::Null,
            _ => match serde_json::from_str(raw.get()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Float(self.parsed(raw, line)?),
            },
        };
        Some(Node { line, value })
    }

    fn table(&mut self, raw: &RawValue, line: usize) -> Option<Table> {
        let Pairs(pairs) = self.parsed(raw, line)?;
        let mut table = Table::default();
        for (key, raw) in pairs {
            let node = self.node(raw)?;
            if table.get(&key).is_some() {
                let spot = self.file.key(&key, node.line);
                self.report.problem::<()>(&spot, "the key is given twice; remove one");
                continue;
            }
            table.0.push(Entry { key, line: node.line, node });
        }
        Some(table)
    }

    fn parsed<'r, T: Deserialize<'r>>(&mut self, raw: &'r RawValue, line: usize) -> Option<T> {
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => self.report.problem(&self.file.on_line(line), format!("this is not JSON: {error}")),
        }
    }
}

/// An object's members in the order of the file, doubles kept.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(InOrder).map(Pairs)
    }
}

/// Overwrites comments and trailing commas with blanks, so that offsets and lines stay.
fn relaxed(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut comma = None;
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', _) => {
                comma = None;
                at = end_of_string(&bytes, at);
                continue;
            }
            (b'/', Some(b'/')) => {
                at = blank(&mut bytes, at, |rest| rest.iter().position(|byte| *byte == b'\n'));
                continue;
            }
            (b'/', Some(b'*')) => {
                let end = |rest: &[u8]| rest[2..].windows(2).position(|pair| pair == b"*/").map(|end| end + 4);
                at = blank(&mut bytes, at, end);
                continue;
            }
            (b',', _) => comma = Some(at),
            (b'}' | b']', _) => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            (byte, _) if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
    String::from_utf8(bytes).expect("only whole comments and commas became blanks")
}

/// The offset after the string that starts at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// Blanks from `at` to where `end` says, counted from `at`; to the end of the text if it does not say.
fn blank(bytes: &mut [u8], at: usize, end: impl Fn(&[u8]) -> Option<usize>) -> usize {
    let end = end(&bytes[at..]).map_or(bytes.len(), |length| at + length);
    for byte in &mut bytes[at..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json_of(text: &str) -> (Option<serde_json::Value>, Result<Vec<String>, String>) {
        let mut report = Report::default();
        let node = json(text, &Spot::file("t.json"), &mut report);
        (node.map(|node| node.value.to_json()), report.finish().map_err(|errors| errors.to_string()))
    }

    #[test]
    fn comments_and_trailing_commas_are_read_over() {
        let (value, report) = json_of("{ // one, \"two\"\n  \"a\": [1, 2, ], /* b */ \"url\": \"http://x/*y*/,}\",\n}");
        assert_eq!(value, Some(serde_json::json!({"a": [1, 2], "url": "http://x/*y*/,}"})));
        assert_eq!(report, Ok(vec![]));
    }

    #[test]
    fn a_json_value_knows_its_line() {
        let mut report = Report::default();
        let node = json("{\n\"a\": {\n\n \"b\":\n 7}}", &Spot::file("t.json"), &mut report).unwrap();
        let Value::Table(root) = node.value else { panic!("a table") };
        let Value::Table(inner) = &root.get("a").unwrap().node.value else { panic!("a table") };
        assert_eq!((root.get("a").unwrap().line, inner.get("b").unwrap().node.line), (2, 5));
    }

    #[test]
    fn broken_json_is_reported_with_its_line() {
        let (value, report) = json_of("{\n  \"a\": nope\n}");
        assert_eq!(value, None);
        assert_eq!(report, Err("t.json:2: this is not JSON: expected ident".to_owned()));
    }

    #[test]
    fn a_key_that_is_given_twice_is_an_error() {
        let (_, report) = json_of("{\n\"a\": 1,\n\"a\": 2}");
        assert_eq!(report, Err("t.json:3: a: the key is given twice; remove one".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[{}\\[\\]\",:/*a\\\\1 \n\u{e4}]{0,40}") {
            let _ = json_of(&text);
            let mut report = Report::default();
            let _ = toml(&text, &Spot::file("t.toml"), &mut report);
        }
    }
}
