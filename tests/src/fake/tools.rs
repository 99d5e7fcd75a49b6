//! The tools of the fake server: what it lists and what a call of each gives.

use std::collections::BTreeMap;
use std::env;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::options::Options;

/// What the tools remember between calls.
#[derive(Default)]
pub(super) struct Tools {
    notes: Mutex<BTreeMap<String, String>>,
    extra: AtomicU64,
}

/// What a call of a tool gives, apart from `slow`, which the session handles.
pub(super) struct ToolResult {
    pub(super) text: String,
    pub(super) is_error: bool,
}

impl Tools {
    /// The list, with what `--list-changed` has added and what `--bad-tool` adds.
    pub(super) fn list(&self, options: &Options) -> Vec<Value> {
        let mut tools = vec![
            tool("echo", "Gives the text back.", &json!({"text": {"type": "string"}})),
            tool("multiply", "Multiplies a by b.", &json!({"a": {"type": "number"}, "b": {"type": "number"}})),
            tool("save", "Keeps a text under a key.", &json!({"key": {"type": "string"}, "value": {"type": "string"}})),
            tool("recall", "Gives back what was kept under a key.", &json!({"key": {"type": "string"}})),
            tool("slow", "Answers after so many milliseconds.", &json!({"ms": {"type": "integer"}})),
            tool("pid", "The id of the server's process.", &json!({})),
            tool("env", "One variable of the server's environment.", &json!({"name": {"type": "string"}})),
        ];
        let more = options.number("more-tools").unwrap_or(0);
        for number in 1..=more + self.extra.load(Ordering::SeqCst) {
            tools.push(tool(&format!("extra_{number}"), "Came later.", &json!({})));
        }
        if options.has("bad-tool") {
            tools.insert(1, json!({"description": "a tool without a name", "inputSchema": {"type": "object"}}));
            tools.insert(3, json!({"name": "no_schema", "inputSchema": 7}));
            tools.push(json!({"name": "spaces in the name", "inputSchema": {"type": "object"}}));
        }
        tools
    }

    pub(super) fn add_one(&self) {
        self.extra.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs `name`. `None` if there is no such tool.
    pub(super) fn call(&self, name: &str, arguments: &Value, options: &Options) -> Option<ToolResult> {
        let argument = |key: &str| match arguments.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let good = |text: String| ToolResult { text, is_error: false };
        let result = match name {
            "echo" => good(argument("text")),
            "multiply" => match options.number("product") {
                Some(product) => good(product.to_string()),
                None => product(arguments),
            },
            "save" => {
                let (key, value) = (argument("key"), argument("value"));
                let answer = format!("saved '{value}' under '{key}'");
                self.notes.lock().expect("no tool panics").insert(key, value);
                good(answer)
            }
            "recall" => match self.notes.lock().expect("no tool panics").get(&argument("key")) {
                Some(value) => good(value.clone()),
                None => bad(format!("nothing is saved under '{}'", argument("key"))),
            },
            "pid" => good(process::id().to_string()),
            "env" => match env::var(argument("name")) {
                Ok(value) => good(value),
                Err(_) => bad("unset".to_owned()),
            },
            other if other.starts_with("extra_") => good(format!("{other} was called")),
            _ => return None,
        };
        Some(result)
    }
}

fn bad(text: String) -> ToolResult {
    ToolResult { text, is_error: true }
}

fn product(arguments: &Value) -> ToolResult {
    let factor = |key: &str| arguments.get(key).and_then(Value::as_f64);
    let (Some(a), Some(b)) = (factor("a"), factor("b")) else {
        return bad("multiply needs two numbers, a and b".to_owned());
    };
    ToolResult { text: (a * b).to_string(), is_error: false }
}

fn tool(name: &str, description: &str, properties: &Value) -> Value {
    let required: Vec<String> =
        properties.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
    json!({
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": required},
    })
}
