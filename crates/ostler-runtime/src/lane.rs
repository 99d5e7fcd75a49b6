//! The lane to one server: who may call now, who waits, who is refused.
//!
//! A lane lives as long as its server is configured; incarnations open and shut it. Data may be refused here, so that
//! no mailbox ever holds a call. Calls in flight end at once when their incarnation's [`LaneGuard`] is dropped.

mod work;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_core::port::{Outcome, Request, Upstream};
use ostler_core::status::Fault;
use ostler_core::{CallError, Incarnation, ServerId, ServerState};
use ostler_policy::machine::OnRestart;
use ostler_telemetry::record::LaneGauges;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::work::Work;
use crate::clock;

/// The longest that a call waits for a server that is being restarted.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);

/// When a call that meets a server on its way up is told to come back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The bounds of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Calls at the server at one time.
    pub in_flight: usize,
    /// Calls that may wait for a place; more are refused at once.
    pub waiting: usize,
    /// The limit of a call that brings none, and the upper bound of one that does.
    pub call_timeout: Duration,
    /// What happens to a call while the server is down.
    pub while_restarting: WhileRestarting,
    /// Whether those who used an earlier incarnation are told that it is gone.
    pub on_restart: OnRestart,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self {
            in_flight: 64,
            waiting: 64,
            call_timeout: Duration::from_secs(60),
            while_restarting: WhileRestarting::Wait,
            on_restart: OnRestart::Surface,
        }
    }
}

/// What happens to a call while the server is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileRestarting {
    /// It waits, at most five seconds and its own deadline; if the next try is known to be later, it is refused at once.
    Wait,
    /// It is refused at once.
    Fail,
}

/// The lane. Shared by the server's actor, the dispatch table and every call.
pub(crate) struct Lane {
    server: ServerId,
    limits: LaneLimits,
    places: Semaphore,
    waiting: AtomicUsize,
    door: watch::Sender<Door>,
    gauges: LaneGauges,
    /// Tells the server's actor that a call wants it while it is down.
    wanted: Box<dyn Fn() + Send + Sync>,
    /// Whether that was said since the lane was last explained: a thousand refused calls are one message.
    wanted_said: AtomicBool,
    /// When a call last ended, or began.
    used_at: Mutex<Instant>,
}

/// Whether calls pass.
#[derive(Clone)]
enum Door {
    Open(Opening),
    Shut(Shut),
}

/// Why calls do not pass.
#[derive(Debug, Clone)]
pub(crate) struct Shut {
    pub(crate) state: ServerState,
    pub(crate) next_try: Option<Instant>,
    pub(crate) why: Option<Arc<Fault>>,
}

impl Shut {
    fn only(state: ServerState) -> Self {
        Self { state, next_try: None, why: None }
    }
}

#[derive(Clone)]
struct Opening {
    incarnation: Incarnation,
    upstream: Arc<dyn Upstream>,
    /// Cancelled when the incarnation is over.
    over: CancellationToken,
    /// Counts the calls in flight at this incarnation.
    calls: TaskTracker,
    /// What it works on, for judging whether it hangs.
    work: Work,
}

/// Keeps the lane open for one incarnation. Dropping it shuts the lane and ends every call in flight.
pub(crate) struct LaneGuard {
    lane: Arc<Lane>,
    incarnation: Incarnation,
    over: CancellationToken,
    calls: TaskTracker,
    work: Work,
}

/// A place in the lane: the right to make one request.
pub(crate) struct Admission<'a> {
    opening: Opening,
    _call: TaskTrackerToken,
    _place: Place<'a>,
}

