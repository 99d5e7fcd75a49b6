//! Where a status changes: out of here come the metrics, the events, the log lines and the published status.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ostler_core::ServerStatus;
use ostler_core::port::EventSink;
use ostler_core::status::{Fault, Notice, ServerState as State, What};
use ostler_telemetry::record;

use super::ServerState;
use crate::clock;
use crate::lane::Shut;
use crate::message::FleetMsg;

impl ServerState {
    /// The machine has moved: says so everywhere. `before` is where it was.
    pub(super) fn enter(&mut self, before: State) {
        let now = self.machine.view();
        if now == State::Ready && before != State::Degraded && before != State::Ready {
            self.became_ready();
        }
        let why = self.news().cloned();
        self.lane.explain(Shut { state: now, next_try: self.machine.next_try(), why });
        // The board before the event: whoever hears of the change and looks sees it.
        self.announce();
        if before != now {
            self.changed(before, now);
            if !now.is_on_its_way() {
                self.remember();
            }
        }
    }

    /// Puts the status on the board.
    pub(super) fn announce(&self) {
        self.house.board.put(self.status());
        record::state(&self.spec.id, self.machine.view());
        record::failures(&self.spec.id, self.machine.failures());
        record::backoff(&self.spec.id, self.next_try_in().unwrap_or_default());
    }

    /// Tells whoever runs the fleet.
    pub(super) fn notify(&self, notice: Notice) {
        let (server, incarnation) = (&self.spec.id, self.machine.incarnation());
        match &notice {
            Notice::Recovered => tracing::info!(server.id = %server, "server works again"),
            Notice::NeedsAction(_) | Notice::Quarantined { .. } => {
                tracing::error!(server.id = %server, notice = %notice, "server needs somebody");
            }
            Notice::FailingRepeatedly { .. } | Notice::Catalogue(_) | Notice::Together(_) | Notice::HostProblem => {
                tracing::warn!(server.id = %server, notice = %notice, "notice about a server");
            }
        }
        // The fleet decides whether it is said alone: when many servers have something to say, it is one thing.
        let _ = self.fleet.cast(FleetMsg::Notice { server: server.clone(), incarnation, notice });
    }

    fn became_ready(&mut self) {
        let now = clock::now();
        if let Some(died_at) = self.died_at.take() {
            record::recovery(now.saturating_duration_since(died_at));
        }
        let Some(running) = &mut self.connection else { return };
        running.ready_at = Some(now);
        if let Some(facts) = &running.facts {
            let version = facts.server_version.as_deref().unwrap_or("");
            record::info(&self.spec.id, version, &facts.revision, facts.transport);
        }
        let since_epoch = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        record::started(&self.spec.id, since_epoch.as_secs_f64());
    }

    fn changed(&self, from: State, to: State) {
        let fault = self.news().cloned();
        let error = fault.as_ref().map(ToString::to_string);
        let incarnation = self.machine.incarnation().map(ostler_core::Incarnation::get);
        let next_try_in = self.next_try_in();
        let next_try_ms = next_try_in.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        let server = &self.spec.id;
        // A person is told by notices; what happens on the way to the third failure is no warning yet.
        if matches!(to, State::Queued | State::Starting) {
            tracing::debug!(server.id = %server, incarnation, %from, %to, "server changed state");
        } else {
            tracing::info!(server.id = %server, incarnation, %from, %to, error, next_try_ms, "server changed state");
        }
        let what = What::State { from, to, fault, next_try_in };
        self.house.events.emit(server, self.machine.incarnation(), what);
    }

    /// The fault that a change to the present state is about, if it is about one.
    fn news(&self) -> Option<&Arc<Fault>> {
        match self.machine.view() {
            State::Backoff | State::Quarantined | State::NeedsAction => self.machine.last_fault(),
            State::Disabled
            | State::Idle
            | State::Queued
            | State::Starting
            | State::Ready
            | State::Degraded
            | State::Stopping
            | State::Stopped => None,
        }
    }

    fn next_try_in(&self) -> Option<Duration> {
        self.machine.next_try().map(|at| at.saturating_duration_since(clock::now()))
    }

    fn status(&self) -> ServerStatus {
        let machine = &self.machine;
        let running = self.connection.as_ref();
        ServerStatus {
            server: self.spec.id.clone(),
            state: machine.view(),
            since: machine.since().unwrap_or_else(clock::now),
            incarnation: machine.incarnation(),
            facts: running.and_then(|running| running.facts.clone()),
            tools: self.listed.tools,
            refused_tools: self.listed.refused.len(),
            failures: machine.failures(),
            restarts: machine.restarts(),
            last_fault: machine.last_fault().cloned(),
            next_try: machine.next_try(),
            start_deadline: machine.start_deadline(),
        }
    }
}
