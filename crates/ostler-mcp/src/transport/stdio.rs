//! A server as a child of the reaper: its pipes are the streams, its exit is the death.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::port::{BoxFuture, Lease};
use ostler_core::status::{Exit, Fault, FaultClass};
use ostler_core::{Incarnation, Secret, ServerId};
use ostler_process::{Child, Ladder, Launch, Reaper, ResourceLimits, Sandbox};

use super::{Beyond, Pipes, Process, Spawner};

/// The launch line of a server, and how it is stopped.
pub(crate) struct Command {
    pub(crate) server: ServerId,
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, Secret)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) resources: ResourceLimits,
    pub(crate) sandbox: Sandbox,
    pub(crate) ladder: Ladder,
    pub(crate) reaper: Reaper,
}

impl Spawner for Command {
    fn spawn(&self, incarnation: Incarnation, lease: Lease) -> BoxFuture<'_, Result<Pipes, Fault>> {
        Box::pin(async move {
            let launch = Launch {
                server: self.server.clone(),
                incarnation,
                program: self.program.clone(),
                args: self.args.clone(),
                env: self.env.iter().map(|(key, value)| (key.clone(), value.expose().into())).collect(),
                cwd: self.cwd.clone(),
                limits: self.resources,
                sandbox: self.sandbox.clone(),
                redact: self.env.iter().map(|(_, value)| value.clone()).collect(),
            };
            let mut child = self.reaper.spawn(launch, lease).await.map_err(|error| error.fault())?;
            let (Some(output), Some(input)) = (child.take_stdout(), child.take_stdin()) else {
                return Err(Fault::new(FaultClass::HostResource, "the child has no pipes"));
            };
            let process = Arc::new(Kept { child, ladder: self.ladder });
            Ok(Pipes { output: Box::new(output), input: Box::new(input), process })
        })
    }
}

struct Kept {
    child: Child,
    ladder: Ladder,
}

impl Process for Kept {
    fn pid(&self) -> Option<u32> {
        Some(self.child.pid())
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(self.child.exited())
    }

    fn kill(&self) {
        self.child.kill();
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.child.stop(fit(self.ladder, grace)))
    }

    fn released(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.child.released())
    }

    fn beyond(&self) -> Option<Beyond> {
        match (self.child.ran_out_of_memory(), self.child.reaper_lost()) {
            (true, _) => Some(Beyond::OutOfMemory),
            (false, true) => Some(Beyond::ReaperLost),
            (false, false) => None,
        }
    }

    fn stderr_tail(&self) -> String {
        self.child.stderr().tail()
    }

    fn stderr_lines(&self) -> u64 {
        self.child.stderr().lines()
    }
}

/// The ladder, shortened in proportion if it is longer than `grace`.
fn fit(ladder: Ladder, grace: Duration) -> Ladder {
    let whole = ladder.eof + ladder.term;
    if whole <= grace {
        return ladder;
    }
    let share = grace.as_secs_f64() / whole.as_secs_f64();
    Ladder { eof: ladder.eof.mul_f64(share), term: ladder.term.mul_f64(share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_never_takes_longer_than_the_grace() {
        let seconds = Duration::from_secs;
        let ladder = Ladder { eof: seconds(2), term: seconds(3) };
        assert_eq!(fit(ladder, seconds(5)), ladder);
        assert_eq!(fit(ladder, seconds(60)), ladder);
        assert_eq!(
            fit(ladder, Duration::from_millis(2500)),
            Ladder { eof: seconds(1), term: Duration::from_millis(1500) }
        );
        assert_eq!(fit(ladder, Duration::ZERO), Ladder { eof: Duration::ZERO, term: Duration::ZERO });
    }
}
