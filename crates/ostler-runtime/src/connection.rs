//! One incarnation of a server: connects, keeps the lane open while it lives, refreshes its lists, dies at the first
//! fault.
//!
//! Connecting, listing and closing are owned tasks that report by message, so this actor is never deaf. Its state holds
//! the guard of the lane: however it ends, calls in flight end with it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ostler_core::catalogue::Kind;
use ostler_core::port::{
    Attempt, BoxFuture, Connection, Connector, EventSink, Inbound, Lease, Reply, ServerRequest, Upstream,
};
use ostler_core::status::{Fault, FaultClass, What};
use ostler_core::{CallError, Catalogue, Incarnation, ServerId};
use ostler_policy::machine::Event;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::clock;
use crate::house::House;
use crate::lane::{Lane, LaneGuard};
use crate::message::{ConnectionMsg, ServerMsg};

/// Changes that come within this time are one refresh.
const REFRESH_SETTLE: Duration = Duration::from_millis(250);

/// The least time from one refresh to the next.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);

/// The longest that a refresh may take.
const REFRESH_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct ConnectionActor;

pub(crate) struct ConnectionArgs {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) deadline: std::time::Instant,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) owner: ActorRef<ServerMsg>,
    pub(crate) house: Arc<House>,
}

pub(crate) struct ConnectionState {
    args: ConnectionArgs,
    /// Taken by the task that connects. However this actor ends, it is dropped once.
    released: Option<Released>,
    inbound: Arc<ConnectionInbound>,
    /// Connecting, or closing.
    work: Option<AbortOnDropHandle<()>>,
    live: Option<Live>,
    /// Told to close: the end is ours, whatever ends first.
    is_closing: bool,
}

/// What a connected incarnation has. Fields are dropped in order: the lane is shut before the server is let go.
struct Live {
    guard: LaneGuard,
    _watch: AbortOnDropHandle<()>,
    refresh: Option<AbortOnDropHandle<()>>,
    probe: Option<AbortOnDropHandle<()>>,
    upstream: Arc<dyn Upstream>,
    next_refresh: std::time::Instant,
}

impl Actor for ConnectionActor {
    type Msg = ConnectionMsg;
    type State = ConnectionState;
    type Arguments = (ConnectionArgs, Released);

    async fn pre_start(
        &self,
        _: ActorRef<ConnectionMsg>,
        args: (ConnectionArgs, Released),
    ) -> Result<ConnectionState, ActorProcessingErr> {
        let (args, released) = args;
        let inbound = Arc::new(ConnectionInbound {
            server: args.server.clone(),
            incarnation: args.incarnation,
            house: Arc::clone(&args.house),
            actor: OnceLock::new(),
            changed: AtomicU8::new(0),
            active: AtomicBool::new(false),
        });
        Ok(ConnectionState { args, released: Some(released), inbound, work: None, live: None, is_closing: false })
    }

    async fn post_start(
        &self,
        myself: ActorRef<ConnectionMsg>,
        _: &mut ConnectionState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(ConnectionMsg::Begin)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<ConnectionMsg>,
        message: ConnectionMsg,
        state: &mut ConnectionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConnectionMsg::Begin => state.begin(myself),
            ConnectionMsg::Connected(result) => state.connected(&myself, result?)?,
            ConnectionMsg::Closed(fault) => return state.closed(fault),
            ConnectionMsg::Changed(kind) => state.changed(myself, kind),
            ConnectionMsg::Refreshed { kind, result } => state.refreshed(kind, result),
            ConnectionMsg::Probe { deadline } => state.probe(deadline),
            ConnectionMsg::Close { grace } => state.close(myself, grace),
            ConnectionMsg::Gone => myself.stop(None),
        }
        Ok(())
    }
}

