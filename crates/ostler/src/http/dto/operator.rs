//! What an operator asks and is told: why something is as it is, what would be launched, what a server says.

use serde::{Deserialize, Serialize};

use super::ServerDto;

/// The one answer to "why is this as it is".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyDto {
    /// What was asked about, as its owner writes it.
    pub name: String,
    /// What it is.
    pub subject: Subject,
    /// Whether it works as it should.
    pub well: bool,
    /// The answer in one line.
    pub verdict: String,
    /// The server that it is about, or that owns the tool.
    pub server: Option<ServerDto>,
    /// What to do, the most promising first.
    pub advice: Vec<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A server.
    Server,
    /// A tool, listed or not, of a server that is known.
    Tool,
    /// Nothing that we know.
    Nothing,
}

/// What would be run for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchDto {
    /// Which server.
    pub server: String,
    /// The whole launch line, without secrets.
    pub line: String,
    /// What an approval names, so that what was shown is what is approved.
    pub digest: String,
    /// Where it comes from.
    pub origin: String,
    /// Whether somebody must still approve it.
    pub approval: Approval,
}

/// Whether a launch line may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// It is the operator's own: nobody is asked.
    NotNeeded,
    /// Nobody has approved it.
    Missing,
    /// Another launch line was approved: it has changed since.
    Changed,
    /// It was approved.
    Given,
}

/// The body of `POST /v1/servers/{server}/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The digest of the launch line that was shown.
    pub digest: String,
}

/// A piece of what a server writes to its standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogDto {
    /// A line.
    Line {
        /// Which it is of all that this incarnation wrote, from 1. Numbers that are missing are lines that were dropped.
        number: u64,
        /// The text, without control characters.
        text: String,
    },
    /// What follows is of a new incarnation.
    Began,
}

/// What became of the newest configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadDto {
    /// Why the newest file is not in use: everything that is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it says that this daemon can only take up when it is started again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}
