//! From configured servers to the runtime's: a connector, a policy and the bounds of a lane for each.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use ostler_core::port::{Attempt, BoxFuture, Connection, Connector};
use ostler_core::status::{Fault, FaultClass};
use ostler_mcp::{EraChoice, Limits, StdioConnector, StdioSpec};
use ostler_policy::gate::StartKind;
use ostler_policy::reconcile::Fingerprint;
use ostler_process::{Ladder, Reaper, ResourceLimits, Sandbox};
use ostler_runtime::{LaneLimits, ServerSpec, WhileRestarting};

use super::consent::Consents;
use crate::config::{self, Era, Program, REMOTE_UNSUPPORTED, Server, Transport};

pub(super) fn specs(servers: &[Server], reaper: &Reaper, consents: &Consents) -> Vec<ServerSpec> {
    servers.iter().map(|server| spec(server, reaper, consents)).collect()
}

fn spec(server: &Server, reaper: &Reaper, consents: &Consents) -> ServerSpec {
    let mut policy = server.policy.clone();
    policy.enabled = server.enabled;
    ServerSpec {
        id: server.id.clone(),
        fingerprint: Fingerprint::new(format!("{} {policy:?} {:?}", server.fingerprint(), server.lane)),
        policy: Arc::new(policy),
        lane: LaneLimits {
            in_flight: server.lane.in_flight,
            waiting: server.lane.waiting,
            call_timeout: server.lane.call_timeout,
            while_restarting: match server.lane.while_restarting {
                config::WhileRestarting::Wait => WhileRestarting::Wait,
                config::WhileRestarting::Fail => WhileRestarting::Fail,
            },
            on_restart: server.policy.on_restart,
        },
        kind: match &server.transport {
            Transport::Stdio { program: Program::Named(program), .. } => StartKind::of_program(Path::new(program)),
            Transport::Stdio { program: Program::Ourselves, .. } => StartKind::Process,
            Transport::Remote { .. } => StartKind::Network,
        },
        launch: server.fingerprint(),
        connector: consents.guard(server, connector(server, reaper)),
    }
}

fn connector(server: &Server, reaper: &Reaper) -> Arc<dyn Connector> {
    let Transport::Stdio { program, args, env, cwd } = &server.transport else {
        let fault = Fault::new(FaultClass::BadConfig, REMOTE_UNSUPPORTED)
            .with_hint("give it a command that bridges to the remote server, or disable it");
        return Arc::new(Impossible(fault));
    };
    let program = match program.resolve() {
        Ok(program) => program,
        Err(error) => {
            let message = format!("the path of this program cannot be found: {error}");
            return Arc::new(Impossible(Fault::new(FaultClass::BadConfig, message)));
        }
    };
    let spec = StdioSpec {
        server: server.id.clone(),
        program,
        args: args.iter().map(|arg| OsString::from(arg.expose())).collect(),
        env: env.iter().map(|(name, value)| (OsString::from(name), value.clone())).collect(),
        cwd: cwd.clone(),
        resources: ResourceLimits {
            memory: server.limits.memory,
            processes: server.limits.processes.map(NonZeroU32::get),
            ..ResourceLimits::default()
        },
        sandbox: match &server.sandbox {
            config::Sandbox::Off => Sandbox::Off,
            config::Sandbox::Restricted { writable } => Sandbox::Restricted { writable: writable.clone() },
        },
        ladder: Ladder::default(),
        limits: Limits { frame_bytes: server.max_frame, ..Limits::default() },
        era: match server.era {
            Era::Auto => EraChoice::Auto,
            Era::Legacy => EraChoice::Legacy,
            Era::Modern => EraChoice::Modern,
        },
    };
    Arc::new(StdioConnector::new(spec, reaper.clone()))
}

/// A server that cannot run as it is configured: every try says why.
struct Impossible(Fault);

impl Connector for Impossible {
    fn connect(&self, _: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        Box::pin(std::future::ready(Err(self.0.clone())))
    }
}
