//! What can be said of a server: its state, why it died, and the events of its life.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::value::RawValue;

use crate::id::{Incarnation, ServerId};

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$item_doc])* $item),+ }

        impl $name {
            /// Every member, in order.
            pub const ALL: &'static [Self] = &[$(Self::$item),+];

            /// The stable text: a metric label, a JSON value, a word of the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$item => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed_set!(
    /// Where a server is in its life.
    ServerState {
        /// Switched off by configuration.
        Disabled = "disabled",
        /// Not running, its tools known; a call wakes it.
        Idle = "idle",
        /// Waiting for a start permit.
        Queued = "queued",
        /// Being spawned or connected, shaking hands, listing.
        Starting = "starting",
        /// Serving.
        Ready = "ready",
        /// Serving, but missing probes.
        Degraded = "degraded",
        /// Being stopped; what runs below it is being ended.
        Stopping = "stopping",
        /// Dead; the next try has a time.
        Backoff = "backoff",
        /// Dead too often; tried slowly.
        Quarantined = "quarantined",
        /// Cannot work until somebody changes something.
        NeedsAction = "needs_action",
        /// Stopped by a person.
        Stopped = "stopped",
    }
);

closed_set!(
    /// Why an incarnation ended, as a metric label.
    DeathReason {
        /// The process exited by itself.
        Exit = "exit",
        /// A signal that we did not send ended the process.
        Signal = "signal",
        /// The memory limit ended the process.
        Oom = "oom",
        /// The server closed its output, or its input, while it lived.
        Eof = "eof",
        /// The handshake or the first lists did not end in time.
        StartTimeout = "start_timeout",
        /// It stopped answering.
        Hang = "hang",
        /// It broke the protocol.
        Protocol = "protocol",
        /// The network failed.
        Network = "network",
        /// It refused our credentials.
        Auth = "auth",
        /// Its configuration cannot work: command missing, folder missing, no common revision.
        Config = "config",
        /// This host lacks descriptors, memory or processes.
        Resources = "resources",
        /// A person, a reload or a shutdown ended it.
        Operator = "operator",
    }
);

closed_set!(
    /// What kind of failure it was: the class decides what is done about it.
    FaultClass {
        /// The command does not exist or cannot be executed.
        NotFound = "not_found",
        /// The launch line cannot work, for another reason.
        BadConfig = "bad_config",
        /// Credentials were refused.
        Auth = "auth",
        /// The launch line was not approved.
        Consent = "consent",
        /// No common protocol revision.
        Incompatible = "incompatible",
        /// Died before it was ready.
        CrashOnStart = "crash_on_start",
        /// Died while serving.
        CrashRunning = "crash_running",
        /// Ended with an expected exit code while serving.
        CleanExit = "clean_exit",
        /// Lives and does not answer.
        Hang = "hang",
        /// Was not ready in time.
        SlowStart = "slow_start",
        /// Broke the protocol.
        Protocol = "protocol",
        /// Ran out of memory.
        Oom = "oom",
        /// The network failed.
        Network = "network",
        /// Asked us to come back later.
        Throttled = "throttled",
        /// Our host is short of something; not the server's fault.
        HostResource = "host_resource",
        /// We ended it.
        KilledByUs = "killed_by_us",
    }
);

