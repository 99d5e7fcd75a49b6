//! Brings one configured server up: spawn, greet, list. It remembers which era the server lives in.
//!
//! Some old servers die of the era probe. They are started a second time within the same attempt, and asked differently.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_core::port::{Attempt, BoxFuture, Connection, Connector, Inbound, Lease};
use ostler_core::status::{Facts, Fault, FaultClass};
use ostler_core::{Incarnation, Secret, ServerId};
use ostler_process::{Ladder, Reaper, ResourceLimits, Sandbox};
use ostler_telemetry::record::WireCounters;
use tokio::time::timeout_at;

use crate::clock;
use crate::greeting::Greeting;
use crate::life::Life;
use crate::lifecycle::{self, Failure, Opening};
use crate::limit::Limits;
use crate::list::Lister;
use crate::meter::Meter;
use crate::revision::Era;
use crate::session::Parts;
use crate::transport::Spawner;
use crate::transport::stdio::Command;
use crate::upstream::Live;

/// How long a process that died of the probe may take to be gone.
const BURIAL: Duration = Duration::from_secs(5);

/// A server that is started as a child and spoken to over its pipes.
pub struct StdioSpec {
    /// Which server.
    pub server: ServerId,
    /// The program: a path, or a name to be found in the PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What is added to its environment.
    pub env: Vec<(OsString, Secret)>,
    /// Its working folder; ours if `None`.
    pub cwd: Option<PathBuf>,
    /// What it may use up.
    pub resources: ResourceLimits,
    /// What it may touch.
    pub sandbox: Sandbox,
    /// How it is stopped.
    pub ladder: Ladder,
    /// The bounds of its sessions.
    pub limits: Limits,
    /// How its sessions begin.
    pub era: EraChoice,
}

/// How sessions with a server begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EraChoice {
    /// As the server can: asked on the first start, remembered for the next ones.
    #[default]
    Auto,
    /// With `initialize`.
    Legacy,
    /// With `server/discover`.
    Modern,
}

/// Connects to a server that is a child process. Implements [`Connector`].
pub struct StdioConnector(Dialer<Command>);

impl StdioConnector {
    /// A connector for `spec`, whose children live below `reaper`.
    pub fn new(spec: StdioSpec, reaper: Reaper) -> Self {
        let meter = Arc::new(WireCounters::new(&spec.server));
        let command = Command {
            server: spec.server,
            program: spec.program,
            args: spec.args,
            env: spec.env,
            cwd: spec.cwd,
            resources: spec.resources,
            sandbox: spec.sandbox,
            ladder: spec.ladder,
            reaper,
        };
        Self(Dialer::new(command, meter, spec.limits, spec.era))
    }
}

impl Connector for StdioConnector {
    fn connect(&self, attempt: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        Box::pin(self.0.dial(attempt))
    }
}

/// What earlier attempts taught about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Nothing,
    /// It spoke in this era.
    Spoke(Era),
    /// It died without the probe, too: the probe is not to blame, and one start is enough for the next attempt. The one
    /// after that probes again, for this was perhaps only a bad hour of a server that dies of `initialize`.
    Crashes,
}

/// Connects to one server through any spawner.
struct Dialer<S> {
    spawner: S,
    meter: Arc<dyn Meter>,
    limits: Limits,
    era: EraChoice,
    memory: Mutex<Memory>,
}

/// The parts of an attempt that every start within it shares.
struct Start {
    server: ServerId,
    incarnation: Incarnation,
    deadline: Instant,
    inbound: Arc<dyn Inbound>,
    lease: Arc<Lease>,
}

impl<S: Spawner> Dialer<S> {
    fn new(spawner: S, meter: Arc<dyn Meter>, limits: Limits, era: EraChoice) -> Self {
        Self { spawner, meter, limits, era, memory: Mutex::new(Memory::Nothing) }
    }

    async fn dial(&self, attempt: Attempt) -> Result<Connection, Fault> {
        let start = Start {
            server: attempt.server,
            incarnation: attempt.incarnation,
            deadline: attempt.deadline,
            inbound: attempt.inbound,
            lease: Arc::new(attempt.lease),
        };
        let before = self.recall();
        match self.bring_up(&start, before).await {
            Ok((connection, after)) => {
                self.remember(after);
                Ok(connection)
            }
            Err((fault, after)) => {
                self.remember(after);
                Err(fault)
            }
        }
    }

