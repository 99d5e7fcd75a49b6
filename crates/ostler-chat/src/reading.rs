//! How a model reads what came of a tool call: one text and whether it is an error.
//!
//! It understands MCP's `CallToolResult` as data and nothing else of MCP. Text is passed on, what is not text becomes
//! one line that says what it was, and a failure says its code, what happened and whether the tool may have run.

use ostler_core::CallError;
use ostler_core::port::Outcome;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How much of a tool's text a model gets, in bytes.
pub const MAX_CONTENT: usize = 256 * 1024;

/// What stands for a result without content.
pub const NO_OUTPUT: &str = "(no output)";

/// A tool's answer as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The text, at most [`MAX_CONTENT`] bytes and a remark that it was cut.
    pub content: String,
    /// Whether the call or the tool failed.
    pub is_error: bool,
    /// The metric outcome: `ok`, `tool_error`, or that of the [`CallError`].
    pub outcome: &'static str,
}

/// Reads how a call ended.
pub fn read(result: &Result<Outcome, CallError>) -> Reading {
    match result {
        Ok(Outcome::Raw(raw)) => read_result(raw),
        Ok(Outcome::InputRequired(_)) => {
            refused("the server asks for further input, which cannot be given in this conversation")
        }
        Ok(Outcome::Task(_)) => refused("the server made a background task of the call, which cannot be followed here"),
        Err(error) => {
            let code = error.code();
            Reading { content: cut(format!("{code}: {error}")), is_error: true, outcome: error.outcome() }
        }
    }
}

fn refused(why: &str) -> Reading {
    Reading { content: format!("unsupported: {why}"), is_error: true, outcome: "error" }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    structured_content: Option<&'a RawValue>,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    r#type: Option<String>,
    text: Option<String>,
    data: Option<String>,
    mime_type: Option<String>,
    name: Option<String>,
    uri: Option<String>,
    resource: Option<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    uri: Option<String>,
    mime_type: Option<String>,
    text: Option<String>,
    blob: Option<String>,
}

fn read_result(raw: &RawValue) -> Reading {
    let Some(wire) = object::<Wire<'_>>(raw) else {
        let content = "protocol: the server's result is not a tool result".to_owned();
        return Reading { content, is_error: true, outcome: "error" };
    };
    let blocks: Vec<Option<Content>> = wire.content.unwrap_or_default().into_iter().map(object::<Content>).collect();
    let has_text = blocks.iter().flatten().any(|block| block.text.is_some() && is(block, "text"));
    let mut lines: Vec<String> = Vec::with_capacity(blocks.len() + 1);
    if let (false, Some(structured)) = (has_text, wire.structured_content) {
        lines.push(structured.get().to_owned());
    }
    lines.extend(blocks.into_iter().map(|block| block.map_or_else(|| "[unreadable content]".to_owned(), line)));
    let content = lines.join("\n");
    let content = if content.is_empty() { NO_OUTPUT.to_owned() } else { cut(content) };
    let is_error = wire.is_error.unwrap_or(false);
    Reading { content, is_error, outcome: if is_error { "tool_error" } else { "ok" } }
}

/// Reads a JSON object. An array, which serde would take for a struct's fields in order, is none.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    if raw.get().starts_with('{') { serde_json::from_str(raw.get()).ok() } else { None }
}

fn is(block: &Content, kind: &str) -> bool {
    block.r#type.as_deref() == Some(kind)
}

/// One block as text. A resource's text is kept below the line that names it: some servers answer with nothing else.
fn line(block: Content) -> String {
    let kind = block.r#type.clone().unwrap_or_else(|| "untyped".to_owned());
    match (kind.as_str(), block) {
        ("text", Content { text: Some(text), .. }) => text,
        ("resource", Content { resource: Some(resource), .. }) => {
            let size = resource.text.as_ref().map(String::len).or(resource.blob.as_deref().map(decoded_len));
            let head = label("resource", [resource.uri, resource.mime_type], size);
            match resource.text {
                Some(text) => format!("{head}\n{text}"),
                None => head,
            }
        }
        (_, block) => {
            let size = block.data.as_deref().map(decoded_len);
            label(&kind, [block.name.or(block.uri), block.mime_type], size)
        }
    }
}