struct Place<'a> {
    lane: &'a Lane,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(crate) fn new(server: ServerId, limits: LaneLimits, wanted: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let shut = Door::Shut(Shut::only(ServerState::Queued));
        Arc::new(Self {
            places: Semaphore::new(limits.in_flight),
            waiting: AtomicUsize::new(0),
            door: watch::channel(shut).0,
            gauges: LaneGauges::new(&server),
            server,
            limits,
            wanted,
            wanted_said: AtomicBool::new(false),
            used_at: Mutex::new(clock::now()),
        })
    }

    pub(crate) fn limits(&self) -> LaneLimits {
        self.limits
    }

    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }

    /// Since when no call has been in the lane. `None`: one is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let used_at = *self.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        (self.in_flight() == 0).then_some(used_at)
    }

    fn used(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
    }

    /// Opens the lane to an incarnation.
    pub(crate) fn open(self: &Arc<Self>, incarnation: Incarnation, upstream: Arc<dyn Upstream>) -> LaneGuard {
        let (over, calls) = (CancellationToken::new(), TaskTracker::new());
        let work = Work::default();
        let opening = Opening { incarnation, upstream, over: over.clone(), calls: calls.clone(), work: work.clone() };
        self.wanted_said.store(false, Ordering::Relaxed);
        self.door.send_replace(Door::Open(opening));
        LaneGuard { lane: Arc::clone(self), incarnation, over, calls, work }
    }

    /// Ends an incarnation whose guard may not be dropped yet: shuts the lane and ends its calls in flight.
    pub(crate) fn end(&self, incarnation: Incarnation) {
        if let Some(opening) = self.shut(incarnation) {
            opening.over.cancel();
        }
    }

    /// Shuts the lane if it is open to this incarnation, and returns what it was open to.
    fn shut(&self, incarnation: Incarnation) -> Option<Opening> {
        let mut ended = None;
        self.door.send_if_modified(|door| match door {
            Door::Open(opening) if opening.incarnation == incarnation => {
                ended = Some(opening.clone());
                *door = Door::Shut(Shut::only(ServerState::Stopping));
                true
            }
            Door::Open(_) | Door::Shut(_) => false,
        });
        ended
    }

    /// Says why the lane is shut. Does nothing while it is open.
    pub(crate) fn explain(&self, shut: Shut) {
        self.wanted_said.store(false, Ordering::Relaxed);
        self.door.send_if_modified(|door| match door {
            Door::Open(_) => false,
            Door::Shut(_) => {
                *door = Door::Shut(shut);
                true
            }
        });
    }

    /// Gets a place at the live incarnation, at most until `deadline`. Cancel-safe.
    ///
    /// Errors: [`CallError::Overloaded`] if too many calls wait or no place came free in time,
    /// [`CallError::Unavailable`] if the server is down and waiting is not allowed or was in vain.
    pub(crate) async fn admit(&self, deadline: Instant) -> Result<Admission<'_>, CallError> {
        let place = self.place(deadline).await?;
        let opening = self.opening(deadline).await?;
        Ok(Admission { _call: opening.calls.token(), opening, _place: place })
    }

    /// Waits until the lane is open, under the same rules as a call.
    pub(crate) async fn until_open(&self, deadline: Instant) -> Result<(), CallError> {
        self.opening(deadline).await.map(|_| ())
    }

    async fn place(&self, deadline: Instant) -> Result<Place<'_>, CallError> {
        let permit = match self.places.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.queue(deadline).await?,
        };
        let place = Place { lane: self, _permit: permit };
        self.used();
        self.gauges.in_flight(self.in_flight());
        Ok(place)
    }

    async fn queue(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        let overloaded = |reason| {
            self.gauges.rejected(reason);
            CallError::Overloaded { server: self.server.to_string() }
        };
        let waiting = Waiting::enter(self);
        if waiting.position > self.limits.waiting {
            return Err(overloaded("queue_full"));
        }
        match timeout_at(deadline.into(), self.places.acquire()).await {
            Ok(permit) => Ok(permit.expect("the lane never closes its semaphore")),
            Err(_) => Err(overloaded("queue_timeout")),
        }
    }

    async fn opening(&self, deadline: Instant) -> Result<Opening, CallError> {
        let sleeps = match &*self.door.borrow() {
            Door::Open(opening) => return Ok(opening.clone()),
            Door::Shut(shut) => shut.state == ServerState::Idle,
        };
        if !self.wanted_said.swap(true, Ordering::Relaxed) {
            (self.wanted)();
        }
        // A server that sleeps is woken by the call, and a first start takes as long as it takes.
        let patience = if sleeps { deadline } else { deadline.min(clock::now() + RESTART_PATIENCE) };
        let mut door = self.door.subscribe();
        loop {
            let refused = match &*door.borrow_and_update() {
                Door::Open(opening) => return Ok(opening.clone()),
                Door::Shut(shut) if sleeps && (shut.state == ServerState::Idle || shut.state.is_on_its_way()) => None,
                Door::Shut(shut) => self.refusal(shut, patience),
            };
            if let Some(error) = refused {
                return Err(error);
            }
            if timeout_at(patience.into(), door.changed()).await.is_err() {
                let Door::Shut(shut) = door.borrow().clone() else { continue };
                return Err(self.unavailable(&shut));
            }
        }
    }

    /// Whether a call is refused at once, now that the lane is shut.
    fn refusal(&self, shut: &Shut, patience: Instant) -> Option<CallError> {
        let hopeless = match shut.state {
            ServerState::Disabled | ServerState::Stopped | ServerState::NeedsAction => true,
            ServerState::Idle
            | ServerState::Queued
            | ServerState::Starting
            | ServerState::Ready
            | ServerState::Degraded
            | ServerState::Stopping
            | ServerState::Backoff
            | ServerState::Quarantined => shut.next_try.is_some_and(|at| at > patience),
        };
        let refuse = hopeless || self.limits.while_restarting == WhileRestarting::Fail;
        refuse.then(|| self.unavailable(shut))
    }

    /// The error of a call that meets a server in `state` although the lane is open, or opens just now.
    pub(crate) fn not_yet(&self, state: ServerState) -> CallError {
        self.unavailable(&Shut::only(state))
    }

    fn unavailable(&self, shut: &Shut) -> CallError {
        let why = shut.why.as_ref().map(|fault| match &fault.hint {
            Some(hint) => format!("{fault}; {hint}"),
            None => fault.to_string(),
        });
        CallError::Unavailable {
            server: self.server.to_string(),
            state: shut.state,
            why,
            retry_after: match shut.next_try {
                Some(at) => Some(at.saturating_duration_since(clock::now())),
                // On its way up, or about to be: nobody knows how long, and a second is soon enough to look again.
                None if shut.state.is_on_its_way() => Some(LOOK_AGAIN),
                None => None,
            },
        }
    }

    fn in_flight(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.places.available_permits())
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("server", &self.server).finish_non_exhaustive()
    }
}