    async fn bring_up(&self, start: &Start, before: Memory) -> Result<(Connection, Memory), (Fault, Memory)> {
        let opening = self.opening(before);
        let life = self.spawn(start).await.map_err(|fault| (fault, before))?;
        let window = self.limits.probe_window;
        let greeted = Box::pin(lifecycle::greet(&life, opening, window, start.deadline)).await;
        let (life, greeting, after) = match greeted {
            Ok(greeting) => {
                let after = match before {
                    // It may be as good in the other era; the next probe tells.
                    Memory::Crashes => Memory::Nothing,
                    Memory::Nothing | Memory::Spoke(_) => Memory::Spoke(greeting.revision.era),
                };
                (life, greeting, after)
            }
            Err(Failure { has_died: true, fault }) if opening == Opening::Probe => {
                tracing::debug!(server.id = %start.server, error = %fault, "the server died of the probe; once more");
                life.end(BURIAL).await;
                drop(life);
                let life = self.spawn(start).await.map_err(|fault| (fault, before))?;
                match Box::pin(lifecycle::greet(&life, Opening::Initialize, window, start.deadline)).await {
                    Ok(greeting) => {
                        let after = Memory::Spoke(greeting.revision.era);
                        (life, greeting, after)
                    }
                    Err(failure) => return Err(forget(before, failure)),
                }
            }
            Err(failure) => return Err(forget(before, failure)),
        };
        let connection = self.take_stock(start, life, greeting).await.map_err(|failure| forget(before, failure))?;
        Ok((connection, after))
    }

    /// Reads the lists and hands the life over.
    async fn take_stock(&self, start: &Start, life: Life, greeting: Greeting) -> Result<Connection, Failure> {
        let revision = greeting.revision;
        life.session().shared().settle(revision);
        let declared = greeting.declared();
        let lister = Lister { life: &life, revision, declared, limits: self.limits, deadline: start.deadline };
        let began = clock::now();
        let catalogue = match Box::pin(lister.all(greeting.instructions)).await {
            Ok(catalogue) => catalogue,
            Err(error) => {
                let after = clock::now().saturating_duration_since(began);
                return Err(lifecycle::failure(&life, "tools/list", error, after).await);
            }
        };
        life.is_up();
        let facts = Facts {
            pid: life.process().pid(),
            revision: revision.name.to_owned(),
            transport: "stdio",
            server_name: greeting.server_name,
            server_version: greeting.server_version,
            capabilities: greeting.capabilities,
        };
        let live = Live::new(life, revision, declared, self.limits, catalogue.clone());
        Ok(Connection { upstream: Arc::new(live), catalogue, facts })
    }

    async fn spawn(&self, start: &Start) -> Result<Life, Fault> {
        let lease = Lease::new(Arc::clone(&start.lease));
        let spawned = timeout_at(start.deadline.into(), self.spawner.spawn(start.incarnation, lease)).await;
        let pipes =
            spawned.map_err(|_| Fault::new(FaultClass::SlowStart, "the process could not be started in time"))??;
        let parts = Parts {
            server: start.server.clone(),
            incarnation: start.incarnation,
            output: pipes.output,
            input: pipes.input,
            inbound: Arc::clone(&start.inbound),
            meter: Arc::clone(&self.meter),
            limits: self.limits,
        };
        Ok(Life::start(parts, pipes.process))
    }

    fn opening(&self, memory: Memory) -> Opening {
        match (self.era, memory) {
            (EraChoice::Legacy, _) => Opening::OnlyInitialize,
            (EraChoice::Modern, _) | (EraChoice::Auto, Memory::Spoke(Era::Modern)) => Opening::OnlyDiscover,
            (EraChoice::Auto, Memory::Spoke(Era::Legacy) | Memory::Crashes) => Opening::Initialize,
            (EraChoice::Auto, Memory::Nothing) => Opening::Probe,
        }
    }

    fn recall(&self) -> Memory {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, memory: Memory) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }
}

/// What a failed start leaves in the memory.
fn forget(before: Memory, failure: Failure) -> (Fault, Memory) {
    let memory = match before {
        Memory::Nothing | Memory::Spoke(_) if failure.has_died => Memory::Crashes,
        Memory::Nothing | Memory::Spoke(_) | Memory::Crashes => Memory::Nothing,
    };
    (failure.fault, memory)
}