impl ConnectionState {
    fn begin(&mut self, myself: ActorRef<ConnectionMsg>) {
        // Only the first one counts, and there is only one.
        let _ = self.inbound.actor.set(myself.clone());
        // A second beginning there is not, and after a close there is none.
        let Some(mut released) = self.released.take().filter(|_| !self.is_closing) else { return };
        let slot = self.args.house.lease(&self.args.server);
        let (server, incarnation, deadline) = (self.args.server.clone(), self.args.incarnation, self.args.deadline);
        let connector = Arc::clone(&self.args.connector);
        let inbound: Arc<dyn Inbound> = Arc::clone(&self.inbound) as Arc<dyn Inbound>;
        let span = ostler_telemetry::span::incarnation(&server, incarnation);
        let connect = async move {
            let result = if let Ok(permit) = timeout_at(deadline.into(), slot.acquire_owned()).await {
                released.permit = Some(permit.expect("the house never closes a lease"));
                let lease = Lease::new(released);
                connector.connect(Attempt { server, incarnation, deadline, inbound, lease }).await
            } else {
                let why = "what is left of the last incarnation did not end in time";
                Err(Fault::new(FaultClass::SlowStart, why))
            };
            let _ = myself.cast(ConnectionMsg::Connected(result));
        };
        self.work = Some(spawn(connect.instrument(span)));
    }

    fn connected(
        &mut self,
        myself: &ActorRef<ConnectionMsg>,
        connection: Connection,
    ) -> Result<(), ActorProcessingErr> {
        let Connection { upstream, catalogue, facts } = connection;
        let guard = self.args.lane.open(self.args.incarnation, Arc::clone(&upstream));
        let watched = Arc::clone(&upstream);
        let actor = myself.clone();
        let watch = spawn(async move {
            let fault = watched.closed().await;
            let _ = actor.cast(ConnectionMsg::Closed(fault));
        });
        self.work = None;
        self.live =
            Some(Live { guard, _watch: watch, refresh: None, probe: None, upstream, next_refresh: clock::now() });
        self.args.owner.cast(ServerMsg::Connected {
            incarnation: self.args.incarnation,
            catalogue: Arc::new(catalogue),
            facts: Arc::new(facts),
        })?;
        // A list that changed while it was being listed may have been listed too early.
        self.inbound.repeat();
        Ok(())
    }

    /// The server is gone. While it is being closed that is no news: the closing says when all of it is.
    fn closed(&mut self, fault: Fault) -> Result<(), ActorProcessingErr> {
        if self.is_closing {
            // Nothing answers any more: calls in flight end now, not with the grace.
            self.live = None;
            return Ok(());
        }
        // Before the supervisor hears of it: then the lane says why it is shut.
        self.live = None;
        Err(Box::new(fault))
    }

    /// Lists again, a little later, so that a storm of changes is one refresh. One at a time.
    fn changed(&mut self, myself: ActorRef<ConnectionMsg>, kind: Kind) {
        let Some(live) = &mut self.live else { return };
        if live.refresh.is_some() {
            // The running one may have listed before this change: it is asked again when it is done.
            self.inbound.mark(kind);
            return;
        }
        let upstream = Arc::clone(&live.upstream);
        let inbound = Arc::clone(&self.inbound);
        let at = live.next_refresh.max(clock::now() + REFRESH_SETTLE);
        live.next_refresh = at + REFRESH_PAUSE;
        live.refresh = Some(spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            inbound.clear(kind);
            let result = upstream.refresh(kind, clock::now() + REFRESH_LIMIT).await;
            let _ = myself.cast(ConnectionMsg::Refreshed { kind, result });
        }));
    }

    fn refreshed(&mut self, kind: Kind, result: Result<Catalogue, CallError>) {
        let Some(live) = &mut self.live else { return };
        live.refresh = None;
        match result {
            Ok(catalogue) => {
                let refreshed =
                    ServerMsg::Refreshed { incarnation: self.args.incarnation, catalogue: Arc::new(catalogue) };
                let _ = self.args.owner.cast(refreshed);
            }
            Err(error) => tracing::warn!(
                server.id = %self.args.server,
                incarnation = %self.args.incarnation,
                kind = ?kind,
                error = %error,
                "a list could not be refreshed; the old one stays"
            ),
        }
        self.inbound.repeat();
    }

    /// Asks the server whether it lives. One that has said something since the last time is not asked, and one that works
    /// on a call within its deadline is not blamed: busy is not hung.
    fn probe(&mut self, deadline: std::time::Instant) {
        let Some(live) = &mut self.live else { return };
        let (owner, incarnation) = (self.args.owner.clone(), self.args.incarnation);
        let work = live.guard.work();
        if self.inbound.was_active() {
            work.forgive();
            let _ = owner.cast(ServerMsg::Event(Event::ProbeOk { incarnation }));
            return;
        }
        let upstream = Arc::clone(&live.upstream);
        let inbound = Arc::clone(&self.inbound);
        live.probe = Some(spawn(async move {
            let answered = matches!(timeout_at(deadline.into(), upstream.probe(deadline)).await, Ok(Ok(())));
            let event = if answered || inbound.was_active() {
                work.forgive();
                Event::ProbeOk { incarnation }
            } else if work.explains_silence() {
                return;
            } else {
                Event::ProbeMissed { incarnation }
            };
            let _ = owner.cast(ServerMsg::Event(event));
        }));
    }

    /// Lets calls in flight finish for half the grace, then asks the server to end.
    fn close(&mut self, myself: ActorRef<ConnectionMsg>, grace: Duration) {
        self.is_closing = true;
        let Some(live) = &self.live else {
            // Still connecting: giving up ends whatever was started.
            self.work = None;
            myself.stop(None);
            return;
        };
        let drained = live.guard.drain();
        let upstream = Arc::clone(&live.upstream);
        let (half, end) = (clock::now() + grace / 2, clock::now() + grace);
        self.work = Some(spawn(async move {
            let _ = timeout_at(half.into(), drained).await;
            upstream.close(end.saturating_duration_since(clock::now())).await;
            let _ = myself.cast(ConnectionMsg::Gone);
        }));
    }
}

