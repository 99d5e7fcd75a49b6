//! What a server says of itself when a session begins, in either era: read tolerantly, kept raw.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::envelope;
use crate::meta::{Members, SERVER_INFO};
use crate::revision::Revision;

/// What a session rests on.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) revision: &'static Revision,
    pub(crate) capabilities: Option<Arc<RawValue>>,
    pub(crate) server_name: Option<String>,
    pub(crate) server_version: Option<String>,
    pub(crate) instructions: Option<String>,
}

/// What the capabilities declare, of what we use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) tools: Option<List>,
    pub(crate) resources: Option<List>,
    pub(crate) prompts: Option<List>,
}

/// One declared list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct List {
    /// Whether the server says when it changes.
    pub(crate) list_changed: bool,
}

/// The versions in a list that may hold anything.
pub(crate) fn versions(raw: Option<&RawValue>) -> Vec<String> {
    let items: Vec<&RawValue> = raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    items.into_iter().filter_map(envelope::text).map(std::borrow::Cow::into_owned).collect()
}

/// The result of `initialize`: the version as text, and the rest once the version is known to be ours.
pub(crate) fn initialized(result: &RawValue) -> Option<(String, impl FnOnce(&'static Revision) -> Greeting)> {
    let members: Members<'_> = serde_json::from_str(result.get()).ok()?;
    let version = envelope::text(members.get("protocolVersion")?)?.into_owned();
    Some((version, move |revision| {
        let info = members.get("serverInfo");
        read(revision, &members, info)
    }))
}

/// The result of `server/discover`: the supported versions, and the rest once one is chosen.
pub(crate) fn discovered(result: &RawValue) -> Option<(Vec<String>, impl FnOnce(&'static Revision) -> Greeting)> {
    let members: Members<'_> = serde_json::from_str(result.get()).ok()?;
    let supported = versions(Some(members.get("supportedVersions")?));
    Some((supported, move |revision| {
        let meta: Members<'_> =
            members.get("_meta").and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default();
        let info = meta.get(SERVER_INFO).or_else(|| members.get("serverInfo"));
        read(revision, &members, info)
    }))
}

fn read(revision: &'static Revision, members: &Members<'_>, info: Option<&RawValue>) -> Greeting {
    let info: Members<'_> = info.and_then(|info| serde_json::from_str(info.get()).ok()).unwrap_or_default();
    let owned = |raw: Option<&RawValue>| raw.and_then(envelope::text).map(std::borrow::Cow::into_owned);
    Greeting {
        revision,
        capabilities: members.get("capabilities").map(|raw| Arc::from(raw.to_owned())),
        server_name: owned(info.get("name")),
        server_version: owned(info.get("version")),
        instructions: owned(members.get("instructions")),
    }
}

impl Greeting {
    /// What the capabilities declare. A capability of an odd shape is declared all the same.
    pub(crate) fn declared(&self) -> Declared {
        let capabilities = self.capabilities.as_deref().map_or("{}", RawValue::get);
        let members: Members<'_> = serde_json::from_str(capabilities).unwrap_or_default();
        let list = |name: &str| {
            let raw = members.get(name).filter(|raw| !matches!(raw.get(), "null" | "false"))?;
            Some(serde_json::from_str(raw.get()).unwrap_or_default())
        };
        Declared { tools: list("tools"), resources: list("resources"), prompts: list("prompts") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::{NEWEST_LEGACY, NEWEST_MODERN};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn an_initialize_result_is_read_and_its_capabilities_are_kept() {
        let result = raw(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"prompts":{}, "x":1e2},
                "serverInfo":{"name":"n","version":7},"instructions":"be kind"}"#,
        );
        let (version, greet) = initialized(&result).expect("a result");
        let greeting = greet(NEWEST_LEGACY);
        assert_eq!(version, "2025-06-18");
        assert_eq!(greeting.server_name.as_deref(), Some("n"));
        assert_eq!(greeting.server_version, None, "not a text");
        assert_eq!(greeting.instructions.as_deref(), Some("be kind"));
        let declared = greeting.declared();
        assert_eq!(declared.tools, Some(List { list_changed: true }));
        assert_eq!(declared.prompts, Some(List { list_changed: false }));
        assert_eq!(declared.resources, None);
        assert!(greeting.capabilities.expect("kept").get().ends_with(r#""x":1e2}"#));
    }

    #[test]
    fn a_discover_result_names_the_server_in_its_meta() {
        let result =
            raw(r#"{"resultType":"complete","supportedVersions":["2026-07-28",3],"capabilities":{"tools":true},
                "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"m","version":"1"}}}"#);
        let (supported, greet) = discovered(&result).expect("a result");
        let greeting = greet(NEWEST_MODERN);
        assert_eq!(supported, ["2026-07-28"]);
        assert_eq!(greeting.server_name.as_deref(), Some("m"));
        assert_eq!(greeting.declared().tools, Some(List::default()));
    }

    #[test]
    fn what_is_no_greeting_is_none() {
        assert!(initialized(&raw(r#"{"protocolVersion":1}"#)).is_none());
        assert!(discovered(&raw("{}")).is_none());
    }
}
