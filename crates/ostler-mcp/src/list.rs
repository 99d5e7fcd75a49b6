//! Reads a server's lists, page by page and within bounds. Each tool is read on its own: a bad one hides no other, and a
//! list that is not the tools' keeps nobody waiting for long.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::catalogue::{Catalogue, Kind, RefusedTool};
use ostler_core::tool::{ToolDefinition, ToolError};
use ostler_telemetry::log::line;
use serde_json::value::RawValue;

use crate::clock;
use crate::envelope;
use crate::error::QUOTE;
use crate::greeting::Declared;
use crate::life::Life;
use crate::limit::Limits;
use crate::meta::Members;
use crate::revision::Revision;

/// How many tools are read before others of this thread get their turn.
const TOOLS_AT_ONCE: usize = 64;

/// How long a list may take, with all its pages, without which a server is of use.
const OPTIONAL_WINDOW: Duration = Duration::from_secs(5);

/// The longest cursor that is sent back, in bytes as it stands in the message.
const CURSOR_BYTES: usize = 4 << 10;

/// Reads lists of one life.
pub(crate) struct Lister<'a> {
    pub(crate) life: &'a Life,
    pub(crate) revision: &'static Revision,
    pub(crate) declared: Declared,
    pub(crate) limits: Limits,
    pub(crate) deadline: Instant,
}

/// The freshly read lists of one kind.
pub(crate) enum Listed {
    Tools(Vec<Arc<ToolDefinition>>, Vec<RefusedTool>),
    /// Resources and their templates; none if the templates could not be read.
    Resources(Vec<Box<RawValue>>, Option<Vec<Box<RawValue>>>),
    Prompts(Vec<Box<RawValue>>),
}

impl Listed {
    /// Puts the lists in the place of the old ones. What could not be read stays as it was.
    pub(crate) fn put(self, catalogue: &mut Catalogue) {
        match self {
            Self::Tools(tools, refused) => {
                catalogue.tools = tools;
                catalogue.refused = refused;
            }
            Self::Resources(resources, templates) => {
                catalogue.resources = resources;
                if let Some(templates) = templates {
                    catalogue.templates = templates;
                }
            }
            Self::Prompts(prompts) => catalogue.prompts = prompts,
        }
    }
}

