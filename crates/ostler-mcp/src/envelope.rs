//! One JSON-RPC message: its shallow reading, and the writing of ours. Parameters, results and errors stay raw.
//!
//! How a line is cut is `frame`, what `_meta` says is `meta`, what a message leads to is `session`.

use std::borrow::Cow;
use std::fmt;

use ostler_core::CallError;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::meta::{self, Additions, NotAnObject};

/// The id of a request of ours: `incarnation-counter-nonce`.
///
/// A text, because an id that looks like a number is turned into one by some servers. The incarnation and the nonce keep
/// a stale or guessed answer from matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestId {
    pub(crate) incarnation: u64,
    pub(crate) counter: u64,
    pub(crate) nonce: u32,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:08x}", self.incarnation, self.counter, self.nonce)
    }
}

impl RequestId {
    /// Reads exactly what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let incarnation = canonical(parts.next()?)?;
        let counter = canonical(parts.next()?)?;
        let nonce = parts.next()?;
        let is_hex = nonce.len() == 8 && nonce.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let nonce = u32::from_str_radix(nonce, 16).ok().filter(|_| is_hex)?;
        Some(Self { incarnation, counter, nonce })
    }

    /// Reads an id as it stands in a message.
    pub(crate) fn of(raw: &RawValue) -> Option<Self> {
        Self::parse(raw.get().strip_prefix('"')?.strip_suffix('"')?)
    }
}

fn canonical(digits: &str) -> Option<u64> {
    let is_canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_canonical)
}

/// A message of the server.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// An answer. `id` is none if it is not one that we could have sent.
    Response { id: Option<RequestId>, answer: Result<&'a RawValue, CallError> },
    /// A request of its own; the id is a text or an integer, as sent.
    Request { id: &'a RawValue, method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// A notification.
    Notification { method: Cow<'a, str>, params: Option<&'a RawValue> },
}

/// Why a line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not JSON at all.
    NotJson,
    /// An array: a batch of messages, which 2025-03-26 has and no other revision.
    Batch,
    /// JSON, but no JSON-RPC.
    Shape,
}

impl Malformed {
    /// The label, for metrics.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::Batch => "batch",
            Self::Shape => "shape",
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Reads one line. Nothing below the outermost object is looked into, but for an error.
pub(crate) fn parse(line: &str) -> Result<Message<'_>, Malformed> {
    match line.as_bytes().first() {
        Some(b'{') => {}
        // The members are the caller's to read: see `batch`.
        Some(b'[') => return Err(Malformed::Batch),
        _ => return Err(Malformed::NotJson),
    }
    let wire: Wire<'_> = serde_json::from_str(line)
        .map_err(|error| if error.is_data() { Malformed::Shape } else { Malformed::NotJson })?;
    if let Some(method) = wire.method {
        let method = text(method).ok_or(Malformed::Shape)?;
        if wire.result.is_some() || wire.error.is_some() {
            return Err(Malformed::Shape);
        }
        return match wire.id {
            None => Ok(Message::Notification { method, params: wire.params }),
            Some(id) if is_foreign_id(id) => Ok(Message::Request { id, method, params: wire.params }),
            Some(_) => Err(Malformed::Shape),
        };
    }
    let answer = match (wire.result, wire.error) {
        (Some(result), None) if result.get().starts_with('{') => Ok(result),
        (Some(_), None) => Err(protocol("its result is not an object")),
        (None, Some(error)) => Err(remote(error)),
        (Some(_), Some(_)) => Err(protocol("its answer holds a result and an error")),
        (None, None) if wire.id.is_some() => Err(protocol("its answer holds neither a result nor an error")),
        (None, None) => return Err(Malformed::Shape),
    };
    Ok(Message::Response { id: wire.id.and_then(RequestId::of), answer })
}

