//! What goes over the socket and into `--json`: plain data with stable `snake_case` names; times are milliseconds.
//!
//! Events are in [`super::event`], errors in [`super::error`]. Conversions from the words of the core are here too.

mod operator;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ostler_core::dialogue::Usage;
use ostler_core::port::{ModelInfo, Outcome, ToolAnswer};
use ostler_core::status::{Fault, ServerStatus};
use ostler_core::tool::OfferedTool;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::ErrorDto;

pub use self::operator::{Approval, ApproveRequest, LaunchDto, LogDto, ReloadDto, Subject, WhyDto};

/// One server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerDto {
    /// Its id.
    pub server: String,
    /// Its group, if it has one.
    #[serde(default)]
    pub group: Option<String>,
    /// Its state, a word of the closed set.
    pub state: String,
    /// Whether it has come up, has failed at least once, or is not meant to run.
    pub settled: bool,
    /// For how long it has been in that state.
    pub since_ms: u64,
    /// The current incarnation, or the last one.
    pub incarnation: Option<u64>,
    /// Its process id, if it is our child and lives.
    pub pid: Option<u32>,
    /// `stdio` or `http`.
    pub transport: Option<String>,
    /// The MCP revision in use.
    pub revision: Option<String>,
    /// The server's own name.
    pub server_name: Option<String>,
    /// The server's own version.
    pub server_version: Option<String>,
    /// The capabilities that it declared, byte for byte.
    pub capabilities: Option<Box<RawValue>>,
    /// How many tools are listed.
    pub tools: usize,
    /// How many were refused.
    pub refused_tools: usize,
    /// Failures in a row.
    pub failures: u32,
    /// Starts after the first.
    pub restarts: u64,
    /// When the next start is due.
    pub next_try_in_ms: Option<u64>,
    /// When the start that runs now is given up.
    pub gives_up_in_ms: Option<u64>,
    /// Why the last incarnation ended.
    pub last_fault: Option<FaultDto>,
}

impl ServerDto {
    /// The status as seen at `now`.
    pub fn new(status: &ServerStatus, now: Instant) -> Self {
        let facts = status.facts.as_deref();
        Self {
            server: status.server.to_string(),
            group: None,
            state: status.state.as_str().to_owned(),
            settled: status.has_settled(),
            since_ms: millis(now.saturating_duration_since(status.since)),
            incarnation: status.incarnation.map(ostler_core::Incarnation::get),
            pid: facts.and_then(|facts| facts.pid),
            transport: facts.map(|facts| facts.transport.to_owned()),
            revision: facts.map(|facts| facts.revision.clone()),
            server_name: facts.and_then(|facts| facts.server_name.clone()),
            server_version: facts.and_then(|facts| facts.server_version.clone()),
            capabilities: facts.and_then(|facts| facts.capabilities.as_deref()).map(ToOwned::to_owned),
            tools: status.tools,
            refused_tools: status.refused_tools,
            failures: status.failures,
            restarts: status.restarts,
            next_try_in_ms: status.next_try.map(|due| millis(due.saturating_duration_since(now))),
            gives_up_in_ms: status.start_deadline.map(|at| millis(at.saturating_duration_since(now))),
            last_fault: status.last_fault.as_deref().map(FaultDto::from),
        }
    }
}

/// Why an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDto {
    /// The metric label.
    pub reason: String,
    /// The class that decides what is done.
    pub class: String,
    /// What happened, in one line.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
    /// How the process ended.
    pub exit: Option<String>,
    /// Its last words on standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr_tail: String,
}

impl From<&Fault> for FaultDto {
    fn from(fault: &Fault) -> Self {
        Self {
            reason: fault.reason.as_str().to_owned(),
            class: fault.class.as_str().to_owned(),
            message: fault.message.clone(),
            hint: fault.hint.clone(),
            exit: fault.exit.map(|exit| exit.to_string()),
            stderr_tail: fault.stderr_tail.clone(),
        }
    }
}

/// One tool of the namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolDto {
    /// The name to call it by.
    pub name: String,
    /// The server that owns it.
    pub server: String,
    /// The server's own name for it.
    pub tool: String,
    /// A title for people.
    pub title: Option<String>,
    /// What it does, in the server's words.
    pub description: Option<String>,
    /// The JSON Schema of its arguments, byte for byte.
    pub input_schema: Box<RawValue>,
}

