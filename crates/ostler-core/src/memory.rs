//! What is remembered across a restart of our own process: how servers fared, what they listed, what was approved,
//! what was spawned.
//!
//! Times here are wall-clock times, because monotonic ones mean nothing to the next process. Whoever reads them clamps
//! what a jump of the clock has made of them.

use std::time::SystemTime;

use serde_json::value::RawValue;

use crate::id::ServerId;
use crate::status::{Fault, ServerState};

/// What is remembered of one server.
#[derive(Debug, Clone)]
pub struct ServerMemory {
    /// Which.
    pub server: ServerId,
    /// The fingerprint of its launch line. Under another launch line this memory is void.
    pub launch: String,
    /// When this was true.
    pub at: SystemTime,
    /// Failures in a row.
    pub failures: u32,
    /// Whether people were told of this streak.
    pub told: bool,
    /// Where it stood, if it was not running.
    pub parked: Option<Parked>,
    /// What it last listed, unread.
    pub tools: Vec<Box<RawValue>>,
}

/// A server that was not running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// `Backoff`, `Quarantined`, `NeedsAction` or `Stopped`.
    pub state: ServerState,
    /// When it was to be tried again.
    pub until: Option<SystemTime>,
    /// Why it was down.
    pub fault: Option<Fault>,
}

/// A launch line that a person has approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Of which server.
    pub server: ServerId,
    /// The digest of the whole launch line.
    pub digest: String,
    /// The launch line as it was shown, without secrets.
    pub shown: String,
    /// When.
    pub at: SystemTime,
}

/// A process that we started, so that the next process of ours can end what this one could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawned {
    /// What all of its tree carry in their environment.
    pub cookie: String,
    /// Its id.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot: a later process with the same id has another.
    pub start_ticks: u64,
    /// Which boot of the machine.
    pub boot: String,
}