impl Lister<'_> {
    /// Reads everything that is declared. Only the tools must be readable; the rest is left empty if it is not, or not
    /// soon, until the server says that it has changed.
    pub(crate) async fn all(&self, instructions: Option<String>) -> Result<Catalogue, CallError> {
        let optional = self.optional();
        let (tools, resources, prompts) =
            tokio::join!(self.one(Kind::Tools), optional.one(Kind::Resources), optional.one(Kind::Prompts));
        let mut catalogue = Catalogue { instructions, ..Catalogue::default() };
        tools?.put(&mut catalogue);
        for (kind, listed) in [("resources", resources), ("prompts", prompts)] {
            match listed {
                Ok(listed) => listed.put(&mut catalogue),
                // Without the incarnation there is nothing to serve; the tools would have said so a moment later.
                Err(lost @ CallError::ServerLost { .. }) => return Err(lost),
                Err(error) => self.miss(kind, &error),
            }
        }
        Ok(catalogue)
    }

    /// The same with less patience.
    fn optional(&self) -> Self {
        Self { deadline: self.deadline.min(clock::now() + OPTIONAL_WINDOW), ..*self }
    }

    /// Counts a list that cannot be read.
    fn miss(&self, list: &'static str, error: &CallError) {
        let shared = self.life.session().shared();
        shared.meter().violation("missing_list");
        let error = line(&error.to_string(), QUOTE);
        tracing::warn!(server.id = %shared.server(), list, error, "a list cannot be read and stays as it was");
    }

    /// Reads one kind; empty if it is not declared.
    pub(crate) async fn one(&self, kind: Kind) -> Result<Listed, CallError> {
        match kind {
            Kind::Tools if self.declared.tools.is_none() => Ok(Listed::Tools(Vec::new(), Vec::new())),
            Kind::Tools => {
                let (tools, refused) = parse_tools(self.pages("tools/list", "tools").await?).await;
                if let Some(first) = refused.first() {
                    let server = self.life.session().shared().server();
                    let error = line(&first.reason.to_string(), QUOTE);
                    let count = refused.len();
                    tracing::warn!(server.id = %server, count, position = first.position, error, "tools are refused");
                }
                Ok(Listed::Tools(tools, refused))
            }
            Kind::Resources if self.declared.resources.is_none() => Ok(Listed::Resources(Vec::new(), None)),
            Kind::Resources => {
                let optional = self.optional();
                let (resources, templates) = tokio::join!(
                    self.pages("resources/list", "resources"),
                    optional.pages("resources/templates/list", "resourceTemplates"),
                );
                let resources = resources?;
                let templates = match templates {
                    Ok(templates) => Some(templates),
                    // Templates came later than resources, and many servers refuse to list them.
                    Err(CallError::Remote { .. }) => Some(Vec::new()),
                    Err(lost @ CallError::ServerLost { .. }) => return Err(lost),
                    Err(error) => {
                        self.miss("resource templates", &error);
                        None
                    }
                };
                Ok(Listed::Resources(resources, templates))
            }
            Kind::Prompts if self.declared.prompts.is_none() => Ok(Listed::Prompts(Vec::new())),
            Kind::Prompts => Ok(Listed::Prompts(self.pages("prompts/list", "prompts").await?)),
        }
    }

    /// All items of one list. A list that goes on beyond the bounds, or in a circle, ends there with a violation.
    async fn pages(&self, method: &'static str, key: &'static str) -> Result<Vec<Box<RawValue>>, CallError> {
        let deadline = self.deadline.min(clock::now() + self.limits.list_window);
        let meter = self.life.session().shared().meter();
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..self.limits.pages {
            let params = cursor.as_ref().map(|cursor| format!(r#"{{"cursor":{cursor}}}"#));
            let page = self.life.ask(method, params, self.revision, deadline).await?;
            let members: Members<'_> = serde_json::from_str(page.get())
                .map_err(|_| envelope::protocol(format!("the result of {method} is not an object")))?;
            let list: Vec<&RawValue> = members
                .get(key)
                .and_then(|list| serde_json::from_str(list.get()).ok())
                .ok_or_else(|| envelope::protocol(format!("the result of {method} has no list '{key}'")))?;
            for item in list {
                if items.len() == self.limits.items {
                    meter.violation("too_many_items");
                    return Ok(items);
                }
                bytes += item.get().len();
                if bytes > self.limits.list_bytes {
                    meter.violation("list_too_large");
                    return Ok(items);
                }
                items.push(item.to_owned());
            }
            match members.get("nextCursor") {
                None => return Ok(items),
                Some(next) if next.get() == "null" => return Ok(items),
                Some(next) if is_cursor(next) && seen.insert(next.get().to_owned()) => {
                    cursor = Some(next.get().to_owned());
                }
                Some(_) => {
                    meter.violation("cursor");
                    return Ok(items);
                }
            }
        }
        meter.violation("too_many_pages");
        Ok(items)
    }
}

fn is_cursor(next: &RawValue) -> bool {
    next.get().starts_with('"') && next.get().len() <= CURSOR_BYTES
}

async fn parse_tools(items: Vec<Box<RawValue>>) -> (Vec<Arc<ToolDefinition>>, Vec<RefusedTool>) {
    let mut tools: Vec<Arc<ToolDefinition>> = Vec::with_capacity(items.len());
    let mut refused = Vec::new();
    let mut names = HashSet::new();
    for (position, item) in items.iter().enumerate() {
        match ToolDefinition::parse(item) {
            Ok(tool) if names.insert(tool.name.clone()) => tools.push(Arc::new(tool)),
            Ok(tool) => {
                let reason = ToolError::Malformed(format!("'{}' is listed twice", tool.name));
                refused.push(RefusedTool { position, reason });
            }
            Err(reason) => refused.push(RefusedTool { position, reason }),
        }
        if position % TOOLS_AT_ONCE == TOOLS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    (tools, refused)
}
