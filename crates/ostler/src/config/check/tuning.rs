//! How a server is kept: what it says, then what its group says, then what holds for all; and what that comes to.
//!
//! What is wrong in `[defaults]` or in a group is reported there, once, and not again by every server that has it.

use std::num::NonZeroU32;
use std::time::Duration;

use ostler_policy::{Intensity, OnRestart, Policy, Restart, Schedule};

use super::Check;
use crate::config::file::{
    BackoffSection, IntensitySection, OnRestartWord, Paths, RestartWord, SandboxWord, Section, StartWord, Tuning,
    WhileRestarting, nearest,
};
use crate::config::leaf::{Period, Switch};
use crate::config::report::{At, Spot};
use crate::config::{Lane, Limits, Origin, Sandbox};

/// What holds for servers that do not say otherwise.
#[derive(Default)]
pub(super) struct Fallbacks {
    defaults: Tuning,
    groups: Vec<Group>,
}

struct Group {
    name: String,
    spot: Spot,
    /// With the defaults in it.
    tuning: Tuning,
}

impl Check<'_> {
    /// `[defaults]` and the groups of all files.
    pub(super) fn fallbacks(&mut self, defaults: Option<At<Tuning>>, groups: Vec<(String, At<Tuning>)>) -> Fallbacks {
        let defaults = defaults.map(|at| at.value).unwrap_or_default();
        let mut fallbacks = Fallbacks { defaults: self.fallback(defaults, &Tuning::default()), groups: Vec::new() };
        for (name, At { value, spot }) in groups {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(sound) {
                let message = "a group's name has letters, digits, \"-\", \"_\" and \".\"; write one such as \"web\"";
                self.report.problem::<()>(&spot, message);
            }
            if let Some(earlier) = fallbacks.groups.iter().find(|earlier| earlier.name == name) {
                let message = format!("the group {name:?} is given twice, also at {}; remove one", earlier.spot);
                self.report.problem::<()>(&spot, message);
                continue;
            }
            let tuning = self.fallback(value, &fallbacks.defaults);
            fallbacks.groups.push(Group { name, spot, tuning });
        }
        fallbacks
    }

    fn fallback(&mut self, mut own: Tuning, above: &Tuning) -> Tuning {
        self.find_paths(&mut own, true);
        let mut tuning = inherited(own, above);
        if let Some(backoff) = tuning.backoff.take() {
            let sound = self.schedule(&backoff).is_some();
            tuning.backoff = sound.then_some(backoff);
        }
        tuning
    }

    /// Everything that holds for a server.
    pub(super) fn tuning(
        &mut self,
        mut own: Tuning,
        group: Option<&At<String>>,
        fallbacks: &Fallbacks,
        enabled: bool,
    ) -> Tuning {
        if matches!(self.origin, Origin::Project(_)) {
            let spots = [
                own.memory.take().map(|at| at.spot),
                own.processes.take().map(|at| at.spot),
                own.sandbox.take().map(|at| at.spot),
                own.writable.take().map(|at| at.spot),
            ];
            for spot in spots.into_iter().flatten() {
                let notice = "a project does not say what it may use up and change, so this is not read; say it in your own file, for a group";
                self.report.notice(&spot, notice);
            }
        }
        self.find_paths(&mut own, enabled);
        let writable = own.writable.as_ref().map(|at| at.spot.clone());
        let above = self.above(group, fallbacks);
        let tuning = inherited(own, above);
        if let (Some(spot), Sandbox::Off) = (writable, sandbox(&tuning)) {
            self.report.notice(&spot, "nothing is forbidden to this server; write sandbox = \"restricted\" too");
        }
        tuning
    }

    /// What holds where a server says nothing.
    fn above<'a>(&mut self, group: Option<&At<String>>, fallbacks: &'a Fallbacks) -> &'a Tuning {
        let Some(At { value, spot }) = group else { return &fallbacks.defaults };
        if let Some(group) = fallbacks.groups.iter().find(|group| group.name == *value) {
            return &group.tuning;
        }
        let names: Vec<&str> = fallbacks.groups.iter().map(|group| group.name.as_str()).collect();
        let advice = match nearest(value, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write the table [groups.{value}], which may be empty, or remove this"),
        };
        self.report.problem::<()>(spot, format!("there is no group {value:?}; {advice}"));
        &fallbacks.defaults
    }

    /// Makes paths of what is written, at the place where it is written.
    fn find_paths(&mut self, tuning: &mut Tuning, enabled: bool) {
        let Some(At { value, .. }) = &mut tuning.writable else { return };
        let Paths::Given(given) = value else { return };
        let found = if enabled {
            given.iter().filter_map(|At { value, spot }| self.resolver.path(value, spot, self.report)).collect()
        } else {
            given.iter().map(|at| at.value.clone().into()).collect()
        };
        *value = Paths::Found(found);
    }

    /// How it is kept alive.
    pub(super) fn policy(&mut self, tuning: &Tuning, enabled: bool) -> Option<Policy> {
        let standard = Policy::default();
        let schedule = match &tuning.backoff {
            Some(backoff) => self.schedule(backoff)?,
            None => standard.schedule,
        };
        let restart = match said(tuning.restart.as_ref()) {
            None => standard.restart,
            Some(RestartWord::Always) => Restart::Always,
            Some(RestartWord::OnFailure) => Restart::OnFailure,
            Some(RestartWord::Never) => Restart::Never,
        };
        let lazy = match said(tuning.start.as_ref()) {
            None => standard.lazy,
            Some(StartWord::Eager) => false,
            Some(StartWord::Lazy) => true,
        };
        let on_restart = match said(tuning.on_restart.as_ref()) {
            None => standard.on_restart,
            Some(OnRestartWord::Silent) => OnRestart::Silent,
            Some(OnRestartWord::Surface) => OnRestart::Surface,
        };
        let expected_exits = match &tuning.expected_exits {
            Some(exits) => exits.value.iter().map(|code| i32::from(code.value)).collect(),
            None => standard.expected_exits,
        };
        let nonzero = |count: Option<u32>, standard| count.map_or(standard, NonZeroU32::new);
        Some(Policy {
            enabled,
            lazy,
            restart,
            schedule,
            stable_after: said(tuning.stable_after.as_ref()).map_or(standard.stable_after, |p| p.0),
            start_timeout: said(tuning.start_timeout.as_ref()).map_or(standard.start_timeout, |p| p.0),
            notify_after: nonzero(said(tuning.notify_after.as_ref()), standard.notify_after),
            quarantine_after: nonzero(said(tuning.quarantine_after.as_ref()), standard.quarantine_after),
            stop_grace: said(tuning.stop_grace.as_ref()).map_or(standard.stop_grace, |p| p.0),
            expected_exits,
            intensity: intensity(tuning.intensity.as_ref(), standard.intensity),
            idle_stop: said(tuning.idle_stop.as_ref()).and_then(Switch::on).map(|period| period.0),
            required: said(tuning.required.as_ref()).unwrap_or(standard.required),
            on_restart,
            probe: probe(said(tuning.probe.as_ref())),
            ..standard
        })
    }

    /// Checks a backoff. A key that it lacks has its standard value.
    fn schedule(&mut self, given: &At<BackoffSection>) -> Option<Schedule> {
        let base = said(given.value.base.as_ref()).map_or(Duration::from_secs(1), |period| period.0);
        let factor = said(given.value.factor.as_ref()).unwrap_or(2.0);
        let cap = said(given.value.cap.as_ref()).map_or(Duration::from_secs(30), |period| period.0);
        match Schedule::new(base, factor, cap) {
            Ok(schedule) => Some(schedule),
            Err(why) => {
                let advice = r#"write one such as { base = "1s", factor = 2, cap = "30s" }"#;
                self.report.problem(&given.spot, format!("{why}; {advice}"))
            }
        }
    }
}