impl From<&OfferedTool> for ToolDto {
    fn from(tool: &OfferedTool) -> Self {
        Self {
            name: tool.name.to_string(),
            server: tool.server.to_string(),
            tool: tool.definition.name.to_string(),
            title: tool.definition.title.clone(),
            description: tool.definition.description.clone(),
            input_schema: tool.definition.input_schema.clone(),
        }
    }
}

/// The body of `POST /v1/call`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// The name in the namespace.
    pub name: String,
    /// The arguments: a JSON object, passed on byte for byte.
    pub arguments: Box<RawValue>,
    /// When the caller gives up; absent: the server's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A call that has a result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallDto {
    /// The server that answered.
    pub server: Option<String>,
    /// Its incarnation.
    pub incarnation: Option<u64>,
    /// From admission to the answer.
    pub elapsed_ms: u64,
    /// Whether the tool says that it failed.
    pub is_error: bool,
    /// The result, byte for byte.
    pub result: Box<RawValue>,
}

impl CallDto {
    /// Splits an answer into the result or the error of the wire.
    pub fn from_answer(answer: ToolAnswer) -> Result<Self, ErrorDto> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Flag {
            #[serde(default)]
            is_error: bool,
        }
        let server = answer.server.map(String::from);
        let result = match answer.result {
            Ok(Outcome::Raw(result)) => result,
            Ok(Outcome::InputRequired(_) | Outcome::Task(_)) => {
                return Err(ErrorDto::new(
                    "unsupported_result",
                    "the server wants something first; this caller cannot give it",
                )
                .of_server(server));
            }
            Err(error) => return Err(ErrorDto::from(&error).of_server(server)),
        };
        let is_error = serde_json::from_str::<Flag>(result.get()).is_ok_and(|flag| flag.is_error);
        Ok(Self {
            server,
            incarnation: answer.incarnation.map(ostler_core::Incarnation::get),
            elapsed_ms: millis(answer.elapsed),
            is_error,
            result,
        })
    }
}

/// The body of `POST /v1/ask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// What to say, in order, in one conversation.
    pub prompts: Vec<String>,
    /// How long to wait for servers that are still coming up.
    #[serde(default)]
    pub wait_ms: u64,
    /// Whether to tell of servers that came up before the question.
    #[serde(default)]
    pub replay: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerDto {
    /// What the model says.
    pub text: String,
    /// Why it stopped.
    pub stop: String,
    /// How many times the model was asked.
    pub rounds: u32,
    /// What it cost.
    pub usage: UsageDto,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDto {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the prompt cache.
    pub cache_read: u64,
    /// Written to the prompt cache.
    pub cache_write: u64,
}

impl From<Usage> for UsageDto {
    fn from(usage: Usage) -> Self {
        Self { input: usage.input, output: usage.output, cache_read: usage.cache_read, cache_write: usage.cache_write }
    }
}

/// The model in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDto {
    /// Who provides it.
    pub provider: String,
    /// Its id.
    pub model: String,
    /// What a user must know before the first answer.
    pub notice: Option<String>,
}

impl From<ModelInfo> for ModelDto {
    fn from(info: ModelInfo) -> Self {
        Self { provider: info.provider.to_owned(), model: info.model, notice: info.notice }
    }
}

/// What runs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDto {
    /// The version of Ostler.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The configuration file, absolute; absent for the built-in default.
    pub config: Option<String>,
    /// Where the ops listener is.
    pub ops: Option<String>,
    /// For how long it has run.
    pub uptime_ms: u64,
    /// The model.
    pub model: ModelDto,
    /// What became of the newest configuration.
    #[serde(default)]
    pub reload: ReloadDto,
}

/// The body of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessDto {
    /// Whether every enabled server has been ready or has failed at least once.
    pub ready: bool,
    /// How many servers there are in each state that occurs.
    pub states: BTreeMap<String, usize>,
    /// Who is still waited for.
    pub waiting_for: Vec<String>,
}

/// Milliseconds of a duration, the largest number if they do not fit.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
