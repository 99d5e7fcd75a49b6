//! What every step of the machine keeps, as named predicates.
//!
//! [`crate::machine::step`] checks them in debug builds, so every test of the runtime and every simulation does too.
//! They judge one step by its two states; what spans many steps is tested by the model in the machine's tests. Here are
//! those of starts, deaths, orders and notices; `serving` has the others.

mod serving;

use std::time::Instant;

use ostler_core::ServerState;
use ostler_core::status::Notice;

pub use self::serving::*;
use crate::machine::{Effect, Event, Policy, State};

/// One step: all that went in and all that came out.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The policy that was followed.
    pub policy: &'a Policy,
    /// The state before.
    pub before: &'a State,
    /// What happened.
    pub event: &'a Event,
    /// When.
    pub now: Instant,
    /// The state after.
    pub after: &'a State,
    /// What is to be done.
    pub effects: &'a [Effect],
}

/// A predicate over one step.
pub type Predicate = fn(&Step<'_>) -> bool;

/// All predicates, by name.
pub const ALL: &[(&str, Predicate)] = &[
    ("a_delay_is_never_above_the_cap", a_delay_is_never_above_the_cap),
    ("a_connect_has_a_permit_and_follows_a_release", a_connect_has_a_permit_and_follows_a_release),
    ("a_lease_ends_by_its_release_or_as_a_zombie", a_lease_ends_by_its_release_or_as_a_zombie),
    ("a_disconnect_is_for_the_live_incarnation", a_disconnect_is_for_the_live_incarnation),
    ("a_permit_asked_for_is_returned_once", a_permit_asked_for_is_returned_once),
    ("a_number_is_given_out_once", a_number_is_given_out_once),
    ("a_stale_event_changes_nothing", a_stale_event_changes_nothing),
    ("needs_action_has_no_fast_timer", needs_action_has_no_fast_timer),
    ("a_shutdown_is_final", a_shutdown_is_final),
    ("a_disabled_server_stays_so", a_disabled_server_stays_so),
    ("a_notice_is_given_once_a_streak", a_notice_is_given_once_a_streak),
    ("a_deadline_is_never_in_the_past", a_deadline_is_never_in_the_past),
    ("a_state_has_a_deadline_if_time_ends_it", a_state_has_a_deadline_if_time_ends_it),
    ("a_restart_is_counted_with_its_connect", a_restart_is_counted_with_its_connect),
    ("tools_leave_by_order_alone", tools_leave_by_order_alone),
    ("too_many_restarts_of_late_are_a_quarantine", too_many_restarts_of_late_are_a_quarantine),
    ("every_automatic_restart_is_counted", every_automatic_restart_is_counted),
    ("a_failed_try_goes_back_into_quarantine", a_failed_try_goes_back_into_quarantine),
    ("a_server_sleeps_only_if_it_may", a_server_sleeps_only_if_it_may),
    ("a_call_wakes_who_sleeps", a_call_wakes_who_sleeps),
    ("an_expected_exit_is_no_failure", an_expected_exit_is_no_failure),
    ("a_server_that_serves_is_probed", a_server_that_serves_is_probed),
    ("a_probe_is_due_and_has_its_time", a_probe_is_due_and_has_its_time),
    ("misses_have_an_end", misses_have_an_end),
    ("a_hold_is_short_and_harmless", a_hold_is_short_and_harmless),
    ("a_stop_ends_by_time_alone", a_stop_ends_by_time_alone),
    ("a_zombie_is_declared_when_patience_ends", a_zombie_is_declared_when_patience_ends),
    ("a_start_waits_in_its_line", a_start_waits_in_its_line),
    ("a_shutdown_forgets_nothing", a_shutdown_forgets_nothing),
];

/// The name of the first predicate that does not hold for `step`.
pub fn broken(step: &Step<'_>) -> Option<&'static str> {
    ALL.iter().find(|(_, holds)| !holds(step)).map(|(name, _)| *name)
}

impl Step<'_> {
    fn entered(&self, view: ServerState) -> bool {
        self.after.view() == view && self.before.view() != view
    }

    fn count(&self, wanted: impl Fn(&Effect) -> bool) -> usize {
        self.effects.iter().filter(|effect| wanted(effect)).count()
    }

    fn connects(&self) -> bool {
        self.count(|effect| matches!(effect, Effect::Connect { .. })) > 0
    }
}

/// No backoff lasts longer than the schedule's cap, jitter included.
pub fn a_delay_is_never_above_the_cap(step: &Step<'_>) -> bool {
    let wait = step.after.wake_at().map(|at| at.saturating_duration_since(step.now));
    !step.entered(ServerState::Backoff) || wait.is_some_and(|wait| wait <= step.policy.schedule.cap())
}

/// Only a permit leads to a connect, of its own incarnation, and only when nothing is left of an earlier one.
pub fn a_connect_has_a_permit_and_follows_a_release(step: &Step<'_>) -> bool {
    step.effects.iter().all(|effect| {
        let Effect::Connect { incarnation, deadline } = effect else { return true };
        *step.event == Event::Permit { incarnation: *incarnation }
            && step.before.permit() == Some(*incarnation)
            && step.before.is_released()
            && step.after.wake_at() == Some(*deadline)
    })
}

/// An incarnation counts as gone when its release was reported or it was given up, not before; as there, when it is
/// connected.
///
/// With something left of it, no permit is asked for, and the server is neither idle, stopped nor disabled.
pub fn a_lease_ends_by_its_release_or_as_a_zombie(step: &Step<'_>) -> bool {
    let ended = !step.before.is_released() && step.after.is_released();
    let reported =
        matches!(step.event, Event::Released { incarnation } if step.before.incarnation() == Some(*incarnation));
    let given_up = step.count(|effect| matches!(effect, Effect::Zombie { .. })) > 0;
    let began = step.before.is_released() && !step.after.is_released();
    let at_rest = matches!(
        step.after.view(),
        ServerState::Disabled | ServerState::Idle | ServerState::Queued | ServerState::Stopped
    );
    (!ended || reported || given_up) && began == step.connects() && (step.after.is_released() || !at_rest)
}

/// Only what lives is disconnected, and it does not live on.
pub fn a_disconnect_is_for_the_live_incarnation(step: &Step<'_>) -> bool {
    let live =
        |state: &State| matches!(state.view(), ServerState::Starting | ServerState::Ready | ServerState::Degraded);
    step.effects.iter().all(|effect| {
        let Effect::Disconnect { incarnation, .. } = effect else { return true };
        live(step.before) && step.before.incarnation() == Some(*incarnation) && !live(step.after)
    })
}

/// A permit or a request for one is out exactly in `queued` and `starting`, and each is returned exactly once.
pub fn a_permit_asked_for_is_returned_once(step: &Step<'_>) -> bool {
    let (had, has) = (step.before.permit(), step.after.permit());
    let mut asked = Vec::new();
    let mut returned = Vec::new();
    for effect in step.effects {
        if let Effect::RequestPermit { incarnation, .. } = effect {
            asked.push(*incarnation);
        }
        if let Effect::ReturnPermit { incarnation } = effect {
            returned.push(*incarnation);
        }
    }
    if had == has {
        return asked.is_empty() && returned.is_empty();
    }
    asked == Vec::from_iter(has) && returned == Vec::from_iter(had)
}

/// The incarnation's number goes up by one when a permit is asked for, and never otherwise.
pub fn a_number_is_given_out_once(step: &Step<'_>) -> bool {
    let asked = step.count(|effect| matches!(effect, Effect::RequestPermit { .. })) > 0;
    let (before, after) = (step.before.incarnation(), step.after.incarnation());
    let number = |incarnation: Option<ostler_core::Incarnation>| incarnation.map_or(0, ostler_core::Incarnation::get);
    number(after) == number(before) + u64::from(asked)
}

/// What another incarnation reports is dropped, and said to be; nothing else is.
pub fn a_stale_event_changes_nothing(step: &Step<'_>) -> bool {
    let stale = step.event.incarnation().is_some_and(|incarnation| step.before.incarnation() != Some(incarnation));
    if stale {
        return step.before == step.after && *step.effects == [Effect::Stale];
    }
    !step.effects.contains(&Effect::Stale)
}

/// What only a person can mend is never tried in quick succession.
pub fn needs_action_has_no_fast_timer(step: &Step<'_>) -> bool {
    let recheck = step.after.wake_at().map(|at| at.saturating_duration_since(step.now));
    // A wait of more than a year is cut to one.
    let least = step.policy.recheck.min(std::time::Duration::from_hours(365 * 24));
    !step.entered(ServerState::NeedsAction) || recheck.is_none_or(|wait| wait >= least)
}

/// After a shutdown nothing starts, ever.
pub fn a_shutdown_is_final(step: &Step<'_>) -> bool {
    if !step.after.is_shut_down() {
        return !step.before.is_shut_down() && *step.event != Event::Shutdown;
    }
    matches!(step.after.view(), ServerState::Stopping | ServerState::Stopped | ServerState::Disabled)
        && step.after.permit().is_none()
        && (step.after.view() == ServerState::Stopping || step.after.wake_at().is_none())
}

/// A disabled server leaves that state only if it is wanted by an order and by its policy.
pub fn a_disabled_server_stays_so(step: &Step<'_>) -> bool {
    if step.before.view() != ServerState::Disabled || step.after.view() == ServerState::Disabled {
        return true;
    }
    step.policy.enabled && matches!(step.event, Event::Start | Event::Restart)
}

/// Each kind of notice is given at most once a streak; that it was given is forgotten only with the streak.
pub fn a_notice_is_given_once_a_streak(step: &Step<'_>) -> bool {
    let (before, after) = (step.before.ledger().told(), step.after.ledger().told());
    let settled = step.before.stable_at().is_some_and(|due| due <= step.now);
    let by_order = matches!(step.event, Event::Start | Event::Restart | Event::Stop | Event::Disable);
    let streak_ended = settled || by_order;
    let forgotten = before.failing && !after.failing
        || before.quarantined && !after.quarantined
        || !before.action.is_subset(&after.action);
    let news = step.effects.iter().all(|effect| {
        let Effect::Notify(notice) = effect else { return true };
        match notice {
            Notice::FailingRepeatedly { failures, .. } => {
                after.failing
                    && (streak_ended || !before.failing)
                    && step.policy.notify_after.is_some_and(|limit| *failures >= limit.get())
            }
            Notice::Quarantined { .. } => after.quarantined && (streak_ended || !before.quarantined),
            Notice::NeedsAction(fault) => {
                after.action.contains(&fault.class) && (streak_ended || !before.action.contains(&fault.class))
            }
            Notice::Recovered => settled,
            Notice::Catalogue(_) | Notice::Together(_) | Notice::HostProblem => false,
        }
    });
    news && (streak_ended || !forgotten)
}

/// The deadline of a state that was just entered is not over yet.
pub fn a_deadline_is_never_in_the_past(step: &Step<'_>) -> bool {
    !step.entered(step.after.view()) || step.after.wake_at().is_none_or(|due| due >= step.now)
}

/// States that time alone ends have a deadline; states that only the world or a person ends have none.
pub fn a_state_has_a_deadline_if_time_ends_it(step: &Step<'_>) -> bool {
    match step.after.view() {
        ServerState::Starting | ServerState::Stopping | ServerState::Backoff | ServerState::Quarantined => {
            step.after.wake_at().is_some()
        }
        ServerState::Ready | ServerState::Degraded | ServerState::NeedsAction => true,
        ServerState::Disabled | ServerState::Idle | ServerState::Queued | ServerState::Stopped => {
            step.after.wake_at().is_none()
        }
    }
}

/// A restart is counted together with the connect of the incarnation that follows another.
pub fn a_restart_is_counted_with_its_connect(step: &Step<'_>) -> bool {
    let counted = step.count(|effect| matches!(effect, Effect::Restarted(_)));
    step.after.restarts() - step.before.restarts() == counted as u64
        && (counted == 0 || counted == 1 && step.connects())
}

/// Tools leave the namespace because the server was stopped or disabled, never because it failed.
pub fn tools_leave_by_order_alone(step: &Step<'_>) -> bool {
    let ordered = matches!(step.event, Event::Stop | Event::Disable);
    let retracts = step.count(|effect| *effect == Effect::Retract);
    let was_disabled = step.before.view() == ServerState::Disabled || step.before.is_shut_down();
    if ordered && !was_disabled { retracts <= 1 } else { retracts == 0 }
}