fn spawn(future: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// Tells the server's actor that nothing is left of an incarnation. It is made with the order to connect and joined by the
/// place that the incarnation takes; so it is dropped exactly once, whether the connection came to be or not.
pub(crate) struct Released {
    permit: Option<OwnedSemaphorePermit>,
    owner: ActorRef<ServerMsg>,
    incarnation: Incarnation,
}

impl Released {
    pub(crate) fn new(owner: ActorRef<ServerMsg>, incarnation: Incarnation) -> Self {
        Self { permit: None, owner, incarnation }
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        // First the place, then the word: whoever hears it can take the place.
        self.permit = None;
        let _ = self.owner.cast(ServerMsg::Event(Event::Released { incarnation: self.incarnation }));
    }
}

/// Where the server's own messages arrive. A list that changed again before its refresh began is one message.
struct ConnectionInbound {
    server: ServerId,
    incarnation: Incarnation,
    house: Arc<House>,
    actor: OnceLock<ActorRef<ConnectionMsg>>,
    changed: AtomicU8,
    /// Whether bytes came since somebody last asked.
    active: AtomicBool,
}

const KINDS: [Kind; 3] = [Kind::Tools, Kind::Resources, Kind::Prompts];

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Tools => 1,
        Kind::Resources => 2,
        Kind::Prompts => 4,
    }
}

impl ConnectionInbound {
    fn mark(&self, kind: Kind) -> bool {
        self.changed.fetch_or(bit(kind), Ordering::Relaxed) & bit(kind) == 0
    }

    fn clear(&self, kind: Kind) {
        self.changed.fetch_and(!bit(kind), Ordering::Relaxed);
    }

    /// Whether the server has said anything since the last time that this was asked.
    fn was_active(&self) -> bool {
        self.active.swap(false, Ordering::Relaxed)
    }

    /// Sends again what changed while a refresh ran.
    fn repeat(&self) {
        let marked = self.changed.load(Ordering::Relaxed);
        for kind in KINDS.into_iter().filter(|kind| marked & bit(*kind) != 0) {
            self.tell(kind);
        }
    }

    fn tell(&self, kind: Kind) {
        if let Some(actor) = self.actor.get() {
            let _ = actor.cast(ConnectionMsg::Changed(kind));
        }
    }
}

impl Inbound for ConnectionInbound {
    fn changed(&self, kind: Kind) {
        if self.mark(kind) {
            self.tell(kind);
        }
    }

    fn log(&self, level: &str, data: &RawValue) {
        let text = match serde_json::from_str::<String>(data.get()) {
            Ok(text) => text,
            Err(_) => data.get().to_owned(),
        };
        let what = What::Log { level: level.to_owned(), text: ostler_telemetry::log::line(&text, 1024) };
        self.house.events.emit(&self.server, Some(self.incarnation), what);
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'static, Reply> {
        // Nothing here can answer a server yet: no such capability is declared, so this is its mistake.
        let message = format!("this client does not offer '{}'", request.method);
        Box::pin(std::future::ready(Reply::Error { code: -32601, message }))
    }

    fn activity(&self) {
        self.active.store(true, Ordering::Relaxed);
    }
}
