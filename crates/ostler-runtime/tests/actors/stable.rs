//! A fleet and its registry under a supervisor of the test's own, on tokio's paused clock, with its whole story as text.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::port::{Caller, Outcome, ToolAnswer, ToolCall};
use ostler_core::status::{ServerState, What};
use ostler_core::{ServerId, ServerStatus};
use ostler_policy::gate::StartKind;
use ostler_policy::machine::Policy;
use ostler_policy::reconcile::Fingerprint;
use ostler_runtime::{
    Entry, FleetActor, FleetArgs, FleetHandle, FleetMsg, House, HouseOptions, LaneLimits, RegistryActor, RegistryMsg,
    ServerSpec, Subscription, WhileRestarting,
};
use ractor::{Actor, ActorRef};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::fake::{Fake, FakeConnector};

pub(crate) struct Stable {
    pub(crate) house: Arc<House>,
    pub(crate) fleet: FleetHandle,
    pub(crate) actor: ActorRef<FleetMsg>,
    pub(crate) registry: ActorRef<RegistryMsg>,
    story: Subscription,
}

pub(crate) fn id(text: &str) -> ServerId {
    ServerId::new(text).expect("an id")
}

pub(crate) fn spec(name: &str, fake: &Arc<Fake>) -> ServerSpec {
    ServerSpec {
        id: id(name),
        policy: Arc::new(Policy { enabled: true, ..Policy::default() }),
        lane: LaneLimits { while_restarting: WhileRestarting::Fail, ..LaneLimits::default() },
        connector: Arc::new(FakeConnector(Arc::clone(fake))),
        kind: StartKind::Process,
        launch: name.to_owned(),
        fingerprint: Fingerprint::new(name),
    }
}

pub(crate) fn options() -> HouseOptions {
    HouseOptions { start_slots: NonZeroUsize::new(8).expect("not zero"), seed: 7 }
}

impl Stable {
    pub(crate) async fn start(specs: Vec<ServerSpec>) -> Self {
        Self::start_in(House::new(options()), specs).await
    }

    pub(crate) async fn start_in(house: Arc<House>, specs: Vec<ServerSpec>) -> Self {
        let fleet = FleetHandle::new(Arc::clone(&house));
        let story = fleet.events().subscribe();
        let (registry, _) = RegistryActor::spawn(None, RegistryActor, Arc::clone(&house)).await.expect("it starts");
        let args = FleetArgs { house: Arc::clone(&house), registry: registry.clone() };
        let (actor, _) = FleetActor::spawn(None, FleetActor, args).await.expect("it starts");
        fleet.reconcile(specs).expect("the fleet takes orders");
        Self { house, fleet, actor, registry, story }
    }

    /// A fleet of one that is ready.
    pub(crate) async fn of(name: &str, fake: &Arc<Fake>) -> Self {
        let stable = Self::start(vec![spec(name, fake)]).await;
        stable.until(name, ServerState::Ready).await;
        stable
    }

    pub(crate) fn status(&self, name: &str) -> Option<ServerStatus> {
        self.fleet.status(&id(name))
    }

    /// Waits until a server is in a state.
    pub(crate) async fn until(&self, name: &str, state: ServerState) -> ServerStatus {
        self.when(name, |status| status.state == state).await
    }

    pub(crate) async fn when(&self, name: &str, wanted: impl Fn(&ServerStatus) -> bool) -> ServerStatus {
        let mut events = self.fleet.events().subscribe();
        let found = async {
            loop {
                if let Some(status) = self.status(name).filter(&wanted) {
                    return status;
                }
                // A status can change without an event: look again at the latest a little later.
                let _ = tokio::time::timeout(Duration::from_millis(5), events.next()).await;
            }
        };
        let limit = Duration::from_secs(3600);
        let status = tokio::time::timeout(limit, found).await;
        status.unwrap_or_else(|_| panic!("'{name}' never came there: {:?}", self.status(name)))
    }

    pub(crate) fn tools(&self) -> Vec<String> {
        self.fleet.dispatch().tools().iter().map(|tool| tool.name.to_string()).collect()
    }

    pub(crate) async fn call(&self, name: &str) -> ToolAnswer {
        self.fleet.dispatch().call(call(name)).await
    }

    /// Every notice so far.
    pub(crate) fn notices(&self) -> Vec<String> {
        let events = self.fleet.events().recent(usize::MAX);
        let notice = |event: &Arc<ostler_core::ServerEvent>| match &event.what {
            What::Notice(notice) => Some(notice.to_string()),
            What::State { .. } | What::Published { .. } | What::Log { .. } => None,
        };
        events.iter().filter_map(notice).collect()
    }

    /// The states and notices of a server since the last look, as text.
    pub(crate) fn story(&mut self, name: &str) -> Vec<String> {
        let mut story = Vec::new();
        while let Some(entry) = self.story.try_next() {
            let Entry::Event(event) = entry else { panic!("the log is large enough") };
            if event.server != id(name) {
                continue;
            }
            match &event.what {
                What::State { to, .. } => story.push(to.to_string()),
                What::Notice(notice) => story.push(format!("notice: {notice}")),
                What::Published { tools, .. } => story.push(format!("published {tools}")),
                What::Log { text, .. } => story.push(format!("log: {text}")),
            }
        }
        story
    }
}

pub(crate) fn call(name: &str) -> ToolCall {
    ToolCall {
        name: name.to_owned(),
        arguments: RawValue::from_string(r#"{"text":"hi"}"#.to_owned()).expect("JSON"),
        deadline: None,
        caller: Caller::Operator,
        observer: None,
    }
}

/// `ok`, or the error's code.
pub(crate) fn outcome(answer: &ToolAnswer) -> &'static str {
    match &answer.result {
        Ok(Outcome::Raw(_) | Outcome::InputRequired(_) | Outcome::Task(_)) => "ok",
        Err(error) => error.code(),
    }
}

/// How much virtual time `future` took.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}

/// Lets virtual time pass, with every timer on the way.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
