//! One life of a scripted server that has come up: its fate, its answers, its end.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{BoxFuture, Inbound, Outcome, Request, Upstream};
use ostler_core::status::{Fault, FaultClass};
use ostler_core::{CallError, Catalogue, Incarnation};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};

use super::dice::Dice;
use super::scripted::{Holding, Scripted};
use super::temper::{Answer, Temper, cling};
use super::world::now;

pub(super) struct Life {
    server: Arc<Scripted>,
    incarnation: Incarnation,
    temper: Temper,
    /// When and of what it died.
    dead: Mutex<Option<(Instant, Fault)>>,
    /// Tells who waits for its death, in the order in which they came: a `watch` has an order of its own.
    death: Notify,
    holding: Mutex<Option<Holding>>,
    inbound: Arc<dyn Inbound>,
    /// Whether its requests do not notice that it is dead, so that the runtime has to end them.
    is_deaf: bool,
    /// How many refreshes it was asked for.
    refreshes: AtomicU64,
    /// How many probes it was asked.
    probes: AtomicU64,
}

/// What the runtime holds of a life. Without it, the life is over.
pub(super) struct Line(pub(super) Arc<Life>);

impl Life {
    pub(super) fn begin(
        server: Arc<Scripted>,
        temper: Temper,
        inbound: Arc<dyn Inbound>,
        holding: Holding,
        mut dice: Dice,
    ) -> Arc<Self> {
        let incarnation = holding.incarnation;
        server.world.say(format!("{}#{incarnation} is up", server.id));
        server.world.book(|book| book.is_up(&server.id, incarnation, now()));
        let life = Arc::new(Self {
            server,
            incarnation,
            temper,
            dead: Mutex::new(None),
            death: Notify::new(),
            holding: Mutex::new(Some(holding)),
            inbound,
            is_deaf: dice.chance(30),
            refreshes: AtomicU64::new(0),
            probes: AtomicU64::new(0),
        });
        tokio::spawn(Arc::clone(&life).fate(dice));
        life
    }

    /// Lives to its end: its lists change, and some day it dies.
    async fn fate(self: Arc<Self>, mut dice: Dice) {
        let end = now() + self.temper.span(&mut dice);
        loop {
            let change = now() + dice.about(Duration::from_secs(90));
            tokio::select! {
                biased;
                _ = self.is_dead() => return,
                () = sleep_until(end.into()) => {
                    let fault = Temper::death(&mut dice);
                    return self.die(fault, Cause::Itself, cling(&mut dice));
                }
                () = sleep_until(change.into()) => {
                    self.server.change(&mut dice);
                    let storm = if dice.chance(20) { 1_000 } else { 1 };
                    let kind = if dice.chance(85) { Kind::Tools } else { Kind::Prompts };
                    for _ in 0..storm {
                        self.inbound.changed(kind);
                    }
                }
            }
        }
    }

    fn die(&self, fault: Fault, cause: Cause, cling: Duration) {
        if self.died_at().is_some() {
            return;
        }
        let (id, incarnation) = (&self.server.id, self.incarnation);
        self.server.world.say(format!("{id}#{incarnation} dies: {}", fault.message));
        let by_itself = (cause == Cause::Itself).then_some(&fault);
        self.server.world.book(|book| book.ends(id, incarnation, by_itself, now()));
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = Some((now(), fault));
        self.death.notify_waiters();
        let holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(holding) = holding {
            holding.let_go(cling);
        }
    }

    fn end(&self) -> Option<(Instant, Fault)> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn died_at(&self) -> Option<Instant> {
        self.end().map(|(at, _)| at)
    }

    /// Waits for its death. Cancel-safe.
    async fn is_dead(&self) -> Fault {
        loop {
            let mut told = pin!(self.death.notified());
            // In line before the look, so that no death falls between the two.
            told.as_mut().enable();
            if let Some((_, fault)) = self.end() {
                return fault;
            }
            told.await;
        }
    }

    /// The stream of choices about one of its requests.
    fn dice(&self, what: &str, number: u64) -> Dice {
        let life = self.incarnation.get();
        self.server.world.dice(&format!("{} {what} {life}", self.server.key), number)
    }

