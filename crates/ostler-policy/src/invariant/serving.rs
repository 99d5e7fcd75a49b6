//! What is kept while a server serves, sleeps or ends: probes, idleness, the bound on restarts, zombies.

use std::time::Duration;

use ostler_core::ServerState;

use super::Step;
use crate::gate::StartClass;
use crate::machine::{Effect, Event, MAX_HOLD, PROBE_MISSES, Restart, State, of_late};

fn serves(state: &State) -> bool {
    matches!(state.view(), ServerState::Ready | ServerState::Degraded)
}

/// A wait of more than a year is cut to one.
fn at_most_a_year(wait: Duration) -> Duration {
    wait.min(Duration::from_hours(365 * 24))
}

/// Whoever was restarted more often than is borne within the window is put aside and not simply tried again.
pub fn too_many_restarts_of_late_are_a_quarantine(step: &Step<'_>) -> bool {
    let restarted = step.after.ledger().restarted();
    let counted = restarted.last() == Some(&step.now) && restarted != step.before.ledger().restarted();
    let (Some(intensity), Some(_), true) = (step.policy.intensity, step.policy.quarantine_after, counted) else {
        return true;
    };
    let crowd = of_late(restarted, intensity.within, step.now) > usize::try_from(intensity.restarts.get()).unwrap_or(0);
    !crowd || step.after.destination() != ServerState::Backoff
}

/// A restart that follows a failure is counted in the window: one for each, and the window stays bounded.
pub fn every_automatic_restart_is_counted(step: &Step<'_>) -> bool {
    let Some(intensity) = step.policy.intensity else { return true };
    let restarted = step.after.ledger().restarted();
    let bounded = restarted.len() <= usize::try_from(intensity.restarts.get()).unwrap_or(usize::MAX).saturating_add(1);
    let failed = step.after.failures() > step.before.failures()
        && matches!(step.after.destination(), ServerState::Backoff | ServerState::Quarantined);
    (bounded || restarted == step.before.ledger().restarted()) && (!failed || restarted.last() == Some(&step.now))
}

/// A streak that was put aside once is not tried again quickly before it is over.
pub fn a_failed_try_goes_back_into_quarantine(step: &Step<'_>) -> bool {
    let same_streak = step.before.ledger().told().quarantined && step.after.ledger().told().quarantined;
    let failed = step.after.failures() > step.before.failures();
    !(same_streak && failed && step.policy.quarantine_after.is_some())
        || step.after.destination() != ServerState::Backoff
}

/// A server that serves is put to sleep because nobody called and its policy says so, or because it ended as expected.
pub fn a_server_sleeps_only_if_it_may(step: &Step<'_>) -> bool {
    if step.after.destination() != ServerState::Idle || !serves(step.before) {
        return true;
    }
    match step.event {
        Event::Idle { .. } => step.policy.idle_stop.is_some(),
        Event::Down { fault, .. } => {
            step.policy.may_sleep() && step.policy.restart == Restart::OnFailure && step.policy.expects(fault)
        }
        Event::Start
        | Event::Stop
        | Event::Restart
        | Event::Disable
        | Event::Shutdown
        | Event::Permit { .. }
        | Event::Up { .. }
        | Event::Released { .. }
        | Event::Called
        | Event::Throttled { .. }
        | Event::ProbeOk { .. }
        | Event::ProbeMissed { .. }
        | Event::Tick => false,
    }
}

/// A call wakes whoever sleeps or is about to.
pub fn a_call_wakes_who_sleeps(step: &Step<'_>) -> bool {
    let asleep = step.before.destination() == ServerState::Idle;
    *step.event != Event::Called || !asleep || step.after.destination() == ServerState::Queued
}

/// An end that the policy expects is no failure, unless it wants the server to run always.
pub fn an_expected_exit_is_no_failure(step: &Step<'_>) -> bool {
    let Event::Down { fault, .. } = step.event else { return true };
    if step.policy.restart == Restart::Always || !serves(step.before) || !step.policy.expects(fault) {
        return true;
    }
    step.after.failures() <= step.before.failures()
        && matches!(step.after.destination(), ServerState::Stopped | ServerState::Idle)
}

