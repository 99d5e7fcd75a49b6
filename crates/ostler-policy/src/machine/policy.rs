//! The numbers and choices that decide about one server. The configuration check makes them; nothing here checks again.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ostler_core::status::{Exit, Fault, FaultClass};

use crate::schedule::Schedule;

/// What is wanted of one server, and how patient we are with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether it runs at all. Default: yes.
    pub enabled: bool,
    /// Whether [`super::Event::Start`] only makes it idle, until the first call. Default: no.
    pub lazy: bool,
    /// Which deaths are followed by another start. Default: all.
    pub restart: Restart,
    /// How long to wait after the n-th failure in a row. Default: 1 s, doubling, at most 30 s.
    pub schedule: Schedule,
    /// How long it must serve, without a missed probe at the end, for its failures to be forgiven. Default: 60 s.
    pub stable_after: Duration,
    /// How long a start may take, counted from the permit. Default: 30 s.
    pub start_timeout: Duration,
    /// After how many failures in a row somebody is told, once a streak. `None`: never. Default: 3.
    pub notify_after: Option<NonZeroU32>,
    /// After how many failures in a row it is put aside. `None`: never. Default: 10.
    pub quarantine_after: Option<NonZeroU32>,
    /// How often it is tried in quarantine, give or take a fifth. Default: 300 s.
    pub quarantine_probe: Duration,
    /// How long a stop may take before the server is killed. Default: 5 s.
    pub stop_grace: Duration,
    /// How often to see whether a launch line that could not work does by now. Default: 300 s.
    pub recheck: Duration,
    /// Which exit codes of a server that was serving are no failure, under [`Restart::OnFailure`]. Default: 0.
    pub expected_exits: Vec<i32>,
    /// How many restarts within how long are too many, whatever was forgiven in between: then it is put aside. `None`:
    /// only failures in a row count. Without [`Policy::quarantine_after`] nothing is ever put aside. Default: 15 in 600 s.
    pub intensity: Option<Intensity>,
    /// How long it may serve without a call before it is put to sleep, until the next call. `None`: for ever. The shell
    /// measures it and sends [`super::Event::Idle`]. Default: `None`.
    pub idle_stop: Option<Duration>,
    /// Whether the house is not well without it: its starts pass before those of others. Default: no.
    pub required: bool,
    /// What is said to whoever used the incarnation before. Carried for the shell; no decision of this crate depends on
    /// it. Default: [`OnRestart::Surface`].
    pub on_restart: OnRestart,
    /// How often it is asked whether it lives, give or take a fifth; at least a second apart, and at twice the pace once
    /// it has missed one. `None`: never. Default: `None`.
    pub probe: Option<Duration>,
    /// How long an answer to a probe may take. Default: 10 s.
    pub probe_timeout: Duration,
    /// How long to wait for the end of what is left of an incarnation before it is given up as a zombie. At least
    /// [`Policy::stop_grace`] and [`KILL_PATIENCE`]. Default: 15 s.
    pub stop_patience: Duration,
}

/// How long what was killed may take to be gone, however impatient a policy is.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A bound on restarts over time. Meaning: Erlang/OTP, supervisor(3), intensity and period; the window slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// So many are borne.
    pub restarts: NonZeroU32,
    /// Within this.
    pub within: Duration,
}

impl Default for Intensity {
    /// 15 in 600 s.
    fn default() -> Self {
        Self { restarts: NonZeroU32::new(15).expect("not zero"), within: Duration::from_mins(10) }
    }
}

/// What is said of a restart to whoever used the incarnation before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRestart {
    /// Nothing: the server keeps no state that a caller could miss.
    Silent,
    /// That what it knew is gone.
    #[default]
    Surface,
}

/// Which deaths are followed by another start. A start that fails because this host is short of something is always
/// tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// All.
    #[default]
    Always,
    /// All but an exit with an expected code while serving.
    OnFailure,
    /// None: also a start that failed is not tried again.
    Never,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            lazy: false,
            restart: Restart::Always,
            schedule: Schedule::default(),
            stable_after: Duration::from_mins(1),
            start_timeout: Duration::from_secs(30),
            notify_after: NonZeroU32::new(3),
            quarantine_after: NonZeroU32::new(10),
            quarantine_probe: Duration::from_mins(5),
            stop_grace: Duration::from_secs(5),
            recheck: Duration::from_mins(5),
            expected_exits: vec![0],
            intensity: Some(Intensity::default()),
            idle_stop: None,
            required: false,
            on_restart: OnRestart::Surface,
            probe: None,
            probe_timeout: Duration::from_secs(10),
            stop_patience: Duration::from_secs(15),
        }
    }
}

impl Policy {
    /// Whether it may sleep: not run, and be woken by a call.
    pub(crate) fn may_sleep(&self) -> bool {
        self.lazy || self.idle_stop.is_some()
    }

    /// Whether this is an end that a server may choose for itself. A class alone counts if no exit status is known.
    pub(crate) fn expects(&self, fault: &Fault) -> bool {
        match (fault.class, fault.exit) {
            (FaultClass::CleanExit | FaultClass::CrashRunning, Some(Exit::Code(code))) => {
                self.expected_exits.contains(&code)
            }
            (class, exit) => class == FaultClass::CleanExit && exit.is_none(),
        }
    }

    /// How long a stop may take until what is left counts as a zombie.
    pub(crate) fn patience(&self) -> Duration {
        self.stop_patience.max(self.stop_grace.saturating_add(KILL_PATIENCE))
    }

    /// The time in quarantine until the next try, by `jitter` from 0.0 to 1.0.
    pub(crate) fn quarantine(&self, jitter: f64) -> Duration {
        self.quarantine_probe.min(Duration::from_hours(24)).mul_f64(0.8 + 0.4 * jitter)
    }

    /// The mean time between two probes, if there are any.
    pub(crate) fn probe_every(&self) -> Option<Duration> {
        self.probe.map(|every| every.clamp(Duration::from_secs(1), Duration::from_hours(24)))
    }
}

/// The moment `wait` after `now`; a wait of more than a year counts as one, so that no sum overflows.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_hours(365 * 24))
}
