//! A scripted server behind the `Connector` port: each start takes the next step of its script, and the test can kill
//! what lives. Its tools: `echo` answers, `stuck` never does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{Attempt, BoxFuture, Connection, Connector, Inbound, Lease, Outcome, Request, Upstream};
use ostler_core::status::{Facts, Fault, FaultClass};
use ostler_core::{CallError, Catalogue, ToolDefinition};
use serde_json::value::RawValue;
use tokio::sync::watch;

/// What a start does.
pub(crate) enum Step {
    /// It fails with this fault.
    Fail(Fault),
    /// It never ends by itself.
    Hang,
    /// It comes up, and says that its tools changed before it is up. From then on it has these.
    ChangeEarly(&'static [&'static str]),
}

#[derive(Default)]
pub(crate) struct Fake {
    tools: Mutex<Vec<String>>,
    script: Mutex<VecDeque<Step>>,
    lives: Mutex<Vec<Arc<Life>>>,
    pub(crate) starts: AtomicUsize,
    pub(crate) refreshes: Arc<AtomicUsize>,
    /// Whether it answers probes; how many it was sent.
    pub(crate) deaf: AtomicBool,
    pub(crate) probes: AtomicUsize,
}

/// One incarnation.
pub(crate) struct Life {
    dead: watch::Sender<Option<Fault>>,
    inbound: Arc<dyn Inbound>,
    lease: Mutex<Option<Lease>>,
    /// If set, the lease is only given back by the test.
    clings: bool,
    pub(crate) cancelled: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new(tools: &[&str]) -> Arc<Self> {
        let fake = Self::default();
        fake.offer(tools);
        Arc::new(fake)
    }

    pub(crate) fn offer(&self, tools: &[&str]) {
        *self.tools.lock().expect("no panic") = tools.iter().map(|tool| (*tool).to_owned()).collect();
    }

    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.script.lock().expect("no panic").extend(steps);
    }

    /// The newest incarnation.
    pub(crate) fn life(&self) -> Arc<Life> {
        Arc::clone(self.lives.lock().expect("no panic").last().expect("it has lived"))
    }

    pub(crate) fn kill(&self) {
        self.life().kill();
    }

    fn catalogue(&self) -> Catalogue {
        let tools = self.tools.lock().expect("no panic");
        let definition = |name: &String| {
            let text = format!(r#"{{"name":"{name}","description":"fake","inputSchema":{{"type":"object"}}}}"#);
            let raw = RawValue::from_string(text).expect("JSON");
            Arc::new(ToolDefinition::parse(&raw).expect("a tool"))
        };
        Catalogue { tools: tools.iter().map(definition).collect(), ..Catalogue::default() }
    }
}

impl Life {
    pub(crate) fn kill(&self) {
        self.dead.send_replace(Some(crash()));
        if !self.clings {
            self.release();
        }
    }

    /// Gives the lease back: nothing of this incarnation is left.
    pub(crate) fn release(&self) {
        self.lease.lock().expect("no panic").take();
    }

    /// Bytes come from it.
    pub(crate) fn speak(&self) {
        self.inbound.activity();
    }

    pub(crate) fn changed(&self) {
        self.inbound.changed(Kind::Tools);
    }
}

pub(crate) fn crash() -> Fault {
    Fault::new(FaultClass::CrashRunning, "exited with code 3")
}

/// The port to a fake.
pub(crate) struct FakeConnector(pub(crate) Arc<Fake>);

impl Connector for FakeConnector {
    fn connect(&self, attempt: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        let fake = Arc::clone(&self.0);
        Box::pin(async move {
            fake.starts.fetch_add(1, Ordering::Relaxed);
            let step = fake.script.lock().expect("no panic").pop_front();
            match &step {
                Some(Step::Fail(fault)) => return Err(fault.clone()),
                Some(Step::Hang) => std::future::pending::<()>().await,
                Some(Step::ChangeEarly(_)) | None => {}
            }
            let catalogue = fake.catalogue();
            if let Some(Step::ChangeEarly(tools)) = step {
                fake.offer(tools);
                attempt.inbound.changed(Kind::Tools);
            }
            let clings = fake.tools.lock().expect("no panic").iter().any(|tool| tool == "cling");
            let life = Arc::new(Life {
                dead: watch::channel(None).0,
                inbound: attempt.inbound,
                lease: Mutex::new(Some(attempt.lease)),
                clings,
                cancelled: Arc::default(),
            });
            fake.lives.lock().expect("no panic").push(Arc::clone(&life));
            let facts = Facts { transport: "stdio", revision: "2025-11-25".to_owned(), ..Facts::default() };
            Ok(Connection { upstream: Arc::new(FakeUpstream { life, fake }), catalogue, facts })
        })
    }
}

struct FakeUpstream {
    life: Arc<Life>,
    fake: Arc<Fake>,
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.life.kill();
    }
}

/// Counts a request that was dropped before its answer.
struct OnCancel(Option<Arc<AtomicUsize>>);

impl OnCancel {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        if let Some(counter) = self.0.take() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Upstream for FakeUpstream {
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Outcome, CallError>> {
        let params = request.params.expect("a call has parameters").get().to_owned();
        let mut dead = self.life.dead.subscribe();
        let cancel = OnCancel(Some(Arc::clone(&self.life.cancelled)));
        Box::pin(async move {
            if params.contains("stuck") {
                let _ = dead.wait_for(Option::is_some).await;
                cancel.answered();
                return Err(CallError::ServerLost { why: "exited".to_owned(), may_have_run: true });
            }
            cancel.answered();
            Ok(Outcome::Raw(RawValue::from_string(params).expect("JSON")))
        })
    }

    fn refresh(&self, _: Kind, _: Instant) -> BoxFuture<'_, Result<Catalogue, CallError>> {
        self.fake.refreshes.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(self.fake.catalogue())))
    }

    fn probe(&self, _: Instant) -> BoxFuture<'_, Result<(), CallError>> {
        self.fake.probes.fetch_add(1, Ordering::Relaxed);
        if self.fake.deaf.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn closed(&self) -> BoxFuture<'_, Fault> {
        let mut dead = self.life.dead.subscribe();
        Box::pin(async move {
            let fault = dead.wait_for(Option::is_some).await.map(|fault| fault.clone());
            fault.ok().flatten().unwrap_or_else(crash)
        })
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        self.life.release();
        Box::pin(std::future::ready(()))
    }
}