impl ServerState {
    /// Whether a start is under way, or follows by itself as soon as something else has ended.
    pub fn is_on_its_way(self) -> bool {
        match self {
            Self::Queued | Self::Starting | Self::Stopping => true,
            Self::Disabled
            | Self::Idle
            | Self::Ready
            | Self::Degraded
            | Self::Backoff
            | Self::Quarantined
            | Self::NeedsAction
            | Self::Stopped => false,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why an incarnation ended or never came to be: all that an operator needs to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The label.
    pub reason: DeathReason,
    /// What decides the next step.
    pub class: FaultClass,
    /// What happened, in one lowercase line.
    pub message: String,
    /// What a person can do about it, if there is something.
    pub hint: Option<String>,
    /// How the process ended, if there was one and it did.
    pub exit: Option<Exit>,
    /// The last lines of its standard error, sanitised, at most 4 KiB.
    pub stderr_tail: String,
}

impl Fault {
    /// A fault with nothing but a class, its usual label and a message.
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        let reason = match class {
            FaultClass::NotFound | FaultClass::BadConfig | FaultClass::Consent | FaultClass::Incompatible => {
                DeathReason::Config
            }
            FaultClass::Auth => DeathReason::Auth,
            FaultClass::CrashOnStart | FaultClass::CrashRunning | FaultClass::CleanExit => DeathReason::Exit,
            FaultClass::Hang => DeathReason::Hang,
            FaultClass::SlowStart => DeathReason::StartTimeout,
            FaultClass::Protocol => DeathReason::Protocol,
            FaultClass::Oom => DeathReason::Oom,
            FaultClass::Network | FaultClass::Throttled => DeathReason::Network,
            FaultClass::HostResource => DeathReason::Resources,
            FaultClass::KilledByUs => DeathReason::Operator,
        };
        Self { reason, class, message: message.into(), hint: None, exit: None, stderr_tail: String::new() }
    }

    /// The same fault with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What is known of a live incarnation.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The server's process id, if it is our child.
    pub pid: Option<u32>,
    /// The MCP revision in use.
    pub revision: String,
    /// How we talk: `stdio` or `http`.
    pub transport: &'static str,
    /// The server's own name, as it says.
    pub server_name: Option<String>,
    /// The server's own version, as it says.
    pub server_version: Option<String>,
    /// The capabilities that it declared, byte for byte.
    pub capabilities: Option<Arc<RawValue>>,
}

/// The state of one server at one moment: a projection of its machine, never a second truth.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// Who.
    pub server: ServerId,
    /// Where it is.
    pub state: ServerState,
    /// Since when.
    pub since: Instant,
    /// The current incarnation; the last one if none lives.
    pub incarnation: Option<Incarnation>,
    /// What is known of the live incarnation.
    pub facts: Option<Arc<Facts>>,
    /// How many tools are listed.
    pub tools: usize,
    /// How many were refused.
    pub refused_tools: usize,
    /// Failures in a row, cleared by a stable run.
    pub failures: u32,
    /// Starts after the first, since we run.
    pub restarts: u64,
    /// Why the last incarnation ended.
    pub last_fault: Option<Arc<Fault>>,
    /// When the next start is due.
    pub next_try: Option<Instant>,
    /// When the start that runs now is given up.
    pub start_deadline: Option<Instant>,
}

impl ServerStatus {
    /// Whether the server has come up, has failed at least once, or is not meant to run: nobody waits for it any more.
    pub fn has_settled(&self) -> bool {
        !self.state.is_on_its_way() || self.last_fault.is_some()
    }
}

/// One entry of the event log.
#[derive(Debug, Clone)]
pub struct ServerEvent {
    /// Its number; a reader who misses one knows it.
    pub sequence: u64,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// Which server.
    pub server: ServerId,
    /// Which incarnation, if one is concerned.
    pub incarnation: Option<Incarnation>,
    /// What happened.
    pub what: What,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum What {
    /// The state changed.
    State {
        /// Before.
        from: ServerState,
        /// After.
        to: ServerState,
        /// The fault that caused it, if one did.
        fault: Option<Arc<Fault>>,
        /// How long until the next try, if one is due.
        next_try_in: Option<Duration>,
    },
    /// The server's tools were published.
    Published {
        /// How many can be called.
        tools: usize,
        /// How many were refused.
        refused: usize,
    },
    /// Something that a person should know.
    Notice(Notice),
    /// The server logged something through the protocol. Its words, cut and sanitised.
    Log {
        /// MCP's level.
        level: String,
        /// The text.
        text: String,
    },
}

/// A message to whoever runs the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The server failed this often in a row. Said once a streak.
    FailingRepeatedly {
        /// How often.
        failures: u32,
        /// The last failure.
        last: Arc<Fault>,
    },
    /// The server is well again, after such a notice.
    Recovered,
    /// The server cannot work until somebody acts.
    NeedsAction(Arc<Fault>),
    /// The server was put aside and is tried slowly.
    Quarantined {
        /// How often it failed.
        failures: u32,
        /// The last failure.
        last: Arc<Fault>,
    },
    /// A tool or its list is odd; the text says how.
    Catalogue(String),
    /// Many servers have something to say at once: said together, at the first of them.
    Together(Vec<ServerId>),
    /// So many servers failed at the same time that it looks like this host's problem: restarts are slowed for a while.
    HostProblem,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailingRepeatedly { failures, last } => {
                write!(f, "failed {failures} times in a row, last: {last}")
            }
            Self::Recovered => f.write_str("works again"),
            Self::NeedsAction(fault) => match &fault.hint {
                Some(hint) => write!(f, "needs action: {fault}; {hint}"),
                None => write!(f, "needs action: {fault}"),
            },
            Self::Quarantined { failures, last } => {
                write!(f, "quarantined after {failures} failures, last: {last}")
            }
            Self::Catalogue(text) => f.write_str(text),
            Self::Together(servers) => {
                let names: Vec<&str> = servers.iter().map(ServerId::as_str).collect();
                write!(f, "{} servers need a look: {}; `ostler status` shows them", names.len(), names.join(", "))
            }
            Self::HostProblem => f.write_str(
                "more than half of the servers failed within a minute, which looks like a problem of this host; restarts \
                 are slowed for some seconds",
            ),
        }
    }
}