impl LaneGuard {
    /// What this incarnation works on.
    pub(crate) fn work(&self) -> Work {
        self.work.clone()
    }

    /// Shuts the lane to new calls; the future resolves when no call is in flight at this incarnation.
    pub(crate) fn drain(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lane.shut(self.incarnation);
        self.calls.close();
        let calls = self.calls.clone();
        async move { calls.wait().await }
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.lane.shut(self.incarnation);
        // After the door, so that a call which ends by this finds the lane shut.
        self.over.cancel();
    }
}

impl Admission<'_> {
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.opening.incarnation
    }

    /// Makes the request. It ends by its deadline, or when the incarnation is over.
    pub(crate) async fn request(&self, request: Request) -> Result<Outcome, CallError> {
        let deadline = request.deadline;
        let asked = clock::now();
        let call = self.opening.work.begin(asked);
        let result = tokio::select! {
            biased;
            ended = timeout_at(deadline.into(), self.opening.upstream.request(request)) => match ended {
                Ok(result) => result,
                Err(_) => Err(CallError::TimedOut { after: clock::now().saturating_duration_since(asked) }),
            },
            () = self.opening.over.cancelled() => Err(CallError::ServerLost {
                why: "its incarnation was ended".to_owned(),
                may_have_run: true,
            }),
        };
        if let Err(CallError::TimedOut { .. }) = result {
            call.expire();
        }
        result
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lane.used();
        // The permit itself is given back after this: one less than the semaphore says now.
        self.lane.gauges.in_flight(self.lane.in_flight().saturating_sub(1));
    }
}

struct Waiting<'a> {
    lane: &'a Lane,
    /// How many wait, this one included.
    position: usize,
}

impl<'a> Waiting<'a> {
    fn enter(lane: &'a Lane) -> Self {
        let position = lane.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        lane.gauges.waiting(position);
        Self { lane, position }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let before = self.lane.waiting.fetch_sub(1, Ordering::Relaxed);
        self.lane.gauges.waiting(before.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