fn label(kind: &str, details: [Option<String>; 2], size: Option<usize>) -> String {
    let mut words = vec![kind.to_owned()];
    words.extend(details.into_iter().flatten());
    let text = words.join(" ");
    match size {
        Some(size) => format!("[{text}, {size} bytes]"),
        None => format!("[{text}]"),
    }
}

/// The size of what a base64 text stands for.
fn decoded_len(base64: &str) -> usize {
    let digits = base64.trim_end_matches('=').len();
    digits * 3 / 4
}

fn cut(mut text: String) -> String {
    let whole = text.len();
    if whole > MAX_CONTENT {
        text.truncate(text.floor_char_boundary(MAX_CONTENT));
        let rest = whole - text.len();
        text.push_str("\n[cut: ");
        text.push_str(&rest.to_string());
        text.push_str(" more bytes]");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(json: &str) -> Reading {
        read(&Ok(Outcome::Raw(RawValue::from_string(json.to_owned()).expect("JSON"))))
    }

    #[test]
    fn a_result_becomes_one_text() {
        let check = |json: &str, content: &str, is_error: bool| {
            let outcome = if is_error { "tool_error" } else { "ok" };
            assert_eq!(reading(json), Reading { content: content.to_owned(), is_error, outcome }, "{json}");
        };
        check(r#"{"content":[{"type":"text","text":"391"}]}"#, "391", false);
        check(r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#, "a\nb", false);
        check(r#"{"content":[]}"#, NO_OUTPUT, false);
        check("{}", NO_OUTPUT, false);
        check(r#"{"content":[{"type":"text","text":""}]}"#, NO_OUTPUT, false);
        check(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#, "no", true);
        check(r#"{"content":[],"structuredContent":{"z":1, "a":2}}"#, r#"{"z":1, "a":2}"#, false);
        check(r#"{"content":[{"type":"text","text":"t"}],"structuredContent":{"z":1}}"#, "t", false);
    }

    #[test]
    fn what_is_not_text_becomes_one_line() {
        let check = |block: &str, line: &str| {
            let json = format!(r#"{{"content":[{{"type":"text","text":"t"}},{block}]}}"#);
            assert_eq!(reading(&json).content, format!("t\n{line}"));
        };
        check(r#"{"type":"image","mimeType":"image/png","data":"AAAA"}"#, "[image image/png, 3 bytes]");
        check(r#"{"type":"audio","mimeType":"audio/wav","data":"AAA="}"#, "[audio audio/wav, 2 bytes]");
        check(
            r#"{"type":"resource_link","uri":"file:///a","name":"a","mimeType":"text/plain"}"#,
            "[resource_link a text/plain]",
        );
        check(r#"{"type":"resource","resource":{"uri":"x:1","blob":"AA=="}}"#, "[resource x:1, 1 bytes]");
        check(r#"{"type":"resource","resource":{"uri":"x:1","text":"hi"}}"#, "[resource x:1, 2 bytes]\nhi");
        check(r#"{"type":"hologram","text":5}"#, "[unreadable content]");
        check(r#"{"type":"hologram"}"#, "[hologram]");
        check("7", "[unreadable content]");
    }

    #[test]
    fn a_failure_says_its_code_and_what_happened() {
        let check = |error: CallError, content: &str, outcome: &'static str| {
            assert_eq!(read(&Err(error)), Reading { content: content.to_owned(), is_error: true, outcome });
        };
        check(
            CallError::UnknownTool { name: "a__b".into(), hint: String::new() },
            "unknown_tool: no tool is called 'a__b'",
            "rejected",
        );
        check(
            CallError::TimedOut { after: Duration::from_secs(1) },
            "timed_out: no answer within 1000 ms; the call may have run",
            "timeout",
        );
        check(
            CallError::ServerLost { why: "it exited".into(), may_have_run: false },
            "server_lost: the server was lost: it exited; the call was not sent",
            "lost",
        );
        assert_eq!(reading("[]").outcome, "error");
        assert!(reading(r#"{"content":7}"#).content.starts_with("protocol: "));
    }

    #[test]
    fn a_huge_text_is_cut_at_a_character() {
        let text = format!("x{}", "é".repeat(MAX_CONTENT));
        let reading = reading(&format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#));
        assert!(reading.content.ends_with(&format!("[cut: {} more bytes]", text.len() - MAX_CONTENT + 1)));
    }
}
