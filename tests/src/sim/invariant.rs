//! What must hold at every moment, by name, and which moves a server's state may make.

use std::fmt;

use ostler_core::ServerState as State;

/// A promise of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// No server has two lives at a time.
    OneLife,
    /// The numbers of a server's lives go up.
    NumbersGrow,
    /// A request reaches only a life that exists, and only with a tool that its server has had.
    KnownRoutes,
    /// An answer is the one to this call, from the server and the life that it names.
    RightAnswer,
    /// A call ends by its deadline and a quarter of a second.
    EndsInTime,
    /// No call is left without an end, and no request at a server without a call.
    EndsOnce,
    /// A tool runs at most once for a call.
    RunsOnce,
    /// Requests end within a tenth of a second of the death of their server.
    EndsWithServer,
    /// Servers start again no sooner than their policy says.
    Schedule,
    /// Not more servers start side by side than the gate has slots.
    Gate,
    /// Each kind of notice is given once a streak.
    OneNotice,
    /// A state follows only where the table says so, and each change begins where the last one ended.
    LegalPath,
    /// A stopped, disabled or removed server is not listed.
    GoneUnlisted,
    /// A server that is merely down stays listed.
    DownListed,
    /// The generation changes with the bytes of the list, and only then.
    Generation,
    /// No actor of the house fails.
    NoBugs,
    /// After a shutdown there is no life, no lease, no request and no task.
    NothingLeft,
}

impl Invariant {
    /// The name as a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneLife => "a_server_has_at_most_one_live_incarnation",
            Self::NumbersGrow => "incarnation_numbers_go_up",
            Self::KnownRoutes => "routes_lead_only_to_known_servers",
            Self::RightAnswer => "an_answer_comes_from_whom_it_names",
            Self::EndsInTime => "a_call_ends_by_its_deadline",
            Self::EndsOnce => "a_call_ends_exactly_once",
            Self::RunsOnce => "a_call_runs_at_most_once",
            Self::EndsWithServer => "calls_in_flight_end_with_their_server",
            Self::Schedule => "restarts_are_never_above_the_policy",
            Self::Gate => "starts_stay_within_the_gate",
            Self::OneNotice => "a_notice_is_given_once_a_streak",
            Self::LegalPath => "every_status_path_is_legal",
            Self::GoneUnlisted => "a_stopped_or_removed_server_is_not_listed",
            Self::DownListed => "a_server_that_is_merely_down_stays_listed",
            Self::Generation => "the_generation_changes_with_the_list_alone",
            Self::NoBugs => "no_actor_of_the_house_fails",
            Self::NothingLeft => "nothing_is_left_after_a_shutdown",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A promise that was not kept, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.how)
    }
}

/// Whether a server may go from one state to another in one step.
pub(super) fn is_legal(from: State, to: State) -> bool {
    match from {
        State::Disabled => matches!(to, State::Queued | State::Idle | State::Stopped),
        State::Stopped => matches!(to, State::Queued | State::Idle | State::Disabled),
        State::Idle => matches!(to, State::Queued | State::Stopped | State::Disabled),
        State::Queued => matches!(to, State::Starting | State::Stopped | State::Disabled | State::Idle),
        // A life may be over before its end is reported: then what follows an end follows at once.
        State::Starting => !matches!(to, State::Starting | State::Degraded | State::Idle),
        State::Ready => !matches!(to, State::Ready | State::Starting),
        State::Degraded => !matches!(to, State::Degraded | State::Starting),
        State::Stopping => !matches!(to, State::Stopping | State::Starting | State::Ready | State::Degraded),
        State::Backoff | State::Quarantined | State::NeedsAction => {
            matches!(to, State::Queued | State::Stopping | State::Stopped | State::Disabled | State::Idle)
        }
    }
}
