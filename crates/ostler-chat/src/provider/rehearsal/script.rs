//! The script file's shape, and the check that turns it into something that can be played.
//!
//! All errors of a script are found at once. A checked script refers to nothing that does not exist; which tools are
//! on offer is only known when it is played.

use std::collections::{BTreeMap, BTreeSet};

use ostler_core::port::ModelError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::pattern::{Template, is_name};

/// A script as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The scenes; the first that fits a prompt is played.
    #[serde(rename = "scene", default)]
    pub scenes: Vec<Scene>,
}

/// What to do for one kind of prompt.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The prompt, with `{captures}`.
    pub prompt: String,
    /// The assistant's turns before the answer.
    #[serde(rename = "step", default)]
    pub steps: Vec<Step>,
    /// The answer, with references to captures and results.
    pub answer: String,
    /// The answer if a call fails, with references to captures, `{tool}` and `{error}`.
    pub on_error: Option<String>,
}

/// One turn of the assistant: its calls are made at the same time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The calls.
    pub calls: Vec<Call>,
}

/// One tool call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// What its result is referred to by.
    pub id: String,
    /// The tool's offered name.
    pub tool: String,
    /// The arguments; texts in them may refer to captures and earlier results.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// A scene that was checked.
pub(super) struct CheckedScene {
    pub(super) prompt: Template,
    pub(super) steps: Vec<Vec<CheckedCall>>,
    pub(super) answer: Template,
    pub(super) on_error: Option<Template>,
}

/// A call that was checked.
pub(super) struct CheckedCall {
    pub(super) id: String,
    pub(super) tool: String,
    pub(super) arguments: BTreeMap<String, Argument>,
}

/// An argument with its texts read.
pub(super) enum Argument {
    Text(Template),
    List(Vec<Argument>),
    Object(BTreeMap<String, Argument>),
    Fixed(Value),
}

/// Checks a whole script. Errors: [`ModelError::Config`] with every mistake, a line each.
pub(super) fn check(script: Script, source: &str) -> Result<Vec<CheckedScene>, ModelError> {
    let mut mistakes = Vec::new();
    if script.scenes.is_empty() {
        mistakes.push("it has no scene; add a [[scene]] with 'prompt' and 'answer'".to_owned());
    }
    let mut scenes = Vec::with_capacity(script.scenes.len());
    for (index, scene) in script.scenes.into_iter().enumerate() {
        let mut checker = Checker { place: format!("scene {}", index + 1), mistakes: &mut mistakes };
        scenes.push(checker.scene(scene));
    }
    if mistakes.is_empty() {
        return Ok(scenes);
    }
    Err(ModelError::Config(format!("the rehearsal script {source} cannot be played:\n  {}", mistakes.join("\n  "))))
}

struct Checker<'a> {
    place: String,
    mistakes: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn scene(&mut self, scene: Scene) -> CheckedScene {
        let prompt = self.template(&scene.prompt);
        let mut known = BTreeSet::new();
        for name in prompt.names() {
            if !known.insert(name.to_owned()) {
                self.mistake(&format!("the prompt captures '{name}' twice"));
            }
        }
        let captures = known.clone();
        let mut steps = Vec::with_capacity(scene.steps.len());
        for step in scene.steps {
            if step.calls.is_empty() {
                self.mistake("a step has no calls");
            }
            let calls: Vec<CheckedCall> = step.calls.into_iter().map(|call| self.call(call, &known)).collect();
            // The calls of one step run at the same time, so their results are known to later steps only.
            for call in &calls {
                if !is_name(&call.id) || matches!(call.id.as_str(), "tool" | "error") {
                    self.mistake(&format!("'{}' cannot be a call's id: use a-z, 0-9 and '_'", call.id));
                }
                if !known.insert(call.id.clone()) {
                    self.mistake(&format!("the name '{}' is used twice", call.id));
                }
            }
            steps.push(calls);
        }
        let answer = self.template(&scene.answer);
        self.refer("the answer", answer.names(), &known);
        let on_error = scene.on_error.as_deref().map(|text| self.template(text));
        if let Some(template) = &on_error {
            let mut names = captures;
            names.extend(["tool".to_owned(), "error".to_owned()]);
            self.refer("on_error", template.names(), &names);
        }
        CheckedScene { prompt, steps, answer, on_error }
    }

    fn call(&mut self, call: Call, known: &BTreeSet<String>) -> CheckedCall {
        let Call { id, tool, arguments } = call;
        let arguments = self.object(arguments);
        let mut names = Vec::new();
        for argument in arguments.values() {
            argument.names(&mut names);
        }
        self.refer(&format!("the call '{id}'"), names.into_iter(), known);
        CheckedCall { id, tool, arguments }
    }

    fn object(&mut self, object: Map<String, Value>) -> BTreeMap<String, Argument> {
        object.into_iter().map(|(name, value)| (name, self.argument(value))).collect()
    }

    fn argument(&mut self, value: Value) -> Argument {
        match value {
            Value::String(text) => Argument::Text(self.template(&text)),
            Value::Array(values) => Argument::List(values.into_iter().map(|value| self.argument(value)).collect()),
            Value::Object(object) => Argument::Object(self.object(object)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Argument::Fixed(value),
        }
    }

    fn template(&mut self, text: &str) -> Template {
        Template::parse(text).unwrap_or_else(|mistake| {
            self.mistake(&mistake);
            Template::default()
        })
    }

    fn refer<'a>(&mut self, who: &str, names: impl Iterator<Item = &'a str>, known: &BTreeSet<String>) {
        for name in names.filter(|name| !known.contains(*name)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            self.mistake(&format!("{who} refers to '{name}', which is not known there; known: {}", known.join(", ")));
        }
    }

    fn mistake(&mut self, what: &str) {
        self.mistakes.push(format!("{}: {what}", self.place));
    }
}

impl Argument {
    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Text(template) => names.extend(template.names()),
            Self::List(items) => items.iter().for_each(|item| item.names(names)),
            Self::Object(fields) => fields.values().for_each(|field| field.names(names)),
            Self::Fixed(_) => {}
        }
    }
}