    async fn answer(&self, request: Request) -> Result<Outcome, CallError> {
        let asked = Asked::read(&request);
        let (after, answer) = self.temper.answer(&mut self.dice("call", asked.arguments.nonce));
        let mut visit = Visit::new(self, &asked);
        if answer == Answer::NotSent || self.died_at().is_some() {
            visit.may_have_run = false;
            return Err(CallError::ServerLost { why: "it was not written".to_owned(), may_have_run: false });
        }
        let work = async {
            if answer == Answer::Never {
                std::future::pending::<()>().await;
            }
            if !after.is_zero() {
                sleep(after).await;
            }
        };
        if self.is_deaf {
            work.await;
        } else {
            tokio::select! {
                biased;
                fault = self.is_dead() => {
                    return Err(CallError::ServerLost { why: fault.message, may_have_run: true });
                }
                () = work => {}
            }
        }
        if answer == Answer::Error {
            return Err(CallError::Remote { code: -32000, message: "no".to_owned(), data: None });
        }
        let (server, life, nonce) = (&self.server.id, self.incarnation, asked.arguments.nonce);
        let text = format!(r#"{{"server":"{server}","life":{life},"tool":"{}","nonce":{nonce}}}"#, asked.name);
        Ok(Outcome::Raw(RawValue::from_string(text).expect("this is JSON")))
    }

    async fn list(&self, deadline: Instant) -> Result<Catalogue, CallError> {
        let mut dice = self.dice("list", self.refreshes.fetch_add(1, Ordering::Relaxed));
        let after = dice.millis(0..=4_000);
        let begun = now();
        let work = async {
            match dice.below(20) {
                0 => std::future::pending().await,
                1 => Err(CallError::Protocol { why: "not a list".to_owned() }),
                _ => {
                    sleep(after).await;
                    Ok(self.server.catalogue(&mut dice))
                }
            }
        };
        tokio::select! {
            biased;
            fault = self.is_dead() => Err(CallError::ServerLost { why: fault.message, may_have_run: true }),
            () = sleep_until(deadline.into()) => {
                Err(CallError::TimedOut { after: now().saturating_duration_since(begun) })
            }
            list = work => list,
        }
    }

    async fn close(&self, grace: Duration) {
        let mut dice = self.dice("close", 0);
        let cling = cling(&mut dice);
        let after = if dice.chance(20) { grace } else { dice.millis(0..=300).min(grace) };
        tokio::select! {
            biased;
            _ = self.is_dead() => {}
            () = sleep(after) => self.die(Fault::new(FaultClass::KilledByUs, "was closed"), Cause::Us, cling),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Itself,
    Us,
}

/// What a call asks for.
#[derive(Deserialize)]
struct Asked {
    name: String,
    arguments: Arguments,
}

#[derive(Deserialize)]
struct Arguments {
    nonce: u64,
}

impl Asked {
    fn read(request: &Request) -> Self {
        let parameters = request.params.as_ref().map_or("null", |parameters| parameters.get());
        serde_json::from_str(parameters).expect("callers here send a nonce, and the runtime passes it on")
    }
}

/// A request for as long as it is here.
struct Visit<'a> {
    life: &'a Life,
    call: u64,
    may_have_run: bool,
}

impl<'a> Visit<'a> {
    fn new(life: &'a Life, asked: &Asked) -> Self {
        let (to, call) = ((&life.server.id, life.incarnation), asked.arguments.nonce);
        let died_at = life.died_at();
        life.server.world.say(format!("{}#{} gets call {call}", life.server.id, life.incarnation));
        life.server.world.book(|book| book.request_begins(to, &asked.name, call, now(), died_at));
        Self { life, call, may_have_run: true }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let (to, died_at) = ((&self.life.server.id, self.life.incarnation), self.life.died_at());
        let world = &self.life.server.world;
        world.say(format!("{}#{} is rid of call {}", self.life.server.id, self.life.incarnation, self.call));
        world.book(|book| book.request_ends(to, self.call, self.may_have_run, now(), died_at));
    }
}

impl Upstream for Line {
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(self.0.answer(request))
    }

    fn refresh(&self, _: Kind, deadline: Instant) -> BoxFuture<'_, Result<Catalogue, CallError>> {
        Box::pin(self.0.list(deadline))
    }

    fn probe(&self, deadline: Instant) -> BoxFuture<'_, Result<(), CallError>> {
        let misses = self.0.dice("probe", self.0.probes.fetch_add(1, Ordering::Relaxed)).chance(3);
        Box::pin(async move {
            if misses {
                sleep_until(deadline.into()).await;
                return Err(CallError::TimedOut { after: Duration::ZERO });
            }
            Ok(())
        })
    }

    fn closed(&self) -> BoxFuture<'_, Fault> {
        Box::pin(self.0.is_dead())
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.0.close(grace))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let cling = cling(&mut self.0.dice("drop", 0));
        self.0.die(Fault::new(FaultClass::KilledByUs, "was dropped"), Cause::Us, cling);
    }
}