/// The first members of a batch, at most `most`, and whether there are more; none if it is not JSON.
pub(crate) fn batch(line: &str, most: usize) -> Option<(Vec<&RawValue>, bool)> {
    struct Reader {
        most: usize,
    }
    impl<'de> Visitor<'de> for Reader {
        type Value = (Vec<&'de RawValue>, bool);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while members.len() < self.most {
                match seq.next_element()? {
                    Some(member) => members.push(member),
                    None => return Ok((members, false)),
                }
            }
            let mut has_more = false;
            while seq.next_element::<IgnoredAny>()?.is_some() {
                has_more = true;
            }
            Ok((members, has_more))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let members = deserializer.deserialize_seq(Reader { most }).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// A JSON string's text; none if it is no string.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The error of a call whose answer breaks the protocol.
pub(crate) fn protocol(why: impl Into<String>) -> CallError {
    CallError::Protocol { why: why.into() }
}

fn is_foreign_id(id: &RawValue) -> bool {
    let digits = id.get().strip_prefix('-').unwrap_or(id.get());
    id.get().starts_with('"') || digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn remote(error: &RawValue) -> CallError {
    #[derive(Deserialize)]
    struct Body<'a> {
        code: i64,
        #[serde(default)]
        message: String,
        #[serde(borrow, default)]
        data: Option<&'a RawValue>,
    }
    match serde_json::from_str::<Body<'_>>(error.get()) {
        Ok(body) => {
            CallError::Remote { code: body.code, message: body.message, data: body.data.map(ToOwned::to_owned) }
        }
        Err(_) => protocol("its error has no code"),
    }
}

/// Finds the id of a broken answer: the member `id` of the outermost object, if it is an id of ours. The beginning of a
/// line is enough if the id is there.
///
/// A line that has a member `method` before it is no answer.
pub(crate) fn salvage(head: &[u8]) -> Option<RequestId> {
    let mut depth = 0usize;
    let mut key_comes = false;
    let mut at = 0;
    while let Some(&byte) = head.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                key_comes = depth == 1;
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' => key_comes = depth == 1,
            b'"' => {
                let end = at + string_length(&head[at..])?;
                let string = &head[at..end];
                at = end + 1;
                if std::mem::take(&mut key_comes) && depth == 1 {
                    match string {
                        b"method" => return None,
                        b"id" => return id_after(&head[at..]),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// Finds the id of an answer that was cut in its end, where some servers write it: exactly `"id":"<ours>"}`.
pub(crate) fn salvage_end(tail: &[u8]) -> Option<RequestId> {
    let member = tail.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end().strip_suffix(b"\"")?;
    let key = br#""id":""#;
    let at = member.windows(key.len()).rposition(|window| window == key)?;
    RequestId::parse(std::str::from_utf8(&member[at + key.len()..]).ok()?)
}

/// How long a string is whose opening quote was passed.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    bytes.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

fn id_after(bytes: &[u8]) -> Option<RequestId> {
    let value = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    RequestId::parse(std::str::from_utf8(&value[..string_length(value)?]).ok()?)
}

/// Writes a request as one line. `additions` go into `params._meta`; errors if there is no object to hold them.
pub(crate) fn request(
    id: RequestId,
    method: &str,
    params: Option<&RawValue>,
    additions: &Additions,
) -> Result<Vec<u8>, NotAnObject> {
    let params = params.map(RawValue::get);
    let mut line = Vec::with_capacity(params.map_or(0, str::len) + additions.length() + method.len() + 112);
    push(&mut line, format_args!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}""#));
    meta::write_params(&mut line, params, additions)?;
    line.extend_from_slice(b"}\n");
    Ok(line)
}

/// Writes a notification as one line. `params` is JSON of ours.
pub(crate) fn notification(method: &str, params: Option<&str>) -> Vec<u8> {
    let mut line = Vec::with_capacity(96);
    push(&mut line, format_args!(r#"{{"jsonrpc":"2.0","method":"{method}""#));
    if let Some(params) = params {
        push(&mut line, format_args!(r#","params":{params}"#));
    }
    line.extend_from_slice(b"}\n");
    line
}

/// Writes that a request of ours is no longer wanted.
pub(crate) fn cancelled(id: RequestId) -> Vec<u8> {
    notification("notifications/cancelled", Some(&format!(r#"{{"requestId":"{id}"}}"#)))
}

/// Writes a result for a server's request.
pub(crate) fn result(id: &RawValue, result: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(result.len() + 64);
    push(&mut line, format_args!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#));
    push_flat(&mut line, result);
    line.extend_from_slice(b"}\n");
    line
}

/// Writes an error for a server's request.
pub(crate) fn error(id: &RawValue, code: i64, message: &str) -> Vec<u8> {
    let message = serde_json::Value::from(message);
    let mut line = Vec::with_capacity(96);
    push(&mut line, format_args!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#));
    line.push(b'\n');
    line
}

pub(crate) fn push(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    std::io::Write::write_fmt(line, text).expect("a vector takes all bytes");
}

/// Appends JSON text to a line. Newlines between its tokens would end the line, so they become spaces.
pub(crate) fn push_flat(line: &mut Vec<u8>, json: &str) {
    let start = line.len();
    line.extend_from_slice(json.as_bytes());
    for byte in &mut line[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: RequestId = RequestId { incarnation: 3, counter: 17, nonce: 0xb0b };

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn answer(line: &str) -> Result<String, String> {
        match parse(line).expect("a message") {
            Message::Response { id, answer } => {
                assert_eq!(id, Some(ID));
                answer.map(|result| result.get().to_owned()).map_err(|error| error.to_string())
            }
            other @ (Message::Request { .. } | Message::Notification { .. }) => panic!("no response: {other:?}"),
        }
    }

    #[test]
    fn only_the_exact_id_is_ours() {
        assert_eq!(ID.to_string(), "3-17-00000b0b");
        assert_eq!(RequestId::parse("3-17-00000b0b"), Some(ID));
        for other in ["3-17-b0b", "03-17-00000b0b", "3-+17-00000b0b", "3-17-00000B0B", "3-17-00000b0b-", "17", ""] {
            assert_eq!(RequestId::parse(other), None, "{other}");
        }
        assert_eq!(RequestId::of(&raw("17")), None);
    }

    #[test]
    fn a_result_is_handed_on_byte_for_byte() {
        let line = r#"{"result": {"z":1e3, "a":12345678901234567890123} ,"id":"3-17-00000b0b","jsonrpc":"2.0"}"#;
        assert_eq!(answer(line), Ok(r#"{"z":1e3, "a":12345678901234567890123}"#.to_owned()));
    }

    #[test]
    fn a_wrong_answer_fails_its_call() {
        let check = |members: &str, part: &str| {
            let error = answer(&format!(r#"{{"id":"3-17-00000b0b"{members}}}"#)).expect_err("an error");
            assert!(error.contains(part), "{error}");
        };
        check(r#","result":{},"error":{"code":1,"message":"x"}"#, "a result and an error");
        check("", "neither");
        check(r#","result":[1]"#, "not an object");
        check(r#","result":null"#, "neither");
        check(r#","error":"no""#, "no code");
        check(r#","error":{"code":-32601,"message":"what?"}"#, "what? (code -32601)");
    }

    #[test]
    fn a_null_beside_the_answer_is_nothing() {
        assert_eq!(answer(r#"{"id":"3-17-00000b0b","result":{},"error":null}"#), Ok("{}".to_owned()));
    }

    #[test]
    fn requests_take_text_and_integer_ids_and_no_others() {
        let is_request =
            |id: &str| matches!(parse(&format!(r#"{{"id":{id},"method":"ping"}}"#)), Ok(Message::Request { .. }));
        assert!(is_request("7") && is_request("-7") && is_request("\"x\""));
        assert!(!is_request("1.5") && !is_request("1e3") && !is_request("[1]") && !is_request("true"));
    }

    #[test]
    fn lines_that_are_no_messages_say_of_what_kind_they_are() {
        let check = |line: &str, malformed| assert_eq!(parse(line).expect_err("malformed"), malformed, "{line}");
        check("hello", Malformed::NotJson);
        check(r#"{"id":"#, Malformed::NotJson);
        check(r#"[{"id":1}]"#, Malformed::Batch);
        check(r#"{"level":"info"}"#, Malformed::Shape);
        check(r#"{"method":7}"#, Malformed::Shape);
        check(r#"{"id":1,"id":2,"result":{}}"#, Malformed::Shape);
    }

    #[test]
    fn an_id_is_salvaged_from_the_outermost_object_only() {
        let find = |head: &str| salvage(head.as_bytes());
        assert_eq!(find(r#"{"jsonrpc":"2.0","id" : "3-17-00000b0b","result":{"te"#), Some(ID));
        assert_eq!(find(r#"{"result":{"id":"9-9-00000009","a":["b"]},"id":"3-17-00000b0b"}"#), Some(ID));
        assert_eq!(find(r#"{"x":"\",\"id","id":"3-17-00000b0b"#), None, "cut within the id");
        assert_eq!(find(r#"{"x":"id","y":"3-17-00000b0b""#), None);
        assert_eq!(find(r#"{"result":{"id":"3-17-00000b0b""#), None);
        assert_eq!(find(r#"{"method":"x","id":"3-17-00000b0b""#), None);
        assert_eq!(find(r#"[{"id":"3-17-00000b0b"}]"#), None);
    }

    #[test]
    fn an_id_at_the_end_is_salvaged_if_it_is_exactly_ours() {
        let find = |tail: &str| salvage_end(tail.as_bytes());
        assert_eq!(find(r#"xx"}]},"jsonrpc":"2.0","id":"3-17-00000b0b"}"#), Some(ID));
        assert_eq!(find("\"id\":\"3-17-00000b0b\" } \r"), Some(ID));
        for other in [
            r#""id":"3-17-00000b0b""#,
            r#""id":"3-17-00000b0b"}}"#,
            r#""id":"3-17-00000b0b"}]}"#,
            r#""id":"3-17-00000b0b","x":"y"}"#,
            r#"\"id\":\"3-17-00000b0b\"}"#,
            r#""id":17}"#,
            r#""id":"x"}"#,
            r#"d":"3-17-00000b0b"}"#,
            "",
        ] {
            assert_eq!(find(other), None, "{other}");
        }
    }

    #[test]
    fn a_batch_is_read_member_by_member_and_not_beyond_its_bound() {
        let read = |line: &'static str, most| {
            let (members, has_more) = batch(line, most)?;
            Some((members.iter().map(|member| member.get()).collect::<Vec<_>>(), has_more))
        };
        assert_eq!(read(r#"[ {"a":1}, 2 ]"#, 2), Some((vec![r#"{"a":1}"#, "2"], false)));
        assert_eq!(read("[1,2,3]", 2), Some((vec!["1", "2"], true)));
        assert_eq!(read("[]", 2), Some((vec![], false)));
        assert_eq!((read("[1", 2), read("[1] x", 2), read("[1,2,}", 2)), (None, None, None));
    }

    #[test]
    fn newlines_between_tokens_never_split_a_line() {
        let line =
            request(ID, "tools/call", Some(&raw("{\"a\":\r\n \"b\\n\"}")), &Additions::default()).expect("a line");
        let text = String::from_utf8(line).expect("text");
        assert_eq!(text.find('\n'), Some(text.len() - 1));
        assert!(text.ends_with("\"params\":{\"a\":   \"b\\n\"}}\n"), "{text}");
    }

    #[test]
    fn replies_echo_the_id_as_sent() {
        assert_eq!(result(&raw("\"x\""), "{}"), b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{}}\n");
        let busy = error(&raw("7"), -32000, "say \"later\"");
        assert_eq!(
            String::from_utf8(busy).expect("text"),
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32000,\"message\":\"say \\\"later\\\"\"}}\n"
        );
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused_without_panic(line in "[ -~]{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
            let _ = (salvage(&bytes), salvage_end(&bytes), batch(&line, 3));
        }

        #[test]
        fn an_id_reads_back(incarnation in 1u64.., counter: u64, nonce: u32) {
            let id = RequestId { incarnation, counter, nonce };
            prop_assert_eq!(RequestId::parse(&id.to_string()), Some(id));
            let line = request(id, "ping", None, &Additions::default()).expect("a line");
            // A request has a method before its id only if it is not ours to read.
            prop_assert_eq!(salvage(&line), Some(id));
        }
    }
}
