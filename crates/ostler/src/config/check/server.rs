//! One server: its name, how it is reached, how it is kept, how calls to it are bounded.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ostler_core::{Secret, ServerId};
use ostler_policy::{Policy, Restart, Schedule};

use super::{Check, GivenServer, Placed};
use crate::config::file::{BackoffSection, Era, Launch, RestartWord, Section, Tuning, WhileRestarting};
use crate::config::leaf::Given;
use crate::config::report::{At, Spot};
use crate::config::{Lane, Program, REMOTE_UNSUPPORTED, Server, Transport};

impl Check<'_> {
    /// One server, with what it does not say taken from `defaults`. `None`: not even its name is sound.
    pub(super) fn server(&mut self, given: GivenServer, defaults: &Tuning) -> Option<Placed> {
        let GivenServer { name, spot, launch, tuning, extra } = given;
        let tuning = inherited(tuning, defaults);
        let id = match ServerId::map(&name) {
            Ok(id) => id,
            Err(why) => return self.report.problem(&spot, format!("{why}; write a name such as \"files\"")),
        };
        if id.as_str() != name {
            self.report.notice(&spot, &format!("the server {name:?} is called \"{id}\" here"));
        }
        let enabled = launch.enabled.as_ref().is_none_or(|at| at.value);
        let era = launch.protocol.as_ref().map_or(Era::Auto, |at| at.value);
        let transport = self.transport(&launch, enabled, &spot);
        if enabled && matches!(transport, Some(Transport::Remote { .. })) {
            self.report.notice(&spot, REMOTE_UNSUPPORTED);
        }
        let policy = self.policy(&tuning, enabled);
        let sound = transport.zip(policy).map(|(transport, policy)| Server {
            id: id.clone(),
            configured_name: name.clone(),
            enabled,
            transport,
            policy,
            lane: lane(&tuning),
            max_frame: said(tuning.max_frame.as_ref()).map_or(4 << 20, |size| size.0),
            era,
            extra,
        });
        Some(Placed { id, name, spot, server: sound })
    }

    fn transport(&mut self, launch: &Launch, enabled: bool, spot: &Spot) -> Option<Transport> {
        match (&launch.command, &launch.url) {
            (Some(command), None) => {
                if let Some(headers) = &launch.headers {
                    let message = "headers are for remote servers; remove them, or write url for command";
                    self.report.problem::<()>(&headers.spot, message);
                }
                self.stdio(command, launch, enabled)
            }
            (None, Some(url)) => {
                let local = [
                    launch.args.as_ref().map(|at| &at.spot),
                    launch.env.as_ref().map(|at| &at.spot),
                    launch.cwd.as_ref().map(|at| &at.spot),
                ];
                for spot in local.into_iter().flatten() {
                    self.report.problem::<()>(spot, "this is for local servers; remove it, or write command for url");
                }
                self.remote(url, launch, enabled)
            }
            (Some(_), Some(url)) => {
                let message = "a server has a command or a url; remove one of the two";
                self.report.problem(&url.spot, message)
            }
            // A misspelt or malformed command was reported; that none is left follows from it.
            (None, None) if self.report.has_problem_in(spot) => None,
            (None, None) => {
                let message = "how is the server reached? write command = \"program\" and args = [\"...\"] (or url = \"https://...\")";
                self.report.problem(spot, message)
            }
        }
    }

    fn stdio(&mut self, command: &At<String>, launch: &Launch, enabled: bool) -> Option<Transport> {
        let program = self.program(command, enabled);
        let mut args = Some(Vec::new());
        for arg in launch.args.iter().flat_map(|at| &at.value) {
            let arg = self.value(&Given::Text(Secret::new(arg.value.as_str())), &arg.spot, enabled);
            args = args.zip(arg).map(|(mut args, arg)| {
                args.push(arg);
                args
            });
        }
        let mut env = Some(Vec::new());
        for (name, given) in launch.env.iter().flat_map(|at| &at.value.0) {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = "this is no name of a variable; write one without \"=\"";
                self.report.problem::<()>(&given.spot, message);
            }
            let value = self.value(&given.value, &given.spot, enabled);
            env = env.zip(value).map(|(mut env, value)| {
                env.push((name.clone(), value));
                env
            });
        }
        let cwd = match &launch.cwd {
            Some(At { value, spot }) if enabled => Some(Some(self.resolver.path(value, spot, self.report)?)),
            Some(At { value, .. }) => Some(Some(PathBuf::from(value))),
            None if self.resolver.folder.as_os_str().is_empty() => Some(None),
            None => Some(Some(self.resolver.folder.to_owned())),
        };
        Some(Transport::Stdio { program: program?, args: args?, env: env?, cwd: cwd? })
    }

    fn program(&mut self, command: &At<String>, enabled: bool) -> Option<Program> {
        let At { value, spot } = command;
        if value.trim().is_empty() {
            return self.report.problem(spot, "the command is empty; write the program's name or path");
        }
        if value == "ostler" {
            return Some(Program::Ourselves);
        }
        if !value.contains('/') && value.trim().contains(char::is_whitespace) {
            let mut words = value.split_whitespace().map(|word| format!("{word:?}"));
            let first = words.next().unwrap_or_default();
            let rest = words.collect::<Vec<_>>().join(", ");
            let message = format!("this is a whole command line; write command = {first} and args = [{rest}]");
            return self.report.problem(spot, message);
        }
        if !enabled {
            return Some(Program::Named(value.into()));
        }
        if value.contains('/') || value.starts_with('~') {
            return self.resolver.path(value, spot, self.report).map(|path| Program::Named(path.into_os_string()));
        }
        let expanded = self.resolver.expand(value, spot, self.report)?;
        let program =
            if expanded.contains('/') { self.resolver.folder.join(expanded).into_os_string() } else { expanded.into() };
        Some(Program::Named(program))
    }

    fn remote(&mut self, url: &At<String>, launch: &Launch, enabled: bool) -> Option<Transport> {
        let expanded = self.value(&Given::Text(Secret::new(url.value.as_str())), &url.spot, enabled);
        if let Some(expanded) = &expanded
            && enabled
            && !["http://", "https://"].iter().any(|scheme| expanded.expose().starts_with(scheme))
        {
            self.report.problem::<()>(&url.spot, "this is no web address; write url = \"https://...\"");
        }
        let mut headers = Some(Vec::new());
        for (name, given) in launch.headers.iter().flat_map(|at| &at.value.0) {
            let value = self.value(&given.value, &given.spot, enabled);
            headers = headers.zip(value).map(|(mut headers, value)| {
                headers.push((name.clone(), value));
                headers
            });
        }
        Some(Transport::Remote { url: expanded?, headers: headers? })
    }

    /// A value of a server. Those of a switched-off server are not read: its secrets need not exist.
    fn value(&mut self, given: &Given, spot: &Spot, enabled: bool) -> Option<Secret> {
        match (enabled, given) {
            (true, given) => self.resolver.secret(given, spot, self.report),
            (false, Given::Text(text)) => Some(text.clone()),
            (false, Given::File(_) | Given::Command(_)) => Some(Secret::new("")),
        }
    }

    fn policy(&mut self, tuning: &Tuning, enabled: bool) -> Option<Policy> {
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
        let nonzero = |count: Option<u32>, standard| count.map_or(standard, NonZeroU32::new);
        Some(Policy {
            enabled,
            restart,
            schedule,
            stable_after: said(tuning.stable_after.as_ref()).map_or(standard.stable_after, |p| p.0),
            start_timeout: said(tuning.start_timeout.as_ref()).map_or(standard.start_timeout, |p| p.0),
            notify_after: nonzero(said(tuning.notify_after.as_ref()), standard.notify_after),
            quarantine_after: nonzero(said(tuning.quarantine_after.as_ref()), standard.quarantine_after),
            stop_grace: said(tuning.stop_grace.as_ref()).map_or(standard.stop_grace, |p| p.0),
            ..standard
        })
    }

    /// Checks a backoff. A key that it lacks has its standard value.
    pub(super) fn schedule(&mut self, given: &At<BackoffSection>) -> Option<Schedule> {
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

/// What a server says, then what `[defaults]` says; of a backoff, key by key.
fn inherited(mut tuning: Tuning, defaults: &Tuning) -> Tuning {
    if let (Some(own), Some(default)) = (&mut tuning.backoff, &defaults.backoff) {
        own.value = own.value.clone().or(&default.value);
    }
    tuning.or(defaults)
}

fn said<T: Copy>(given: Option<&At<T>>) -> Option<T> {
    given.map(|at| at.value)
}

fn lane(tuning: &Tuning) -> Lane {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Lane {
        in_flight: said(tuning.max_in_flight.as_ref()).map_or(64, |n| count(n.get())),
        waiting: said(tuning.max_waiting.as_ref()).map_or(64, count),
        call_timeout: said(tuning.call_timeout.as_ref()).map_or(Duration::from_mins(1), |p| p.0),
        while_restarting: said(tuning.while_restarting.as_ref()).unwrap_or(WhileRestarting::Wait),
    }
}
