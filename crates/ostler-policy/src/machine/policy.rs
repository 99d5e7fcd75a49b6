//! The numbers and choices that decide about one server. The configuration check makes them; nothing here checks again.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

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
        }
    }
}

/// The moment `wait` after `now`; a wait of more than a year counts as one, so that no sum overflows.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_hours(365 * 24))
}
