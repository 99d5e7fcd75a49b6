//! Puts our own keys into `params._meta` of a request. Every other byte of the parameters stays as the caller wrote it.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::envelope::{RequestId, push, push_flat};

/// What every request of a modern session says about itself, as members of an object.
pub(crate) const MODERN: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"ostler","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Where a modern server says who it is.
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

const TOKEN: &str = "progressToken";
const OURS: [&str; 4] = [
    TOKEN,
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
];

/// What one request adds to its `_meta`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Additions {
    /// Members that the revision asks for, or nothing.
    pub(crate) standing: Option<&'static str>,
    /// The progress token, if somebody observes: the request's own id.
    pub(crate) token: Option<RequestId>,
}

/// The parameters are no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnObject;

impl Additions {
    fn is_empty(&self) -> bool {
        self.standing.is_none() && self.token.is_none()
    }

    /// About how many bytes they take.
    pub(crate) fn length(&self) -> usize {
        self.standing.map_or(0, |members| members.len() + 16) + self.token.map_or(0, |_| 64)
    }

    fn write(&self, line: &mut Vec<u8>) {
        if let Some(members) = self.standing {
            push(line, format_args!("{members}"));
        }
        if let Some(token) = self.token {
            let comma = if self.standing.is_some() { "," } else { "" };
            push(line, format_args!(r#"{comma}"{TOKEN}":"{token}""#));
        }
    }
}

/// Appends `,"params":{…}` with the additions inside; nothing if there is neither.
///
/// A `_meta` that is there keeps its members but for those that we set ourselves. A progress token of the caller is
/// always taken out: it means nothing to a session that does not know it.
pub(crate) fn write_params(line: &mut Vec<u8>, params: Option<&str>, additions: &Additions) -> Result<(), NotAnObject> {
    let Some(params) = params else {
        if !additions.is_empty() {
            line.extend_from_slice(br#","params":{"_meta":{"#);
            additions.write(line);
            line.extend_from_slice(b"}}");
        }
        return Ok(());
    };
    let inside = params.strip_prefix('{').ok_or(NotAnObject)?;
    line.extend_from_slice(br#","params":"#);
    if let Some(existing) = existing_meta(params) {
        let start = existing.as_ptr().addr() - params.as_ptr().addr();
        push_flat(line, &params[..start]);
        merge(line, existing, additions);
        push_flat(line, &params[start + existing.len()..]);
    } else if additions.is_empty() {
        push_flat(line, params);
    } else {
        line.extend_from_slice(br#"{"_meta":{"#);
        additions.write(line);
        line.push(b'}');
        if !inside.trim_ascii_start().starts_with('}') {
            line.push(b',');
        }
        push_flat(line, inside);
    }
    Ok(())
}

/// The value of the outermost `_meta`, as a part of `params`.
fn existing_meta(params: &str) -> Option<&str> {
    // The word is rarely there, and a search for it is cheaper than a reading.
    if !params.contains("\"_meta\"") {
        return None;
    }
    let members: Members<'_> = serde_json::from_str(params).ok()?;
    members.get("_meta").map(RawValue::get)
}

fn merge(line: &mut Vec<u8>, existing: &str, additions: &Additions) {
    let members: Members<'_> = serde_json::from_str(existing).unwrap_or_default();
    line.push(b'{');
    additions.write(line);
    let mut is_first = additions.is_empty();
    for (key, value) in members.0 {
        let is_ours = key == TOKEN || (additions.standing.is_some() && OURS.contains(&key.as_str()));
        if is_ours {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            line.push(b',');
        }
        push(line, format_args!("{}:", serde_json::Value::from(key)));
        push_flat(line, value.get());
    }
    line.push(b'}');
}

/// The members of an object in their order, values unread.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The first member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN_ID: RequestId = RequestId { incarnation: 1, counter: 2, nonce: 3 };
    const TOKEN_ONLY: Additions = Additions { standing: None, token: Some(TOKEN_ID) };
    const STANDING: Additions = Additions { standing: Some(r#""s":1"#), token: None };
    const BOTH: Additions = Additions { standing: Some(r#""s":1"#), token: Some(TOKEN_ID) };

    fn write(params: Option<&str>, additions: &Additions) -> Result<String, NotAnObject> {
        let mut line = Vec::new();
        write_params(&mut line, params, additions)?;
        Ok(String::from_utf8(line).expect("text"))
    }

    #[test]
    fn additions_are_spliced_in_and_nothing_else_changes() {
        let check = |params, additions: &Additions, expected: &str| {
            assert_eq!(write(params, additions).as_deref(), Ok(expected));
        };
        check(None, &Additions::default(), "");
        check(None, &BOTH, r#","params":{"_meta":{"s":1,"progressToken":"1-2-00000003"}}"#);
        check(Some("{}"), &STANDING, r#","params":{"_meta":{"s":1}}"#);
        check(Some("{ }"), &TOKEN_ONLY, r#","params":{"_meta":{"progressToken":"1-2-00000003"} }"#);
        check(Some(r#"{"a" : 1e3}"#), &Additions::default(), r#","params":{"a" : 1e3}"#);
        check(
            Some(r#"{"a" : 1e3,"b":{"_meta":{}}}"#),
            &STANDING,
            r#","params":{"_meta":{"s":1},"a" : 1e3,"b":{"_meta":{}}}"#,
        );
        check(
            Some(r#"{"a": 1, "_meta": {"k":{"z":1.50},"progressToken":9} , "b":[ ]}"#),
            &BOTH,
            r#","params":{"a": 1, "_meta": {"s":1,"progressToken":"1-2-00000003","k":{"z":1.50}} , "b":[ ]}"#,
        );
        check(Some(r#"{"_meta":{"progressToken":9,"k":1}}"#), &Additions::default(), r#","params":{"_meta":{"k":1}}"#);
        check(Some(r#"{"_meta":null,"a":1}"#), &STANDING, r#","params":{"_meta":{"s":1},"a":1}"#);
        check(Some(r#"{"_meta":[1]}"#), &Additions::default(), r#","params":{"_meta":{}}"#);
    }

    #[test]
    fn a_caller_cannot_speak_for_us() {
        let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"1999","k":1}}"#;
        assert_eq!(write(Some(params), &STANDING).as_deref(), Ok(r#","params":{"_meta":{"s":1,"k":1}}"#));
    }

    #[test]
    fn parameters_must_be_an_object() {
        assert_eq!(write(Some("[1]"), &Additions::default()), Err(NotAnObject));
    }

    #[test]
    fn what_modern_requests_say_is_json() {
        let text = write(None, &Additions { standing: Some(MODERN), token: None }).expect("written");
        let value: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &text[1..])).expect("JSON");
        assert_eq!(value["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(value["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "ostler");
    }

    proptest! {
        #[test]
        fn arguments_survive_any_splice(keys in prop::collection::btree_map("[a-z_]{1,6}|_meta", "[a-z\n\"\\\\é]{0,8}", 0..5)) {
            let value = serde_json::to_value(&keys).expect("JSON");
            for params in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
                let text = write(Some(&params), &BOTH).expect("written");
                prop_assert!(!text.contains('\n'));
                let mut back: serde_json::Value = serde_json::from_str(&text[",\"params\":".len()..]).expect("JSON");
                let meta = back.as_object_mut().expect("an object").remove("_meta");
                prop_assert_eq!(meta, Some(serde_json::json!({"s": 1, "progressToken": "1-2-00000003"})));
                let mut expected = value.clone();
                expected.as_object_mut().expect("an object").remove("_meta");
                prop_assert_eq!(back, expected);
            }
        }
    }
}