/// What is said here, then what is said above; of a backoff and an intensity, key by key.
fn inherited(mut own: Tuning, above: &Tuning) -> Tuning {
    if let (Some(own), Some(above)) = (&mut own.backoff, &above.backoff) {
        own.value = own.value.clone().or(&above.value);
    }
    if let (Some(At { value: Switch::On(own), .. }), Some(At { value: Switch::On(above), .. })) =
        (&mut own.intensity, &above.intensity)
    {
        *own = own.clone().or(above);
    }
    own.or(above)
}

fn said<T: Copy>(given: Option<&At<T>>) -> Option<T> {
    given.map(|at| at.value)
}

/// How calls to it are bounded.
pub(super) fn lane(tuning: &Tuning) -> Lane {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Lane {
        in_flight: said(tuning.max_in_flight.as_ref()).map_or(64, |n| count(n.get())),
        waiting: said(tuning.max_waiting.as_ref()).map_or(64, count),
        call_timeout: said(tuning.call_timeout.as_ref()).map_or(Duration::from_mins(1), |p| p.0),
        while_restarting: said(tuning.while_restarting.as_ref()).unwrap_or(WhileRestarting::Wait),
    }
}

/// How often it is asked whether it still answers.
fn probe(given: Option<Switch<Period>>) -> Option<Duration> {
    given.map_or(Some(Duration::from_secs(30)), |probe| probe.on().map(|period| period.0))
}

/// How many restarts are borne. A key that it lacks has its standard value.
fn intensity(given: Option<&At<Switch<IntensitySection>>>, standard: Option<Intensity>) -> Option<Intensity> {
    let Some(given) = given else { return standard };
    let Switch::On(IntensitySection { restarts, within }) = &given.value else { return None };
    let base = Intensity::default();
    Some(Intensity {
        restarts: said(restarts.as_ref()).unwrap_or(base.restarts),
        within: said(within.as_ref()).map_or(base.within, |period| period.0),
    })
}

/// The largest message that it may send, in bytes.
pub(super) fn max_frame(tuning: &Tuning) -> usize {
    said(tuning.max_frame.as_ref()).map_or(4 << 20, |size| size.0)
}

/// What it may use up.
pub(super) fn limits(tuning: &Tuning) -> Limits {
    Limits {
        memory: said(tuning.memory.as_ref()).and_then(Switch::on).map(|memory| memory.0),
        processes: said(tuning.processes.as_ref()).and_then(Switch::on),
    }
}

/// What it may change.
pub(super) fn sandbox(tuning: &Tuning) -> Sandbox {
    match said(tuning.sandbox.as_ref()) {
        None | Some(SandboxWord::Off) => Sandbox::Off,
        Some(SandboxWord::Restricted) => {
            let writable = match tuning.writable.as_ref().map(|at| &at.value) {
                Some(Paths::Found(paths)) => paths.clone(),
                Some(Paths::Given(_)) | None => Vec::new(),
            };
            Sandbox::Restricted { writable }
        }
    }
}
