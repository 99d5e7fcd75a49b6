//! Every message of every actor of this room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::Connection;
use ostler_core::status::{Facts, Fault, Notice};
use ostler_core::{CallError, Catalogue, Incarnation, ServerId};
use ostler_policy::gate::{StartClass, StartKind};
use ostler_policy::machine::Event;
use ractor::{ActorId, ActorRef};
use tokio::sync::oneshot;

use crate::lane::Lane;
use crate::server::ServerSpec;

/// To the fleet.
#[derive(Debug)]
pub enum FleetMsg {
    /// Take up the servers that the house says are wanted.
    Begin,
    /// These are the wanted servers from now on.
    Reconcile(Vec<ServerSpec>),
    /// A person's order to one server.
    Order {
        /// To which.
        server: ServerId,
        /// What.
        order: Order,
    },
    /// A server wants to start.
    RequestPermit {
        /// Which.
        server: ServerId,
        /// Which actor of it: one that has failed is not granted anything any more.
        from: ActorId,
        /// Which life of it.
        incarnation: Incarnation,
        /// How urgent.
        class: StartClass,
        /// How it loads this host.
        kind: StartKind,
    },
    /// A start is over, or is no longer wanted.
    ReturnPermit {
        /// Of which server.
        server: ServerId,
        /// By which actor of it.
        from: ActorId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A server has something to say to people.
    Notice {
        /// Which.
        server: ServerId,
        /// Which life of it.
        incarnation: Option<Incarnation>,
        /// What.
        notice: Notice,
    },
    /// A server died, or did not come up, and nobody had ordered it.
    Failed(ServerId),
    /// Our host is short of something: no start for so long.
    PauseGate(Duration),
    /// Something that was waited for is due: a pause of the gate, a slot of it, or what many servers have to say.
    Tick,
    /// The registry was started again.
    Registry(ActorRef<RegistryMsg>),
    /// A server has ended for good.
    Ended {
        /// Which.
        server: ServerId,
        /// Which actor of it.
        from: ActorId,
    },
    /// End all servers, each within the grace, in parallel.
    Shutdown {
        /// How long a server may take to end by itself.
        grace: Duration,
        /// Told when nothing is left.
        done: oneshot::Sender<()>,
    },
}

/// A person's order to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start it, if it does not run.
    Start,
    /// Stop it and keep it stopped.
    Stop,
    /// Stop it and start it again.
    Restart,
}

/// To one server.
#[derive(Debug)]
pub(crate) enum ServerMsg {
    Begin,
    Event(Event),
    IdleCheck,
    Connected { incarnation: Incarnation, catalogue: Arc<Catalogue>, facts: Arc<Facts> },
    Refreshed { incarnation: Incarnation, catalogue: Arc<Catalogue> },
    Published { incarnation: Incarnation, report: PublishReport },
    Registry(ActorRef<RegistryMsg>),
    Replace(ServerSpec),
    Shutdown { grace: Duration },
}

/// To one incarnation.
pub(crate) enum ConnectionMsg {
    Begin,
    Connected(Result<Connection, Fault>),
    Closed(Fault),
    Changed(Kind),
    Refreshed { kind: Kind, result: Result<Catalogue, CallError> },
    Probe { deadline: Instant },
    Close { grace: Duration },
    Gone,
}

/// To the registry.
#[derive(Debug)]
pub enum RegistryMsg {
    /// A server exists; nothing is known of its tools yet.
    #[expect(private_interfaces, reason = "lanes are made by this room alone")]
    Enrol {
        /// Which.
        server: ServerId,
        /// The way to it.
        lane: Arc<Lane>,
    },
    /// The order of the servers in lists.
    Arrange(Vec<ServerId>),
    /// A server listed its tools.
    #[expect(private_interfaces, reason = "published by this room alone")]
    Publish {
        /// Which.
        server: ServerId,
        /// Which life of it.
        incarnation: Incarnation,
        /// What it offers.
        catalogue: Arc<Catalogue>,
        /// Told when the snapshot with it can be read.
        reply: ActorRef<ServerMsg>,
    },
    /// What a server listed when we last ran. It is not up; its tools are offered all the same.
    Recall {
        /// Which.
        server: ServerId,
        /// The number that stands for that time.
        incarnation: Incarnation,
        /// What it offered.
        catalogue: Arc<Catalogue>,
    },
    /// A server's tools leave the namespace; the server stays.
    Retract(ServerId),
    /// A server is no longer configured.
    Leave(ServerId),
}

/// What came of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishReport {
    /// How many tools can be called.
    pub(crate) tools: usize,
    /// One line for each tool that was left out.
    pub(crate) refused: Vec<String>,
    /// Whether the namespace changed.
    pub(crate) changed: bool,
}
