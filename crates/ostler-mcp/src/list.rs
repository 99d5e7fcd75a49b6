//! Reads a server's lists, page by page and within bounds. Each tool is read on its own: a bad one hides no other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use ostler_core::CallError;
use ostler_core::catalogue::{Catalogue, Kind, RefusedTool};
use ostler_core::tool::{ToolDefinition, ToolError};
use serde_json::value::RawValue;

use crate::clock;
use crate::envelope;
use crate::greeting::Declared;
use crate::life::Life;
use crate::limit::Limits;
use crate::meta::Members;
use crate::revision::Revision;

/// How many tools are read before others of this thread get their turn.
const TOOLS_AT_ONCE: usize = 64;

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
    Resources(Vec<Box<RawValue>>, Vec<Box<RawValue>>),
    Prompts(Vec<Box<RawValue>>),
}

impl Listed {
    /// Puts the lists in the place of the old ones.
    pub(crate) fn put(self, catalogue: &mut Catalogue) {
        match self {
            Self::Tools(tools, refused) => {
                catalogue.tools = tools;
                catalogue.refused = refused;
            }
            Self::Resources(resources, templates) => {
                catalogue.resources = resources;
                catalogue.templates = templates;
            }
            Self::Prompts(prompts) => catalogue.prompts = prompts,
        }
    }
}

impl Lister<'_> {
    /// Reads everything that is declared. Only the tools must be readable; the rest is left empty if it is not.
    pub(crate) async fn all(&self, instructions: Option<String>) -> Result<Catalogue, CallError> {
        let (tools, resources, prompts) =
            tokio::join!(self.one(Kind::Tools), self.one(Kind::Resources), self.one(Kind::Prompts));
        let mut catalogue = Catalogue { instructions, ..Catalogue::default() };
        tools?.put(&mut catalogue);
        for (kind, listed) in [("resources", resources), ("prompts", prompts)] {
            match listed {
                Ok(listed) => listed.put(&mut catalogue),
                // Without the incarnation there is nothing to serve; the tools would have said so a moment later.
                Err(lost @ CallError::ServerLost { .. }) => return Err(lost),
                Err(error) => {
                    let server = self.life.session().shared().server();
                    tracing::warn!(server.id = %server, list = kind, %error, "a list cannot be read and stays empty");
                }
            }
        }
        Ok(catalogue)
    }

    /// Reads one kind; empty if it is not declared.
    pub(crate) async fn one(&self, kind: Kind) -> Result<Listed, CallError> {
        match kind {
            Kind::Tools if self.declared.tools.is_none() => Ok(Listed::Tools(Vec::new(), Vec::new())),
            Kind::Tools => {
                let (tools, refused) = parse_tools(self.pages("tools/list", "tools").await?).await;
                for refusal in &refused {
                    let server = self.life.session().shared().server();
                    tracing::warn!(
                        server.id = %server, position = refusal.position, error = %refusal.reason, "a tool is refused"
                    );
                }
                Ok(Listed::Tools(tools, refused))
            }
            Kind::Resources if self.declared.resources.is_none() => Ok(Listed::Resources(Vec::new(), Vec::new())),
            Kind::Resources => {
                let (resources, templates) = tokio::join!(
                    self.pages("resources/list", "resources"),
                    self.pages("resources/templates/list", "resourceTemplates"),
                );
                // Templates came later than resources, and many servers refuse to list them.
                let templates = match templates {
                    Err(CallError::Remote { .. }) => Vec::new(),
                    templates => templates?,
                };
                Ok(Listed::Resources(resources?, templates))
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
            let room = self.limits.items - items.len();
            items.extend(list.iter().take(room).map(|item| (*item).to_owned()));
            if list.len() > room {
                meter.violation("too_many_items");
                return Ok(items);
            }
            match members.get("nextCursor") {
                None => return Ok(items),
                Some(next) if next.get() == "null" => return Ok(items),
                Some(next) if next.get().starts_with('"') && seen.insert(next.get().to_owned()) => {
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
