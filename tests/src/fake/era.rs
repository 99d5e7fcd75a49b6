//! What differs between the protocol's eras, as data: how a session opens and what a request and a result carry.

use serde_json::{Value, json};

use super::options::Options;

pub(super) const META: &str = "io.modelcontextprotocol";
pub(super) const INVALID_PARAMS: i64 = -32602;

const MODERN: &str = "2026-07-28";
const LEGACY: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const UNSUPPORTED_REVISION: i64 = -32022;

/// The result of `initialize`: the revision asked for, if we know it, else our newest.
pub(super) fn initialized(options: &Options, params: &Value) -> Value {
    let wanted = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let revision = match options.text("era") {
        Some("2024-11-05") => "2024-11-05",
        _ if LEGACY.contains(&wanted) => wanted,
        _ => LEGACY[0],
    };
    json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {"listChanged": true}, "logging": {}},
        "serverInfo": {"name": "fake_server", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "Expect anything.",
    })
}

/// The result of `server/discover`.
pub(super) fn discovered() -> Value {
    json!({
        "supportedVersions": [MODERN],
        "capabilities": {"tools": {"listChanged": true}},
        "instructions": "Expect anything.",
    })
}

/// Adds what the modern era wants in every result.
pub(super) fn completed(mut result: Value) -> Value {
    result["resultType"] = json!("complete");
    result["ttlMs"] = json!(0);
    result["cacheScope"] = json!("private");
    result["_meta"] = json!({
        format!("{META}/serverInfo"): {"name": "fake_server", "version": env!("CARGO_PKG_VERSION")},
    });
    result
}

/// What the modern era demands of every request: who speaks which revision, and what the speaker can do.
pub(super) fn check_meta(params: &Value) -> Result<(), (i64, &'static str, Value)> {
    let Some(meta) = params.get("_meta").and_then(Value::as_object) else {
        return Err((INVALID_PARAMS, "_meta is missing", Value::Null));
    };
    let Some(revision) = meta.get(&format!("{META}/protocolVersion")).and_then(Value::as_str) else {
        return Err((INVALID_PARAMS, "_meta lacks the protocol version", Value::Null));
    };
    if revision != MODERN {
        return Err((UNSUPPORTED_REVISION, "unsupported protocol version", json!({"supported": [MODERN]})));
    }
    if !meta.get(&format!("{META}/clientCapabilities")).is_some_and(Value::is_object) {
        return Err((INVALID_PARAMS, "_meta lacks the client's capabilities", Value::Null));
    }
    Ok(())
}