/// If the policy wants probes, a server that has just come up has one ahead, and no probe is the last.
pub fn a_server_that_serves_is_probed(step: &Step<'_>) -> bool {
    let Some(every) = step.policy.probe_every() else { return true };
    if step.entered(ServerState::Ready) && !serves(step.before) {
        let longest = step.now + every.mul_f64(1.2);
        return step.after.probe_at().is_some_and(|at| at <= longest);
    }
    !(serves(step.before) && serves(step.after) && step.before.probe_at().is_some()) || step.after.probe_at().is_some()
}

/// A probe is sent when it is due, to a server that serves, and the next one only after its deadline.
pub fn a_probe_is_due_and_has_its_time(step: &Step<'_>) -> bool {
    let probes = step.count(|effect| matches!(effect, Effect::Probe { .. }));
    let right = step.effects.iter().all(|effect| {
        let Effect::Probe { incarnation, deadline } = effect else { return true };
        *step.event == Event::Tick
            && step.before.incarnation() == Some(*incarnation)
            && serves(step.before)
            && serves(step.after)
            && step.before.probe_at().is_some_and(|at| at <= step.now)
            && *deadline == step.now + at_most_a_year(step.policy.probe_timeout)
            && step.after.probe_at().is_some_and(|at| at >= *deadline)
    });
    probes <= 1 && right
}

/// No server lives on that has missed as many probes as it may.
pub fn misses_have_an_end(step: &Step<'_>) -> bool {
    let missed =
        matches!(step.event, Event::ProbeMissed { .. }) && step.before.incarnation() == step.event.incarnation();
    let next = if serves(step.after) { step.after.misses() } else { 0 };
    next < PROBE_MISSES && (!(missed && serves(step.before) && serves(step.after)) || next == step.before.misses() + 1)
}

/// A server that asked to be left alone is, and not for long. It stays what it was: that is no failure.
pub fn a_hold_is_short_and_harmless(step: &Step<'_>) -> bool {
    let held = step.before.held_until().filter(|until| *until > step.now);
    let probed = step.count(|effect| matches!(effect, Effect::Probe { .. })) > 0;
    let changed = step.after.held_until() != step.before.held_until();
    let short = step.after.held_until().is_none_or(|until| !changed || until <= step.now + MAX_HOLD);
    let asked = matches!(step.event, Event::Throttled { .. });
    let harmless = step.effects.iter().all(|effect| *effect == Effect::Stale)
        && step.after.view() == step.before.view()
        && step.after.failures() == step.before.failures();
    !(held.is_some() && probed) && short && (!asked || harmless)
}

/// Who waits for the end of an incarnation waits for a bounded time, and another order does not make it longer.
pub fn a_stop_ends_by_time_alone(step: &Step<'_>) -> bool {
    if step.after.view() != ServerState::Stopping {
        return true;
    }
    if step.before.view() == ServerState::Stopping {
        return step.after.wake_at() == step.before.wake_at();
    }
    step.after.wake_at() == Some(step.now + at_most_a_year(step.policy.patience()))
}

/// A zombie is declared of what is being stopped, when the patience is over, once, and out loud.
pub fn a_zombie_is_declared_when_patience_ends(step: &Step<'_>) -> bool {
    let zombies = step.count(|effect| matches!(effect, Effect::Zombie { .. }));
    let due = step.before.view() == ServerState::Stopping
        && *step.event == Event::Tick
        && step.before.wake_at().is_some_and(|at| at <= step.now);
    let current = step.effects.iter().all(|effect| {
        let Effect::Zombie { incarnation } = effect else { return true };
        step.before.incarnation() == Some(*incarnation)
    });
    current && zombies == usize::from(due) && (zombies == 0 || step.after.is_released())
}

/// A start waits in the line that its failures and its policy say.
pub fn a_start_waits_in_its_line(step: &Step<'_>) -> bool {
    let expected = match (step.after.failures() > 0, step.policy.required) {
        (false, true) => StartClass::Required,
        (true, true) | (false, false) => StartClass::Fresh,
        (true, false) => StartClass::Retry,
    };
    step.effects.iter().all(|effect| {
        let Effect::RequestPermit { class, .. } = effect else { return true };
        *class == expected
    })
}

/// What is remembered is where it stood, whether or not the house has closed since.
pub fn a_shutdown_forgets_nothing(step: &Step<'_>) -> bool {
    if !matches!(step.event, Event::Shutdown) && !step.before.is_shut_down() {
        return true;
    }
    step.before.remember(step.now) == step.after.remember(step.now)
}
