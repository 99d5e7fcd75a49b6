//! One tool as its server defines it: the few fields that we read, and all its bytes.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::name::{RawName, RawNameError};

/// A tool's definition. The bytes that the server sent are kept and handed on unchanged.
#[derive(Debug, Clone)]
pub struct ToolDefinition {
    /// The name that the server answers to.
    pub name: RawName,
    /// A title for people, if given.
    pub title: Option<String>,
    /// What the tool does, in the server's words. A model rarely picks a tool without one.
    pub description: Option<String>,
    /// The JSON Schema of the arguments: an object, byte for byte as sent.
    pub input_schema: Box<RawValue>,
    /// What the server claims about the tool's effects.
    pub hints: Hints,
    /// The whole definition, byte for byte as sent.
    pub raw: Box<RawValue>,
}

/// A server's claims about a tool. They are hints: nothing relies on them unless the operator marked them trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hints {
    /// The tool changes nothing.
    pub read_only_hint: Option<bool>,
    /// Calling it again with the same arguments changes nothing more.
    pub idempotent_hint: Option<bool>,
    /// The tool may destroy something.
    pub destructive_hint: Option<bool>,
}

/// Why one tool is refused. The others of its server are not touched by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The definition is not an object with the fields that MCP requires.
    #[error("the definition is malformed: {0}")]
    Malformed(String),
    /// The name breaks MCP's rule.
    #[error("the name {name:?} is not allowed: {source}")]
    Name {
        /// The name as sent, cut.
        name: String,
        /// The rule that it breaks.
        source: RawNameError,
    },
    /// `inputSchema` is not a JSON object.
    #[error("inputSchema is not an object")]
    Schema,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    name: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow)]
    input_schema: &'a RawValue,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

impl ToolDefinition {
    /// Reads one item of a `tools/list` result. Errors: what makes this one tool unusable.
    pub fn parse(raw: &RawValue) -> Result<Self, ToolError> {
        let wire: Wire<'_> =
            serde_json::from_str(raw.get()).map_err(|error| ToolError::Malformed(cut(&error.to_string())))?;
        let name = RawName::new(&wire.name).map_err(|source| ToolError::Name { name: cut(&wire.name), source })?;
        if !wire.input_schema.get().starts_with('{') {
            return Err(ToolError::Schema);
        }
        // Annotations of an unexpected shape are hints that we do not understand: ignored, never an error.
        let hints =
            wire.annotations.and_then(|annotations| serde_json::from_str(annotations.get()).ok()).unwrap_or_default();
        Ok(Self {
            name,
            title: wire.title,
            description: wire.description,
            input_schema: wire.input_schema.to_owned(),
            hints,
            raw: raw.to_owned(),
        })
    }
}

/// At most 200 characters of a foreign text: an error must not carry a whole hostile definition.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A tool in the merged namespace, as conversations and gateways see it.
#[derive(Debug, Clone)]
pub struct OfferedTool {
    /// The name in the namespace.
    pub name: crate::OfferedName,
    /// The server that owns it.
    pub server: crate::ServerId,
    /// What the server says of it.
    pub definition: Arc<ToolDefinition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ToolDefinition, ToolError> {
        ToolDefinition::parse(&RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    #[test]
    fn a_definition_keeps_its_bytes() {
        let text = r#"{"name":"add","inputSchema":{"type":"object","z":1e3, "a":12345678901234567890},"x-vendor":{"b":1,"a":2},"annotations":{"readOnlyHint":true}}"#;
        let tool = parse(text).expect("a tool");
        assert_eq!(tool.raw.get(), text);
        assert_eq!(tool.input_schema.get(), r#"{"type":"object","z":1e3, "a":12345678901234567890}"#);
        assert_eq!(tool.hints.read_only_hint, Some(true));
    }

    #[test]
    fn a_bad_definition_says_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = parse(text).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        };
        check(r#"{"name":"add"}"#, "inputSchema");
        check(r#"{"name":"add","inputSchema":[]}"#, "not an object");
        check(r#"{"name":"a b","inputSchema":{}}"#, "not allowed");
        check("[]", "malformed");
    }

    #[test]
    fn an_error_does_not_carry_the_definition() {
        let error = parse(&format!(r#""{}""#, "x".repeat(1 << 20))).expect_err("refused").to_string();
        assert!(error.len() < 300, "{}", error.len());
    }

    #[test]
    fn odd_annotations_do_not_hide_a_tool() {
        let tool = parse(r#"{"name":"a","inputSchema":{},"annotations":[1]}"#).expect("a tool");
        assert_eq!(tool.hints, Hints::default());
    }
}
