//! One server: its name and how it is reached. How it is kept is `tuning`'s.

use std::path::PathBuf;

use ostler_core::{Secret, ServerId};

use super::tuning::{Fallbacks, lane, limits, max_frame, sandbox};
use super::{Check, GivenServer, Placed};
use crate::config::file::{Era, Launch};
use crate::config::launch::Written;
use crate::config::leaf::Given;
use crate::config::report::{At, Spot};
use crate::config::{Origin, Program, REMOTE_UNSUPPORTED, Server, Transport};

impl Check<'_> {
    /// One server, with what it does not say taken from its group and the defaults. `None`: not even its name is sound.
    pub(super) fn server(&mut self, given: GivenServer, fallbacks: &Fallbacks) -> Option<Placed> {
        let GivenServer { name, spot, launch, tuning, extra } = given;
        let id = match ServerId::map(&name) {
            Ok(id) => id,
            Err(why) => return self.report.problem(&spot, format!("{why}; write a name such as \"files\"")),
        };
        if id.as_str() != name {
            self.report.notice(&spot, &format!("the server {name:?} is called \"{id}\" here"));
        }
        let enabled = launch.enabled.as_ref().is_none_or(|at| at.value);
        let tuning = self.tuning(tuning, launch.group.as_ref(), fallbacks, enabled);
        let era = launch.protocol.as_ref().map_or(Era::Auto, |at| at.value);
        let transport = self.transport(&launch, enabled, &spot);
        if enabled && matches!(transport, Some(Transport::Remote { .. })) {
            self.report.notice(&spot, REMOTE_UNSUPPORTED);
        }
        if enabled {
            self.advise(&launch);
        }
        let policy = self.policy(&tuning, enabled);
        let sound = transport.zip(policy).map(|(transport, policy)| Server {
            id: id.clone(),
            configured_name: name.clone(),
            origin: self.origin.clone(),
            group: launch.group.as_ref().map(|at| at.value.clone()),
            enabled,
            transport,
            policy,
            lane: lane(&tuning),
            max_frame: max_frame(&tuning),
            era,
            limits: limits(&tuning),
            sandbox: sandbox(&tuning),
            extra,
            written: Written::new(&launch, self.resolver.environment),
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
        let reads_by_itself = matches!(given, Given::File(_) | Given::Command(_));
        if reads_by_itself && matches!(self.origin, Origin::Project(_)) {
            // Nobody has approved it yet, and a command would run now.
            let message =
                "a project's file must not read files or run commands; write \"${VAR}\", and set it in the environment";
            return self.report.problem(spot, message);
        }
        match (enabled, given) {
            (true, given) => self.resolver.secret(given, spot, self.report),
            (false, Given::Text(text)) => Some(text.clone()),
            (false, Given::File(_) | Given::Command(_)) => Some(Secret::new("")),
        }
    }
}
