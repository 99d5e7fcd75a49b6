//! The door to a running fleet, for the command line, listeners and embedders. Reads never wait for an actor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::Dispatch;
use ostler_core::{ServerId, ServerStatus};
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use crate::error::FleetError;
use crate::event::EventLog;
use crate::house::House;
use crate::message::{FleetMsg, Order};
use crate::router::ToolRouter;
use crate::server::ServerSpec;

/// What a shutdown needs beyond the servers' own grace: the kill and the last messages.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(2);

/// A fleet. Clones are the same fleet, also across a restart of its actor.
#[derive(Debug, Clone)]
pub struct FleetHandle {
    house: Arc<House>,
}

impl FleetHandle {
    /// The door to the fleet that lives in `house`.
    pub fn new(house: Arc<House>) -> Self {
        Self { house }
    }

    /// The status of every server, in configuration order.
    pub fn statuses(&self) -> Vec<ServerStatus> {
        self.house.board.all()
    }

    /// The status of one server.
    pub fn status(&self, server: &ServerId) -> Option<ServerStatus> {
        self.house.board.get(server)
    }

    /// The namespace and the way into it.
    pub fn dispatch(&self) -> Arc<dyn Dispatch> {
        Arc::new(ToolRouter { house: Arc::clone(&self.house) })
    }

    /// How often the list of tools has changed.
    pub fn generation(&self) -> u64 {
        self.house.routes.load().generation()
    }

    /// The event log.
    pub fn events(&self) -> EventLog {
        self.house.events.clone()
    }

    /// Starts a server that does not run. Errors: there is no such server, or no fleet that takes orders.
    /// The order is taken, not yet done, when this returns.
    pub fn start(&self, server: &ServerId) -> Result<(), FleetError> {
        self.order(server, Order::Start)
    }

    /// Stops a server and keeps it stopped; its tools leave the namespace. Otherwise as [`Self::start`].
    pub fn stop(&self, server: &ServerId) -> Result<(), FleetError> {
        self.order(server, Order::Stop)
    }

    /// Stops a server and starts it again, with a clean slate. Otherwise as [`Self::start`].
    pub fn restart(&self, server: &ServerId) -> Result<(), FleetError> {
        self.order(server, Order::Restart)
    }

    /// Makes `desired` the fleet. Servers that are the same are not touched.
    pub fn reconcile(&self, desired: Vec<ServerSpec>) -> Result<(), FleetError> {
        self.send(FleetMsg::Reconcile(desired))
    }

    /// Waits until every enabled server is ready or has failed at least once, at most until `deadline`.
    /// Returns whether it came to that. Cancel-safe.
    pub async fn settled(&self, deadline: Instant) -> bool {
        let mut changes = self.house.board.watch();
        loop {
            changes.borrow_and_update();
            if self.house.board.is_settled() {
                return true;
            }
            if timeout_at(deadline.into(), changes.changed()).await.is_err() {
                return false;
            }
        }
    }

    /// Whether every enabled server is ready or has failed at least once.
    pub fn is_settled(&self) -> bool {
        self.house.board.is_settled()
    }

    /// Ends all servers in parallel, each within `grace` and then by force. Returns whether all ended.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let (done, ended) = oneshot::channel();
        if self.send(FleetMsg::Shutdown { grace, done }).is_err() {
            return false;
        }
        matches!(timeout(grace + SHUTDOWN_SLACK, ended).await, Ok(Ok(())))
    }

    fn order(&self, server: &ServerId, order: Order) -> Result<(), FleetError> {
        if self.status(server).is_none() {
            return Err(FleetError::UnknownServer(server.clone()));
        }
        self.send(FleetMsg::Order { server: server.clone(), order })
    }

    fn send(&self, message: FleetMsg) -> Result<(), FleetError> {
        let fleet = self.house.fleet.load_full().ok_or(FleetError::Closed)?;
        fleet.cast(message).map_err(|_| FleetError::Closed)
    }
}
