//! A scripted server: what it offers, and the port by which the runtime brings it up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_core::catalogue::RefusedTool;
use ostler_core::port::{Attempt, BoxFuture, Connection, Connector, Lease};
use ostler_core::status::{Facts, Fault, FaultClass};
use ostler_core::tool::ToolError;
use ostler_core::{Catalogue, Incarnation, ServerId, ToolDefinition};
use serde_json::value::RawValue;
use tokio::time::{sleep, sleep_until};

use super::dice::Dice;
use super::life::{Life, Line};
use super::temper::{StartEnd, Temper, cling};
use super::world::{World, now};

pub(super) struct Scripted {
    pub(super) id: ServerId,
    pub(super) world: Arc<World>,
    /// Distinguishes its streams of choices from those of any other server, also of one with the same id.
    pub(super) key: String,
    lives: AtomicU64,
    temper: Mutex<Temper>,
    /// Name and version of each tool.
    tools: Mutex<Vec<(String, u64)>>,
}

impl Scripted {
    /// The `number`-th server that was made in this world.
    pub(super) fn new(world: &Arc<World>, id: ServerId, number: u64) -> Arc<Self> {
        let key = format!("server {number} {id}");
        let mut dice = world.dice(&key, 0);
        let count = u64::try_from(2 + dice.below(3)).unwrap_or(2);
        let tools = (0..count).map(|tool| (format!("tool{tool}"), 0)).collect();
        Arc::new(Self {
            id,
            world: Arc::clone(world),
            lives: AtomicU64::new(0),
            temper: Mutex::new(Temper::any(&mut dice)),
            tools: Mutex::new(tools),
            key,
        })
    }

    /// The list as the server gives it now: with its faults, but never without a good tool.
    pub(super) fn catalogue(&self, dice: &mut Dice) -> Catalogue {
        let list = self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.world.book(|book| {
            if let Some(account) = book.accounts.get_mut(&self.id) {
                account.known.extend(list.iter().map(|(name, _)| name.clone()));
            }
        });
        let mut tools: Vec<_> = list.iter().map(|(name, version)| definition(name, &self.key, *version)).collect();
        let mut refused = Vec::new();
        if dice.chance(5) {
            tools.extend(tools.first().cloned());
        }
        if dice.chance(5) {
            let reason = ToolError::Malformed("not a tool".to_owned());
            refused.push(RefusedTool { position: tools.len(), reason });
        }
        Catalogue { tools, refused, ..Catalogue::default() }
    }

    /// Changes the list, or only says so.
    pub(super) fn change(&self, dice: &mut Dice) {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        match dice.below(4) {
            0 if tools.len() > 1 => {
                let index = dice.below(tools.len());
                tools.remove(index);
            }
            1 if tools.len() < 8 => {
                let taken = |name: &String| tools.iter().any(|(tool, _)| tool == name);
                let free = (0..=tools.len()).map(|tool| format!("tool{tool}")).find(|name| !taken(name));
                tools.extend(free.map(|name| (name, 0)));
            }
            2 => {
                let index = dice.below(tools.len());
                tools[index].1 += 1;
            }
            _ => {}
        }
    }

    fn next_life(&self) -> (Temper, Dice) {
        let number = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let mut dice = self.world.dice(&self.key, number);
        let mut temper = self.temper.lock().unwrap_or_else(PoisonError::into_inner);
        *temper = temper.next(&mut dice);
        (*temper, dice)
    }
}

fn definition(name: &str, of: &str, version: u64) -> Arc<ToolDefinition> {
    let description = format!("version {version} of {of}");
    let text = format!(r#"{{"name":"{name}","description":"{description}","inputSchema":{{"type":"object"}}}}"#);
    let raw = RawValue::from_string(text).expect("this is JSON");
    Arc::new(ToolDefinition::parse(&raw).expect("this is a tool"))
}

/// The port to a scripted server.
pub(super) struct Port(pub(super) Arc<Scripted>);

impl Connector for Port {
    fn connect(&self, attempt: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        Box::pin(connect(Arc::clone(&self.0), attempt))
    }
}

async fn connect(server: Arc<Scripted>, attempt: Attempt) -> Result<Connection, Fault> {
    let (temper, mut dice) = server.next_life();
    let Attempt { incarnation, deadline, inbound, lease, .. } = attempt;
    let start = temper.start(&mut dice);
    let mut trial = Trial {
        holding: Some(Holding::new(Arc::clone(&server), incarnation, lease)),
        cling: cling(&mut dice),
        server: Arc::clone(&server),
        incarnation,
    };
    server.world.say(format!("{}#{incarnation} begins, {temper:?}", server.id));
    server.world.book(|book| book.begins(&server.id, incarnation, now()));
    if !start.after.is_zero() {
        sleep(start.after).await;
    }
    match start.end {
        StartEnd::Up => {}
        StartEnd::Fails(fault) => return Err(trial.fails(fault)),
        StartEnd::Hangs => std::future::pending().await,
        StartEnd::TimesOut => {
            sleep_until(deadline.into()).await;
            return Err(trial.fails(Fault::new(FaultClass::SlowStart, "start timed out")));
        }
    }
    let catalogue = server.catalogue(&mut dice);
    let holding = trial.holding.take().expect("a trial holds until it ends");
    let life = Life::begin(server, temper, inbound, holding, dice);
    let facts = Facts { transport: "stdio", revision: "2025-11-25".to_owned(), ..Facts::default() };
    Ok(Connection { upstream: Arc::new(Line(life)), catalogue, facts })
}

/// A start that goes on. Dropped before its end, it was given up.
struct Trial {
    server: Arc<Scripted>,
    incarnation: Incarnation,
    holding: Option<Holding>,
    cling: Duration,
}

impl Trial {
    fn fails(&mut self, fault: Fault) -> Fault {
        let (id, incarnation) = (&self.server.id, self.incarnation);
        self.server.world.say(format!("{id}#{incarnation} fails to start: {}", fault.class));
        self.server.world.book(|book| book.ends(id, incarnation, Some(&fault), now()));
        if let Some(holding) = self.holding.take() {
            holding.let_go(self.cling);
        }
        fault
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let Some(holding) = self.holding.take() else { return };
        let (id, incarnation) = (&self.server.id, self.incarnation);
        self.server.world.say(format!("{id}#{incarnation} is given up while it starts"));
        self.server.world.book(|book| book.ends(id, incarnation, None, now()));
        holding.let_go(self.cling);
    }
}

/// A lease in the hands of a life, written in the book for as long as it is held.
pub(super) struct Holding {
    server: Arc<Scripted>,
    pub(super) incarnation: Incarnation,
    lease: Option<Lease>,
}

impl Holding {
    fn new(server: Arc<Scripted>, incarnation: Incarnation, lease: Lease) -> Self {
        Self { server, incarnation, lease: Some(lease) }
    }

    /// Gives the lease back once the last of the life is gone.
    pub(super) fn let_go(self, after: Duration) {
        if after.is_zero() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(after).await;
                drop(self);
            });
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        // The book before the lease: with the lease, the next life may begin.
        self.server.world.say(format!("{}#{} is gone", self.server.id, self.incarnation));
        self.server.world.book(|book| book.is_gone(&self.server.id, self.incarnation));
        self.lease = None;
    }
}
