//! A tool's result as plain text.

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    content: Vec<Item>,
    #[serde(default, rename = "structuredContent")]
    structured: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default, rename = "mimeType")]
    mime_type: Option<String>,
    #[serde(default)]
    uri: Option<String>,
}

/// The text blocks one after another; what is no text is named. Anything unexpected is shown as it came.
pub(crate) fn plain(result: &RawValue) -> String {
    let Ok(answer) = serde_json::from_str::<Answer>(result.get()) else { return result.get().to_owned() };
    if answer.content.is_empty() {
        return answer.structured.map_or_else(|| "(no output)".to_owned(), |value| value.to_string());
    }
    answer.content.into_iter().map(block).collect::<Vec<_>>().join("\n")
}

fn block(item: Item) -> String {
    item.text.unwrap_or_else(|| {
        let what = item.uri.or(item.mime_type).unwrap_or_else(|| "use --json to see it".to_owned());
        format!("[{}: {what}]", item.kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fake::raw;

    #[test]
    fn a_result_is_its_text() {
        let check = |result: &str, expected: &str| assert_eq!(plain(&raw(result)), expected);
        check(r#"{"content":[{"type":"text","text":"391"}]}"#, "391");
        check(r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b\nc"}]}"#, "a\nb\nc");
        check(r#"{"content":[{"type":"image","data":"AAAA","mimeType":"image/png"}]}"#, "[image: image/png]");
        check(r#"{"content":[{"type":"resource_link","uri":"file:///a"}]}"#, "[resource_link: file:///a]");
        check(r#"{"content":[],"structuredContent":{"n":1}}"#, r#"{"n":1}"#);
        check(r#"{"content":[]}"#, "(no output)");
        check("[1]", "[1]");
    }
}
