//! The book of a run: every server, life, request and call, and the promises that they show to be kept or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::port::ToolAnswer;
use ostler_core::status::{Fault, What};
use ostler_core::tool::OfferedTool;
use ostler_core::{Incarnation, ServerEvent, ServerId, ServerState};
use ostler_policy::gate::SLOT_TIME;
use ostler_policy::machine::Policy;

use super::account::{Account, Listing, TICK};
use super::invariant::{Broken, Invariant, is_legal};
use super::world::Tally;

/// How long after its server's death a request may still be there.
const LAST_WORDS: Duration = Duration::from_millis(100);

pub(super) struct Book {
    pub(super) accounts: BTreeMap<ServerId, Account>,
    pub(super) tally: Tally,
    /// The first promise that was found broken since the last look.
    pub(super) broken: Option<Broken>,
    /// Requests at servers.
    requests: u64,
    /// Calls without an end, each with whether it may have run.
    calls: BTreeMap<u64, bool>,
    /// Starts that hold a permit.
    starting: BTreeMap<(ServerId, Incarnation), Instant>,
    slots: usize,
    /// Since when there are more of them than slots.
    crowded_since: Option<Instant>,
    last_list: Option<(u64, Arc<[OfferedTool]>)>,
    /// When servers last came, went or changed places.
    arranged_at: Option<Instant>,
    is_closed: bool,
}

/// What an order does to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Start,
    Stop,
    Restart,
    Remove,
}

impl Book {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            accounts: BTreeMap::new(),
            tally: Tally::default(),
            broken: None,
            requests: 0,
            calls: BTreeMap::new(),
            starting: BTreeMap::new(),
            slots,
            crowded_since: None,
            last_list: None,
            arranged_at: None,
            is_closed: false,
        }
    }

    fn breaks(&mut self, invariant: Invariant, how: String) {
        self.broken.get_or_insert(Broken { invariant, how });
    }

    // ---- Orders ----------------------------------------------------------------------------------------------------

    /// The configuration names other servers, or in another order.
    pub(super) fn arranged(&mut self, now: Instant) {
        self.arranged_at = Some(now);
    }

    /// A server is configured, for the first time, again, or in another way.
    pub(super) fn configured(&mut self, server: &ServerId, policy: &Arc<Policy>, now: Instant) {
        let account = self.accounts.entry(server.clone()).or_insert_with(|| Account::new(Arc::clone(policy), now));
        account.policy = Arc::clone(policy);
        account.ordered(now);
        if !policy.enabled {
            account.stopped(now);
        } else if let Listing::Gone { .. } = account.listing {
            account.listing = Listing::Open { since: now };
        }
    }

    pub(super) fn ordered(&mut self, server: &ServerId, order: Order, now: Instant) {
        self.tally.orders += 1;
        let Some(account) = self.accounts.get_mut(server) else { return };
        account.ordered(now);
        match order {
            Order::Stop => account.stopped(now),
            Order::Remove => account.removed(now),
            Order::Start | Order::Restart => {
                if let (Listing::Gone { .. }, true) = (account.listing, account.policy.enabled) {
                    account.listing = Listing::Open { since: now };
                }
            }
        }
    }

    /// The house closes: nothing starts from now on.
    pub(super) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        for account in self.accounts.values_mut() {
            account.ordered(now);
        }
    }

    // ---- Lives -----------------------------------------------------------------------------------------------------

    pub(super) fn begins(&mut self, server: &ServerId, incarnation: Incarnation, now: Instant) {
        self.tally.starts += 1;
        if self.is_closed {
            self.breaks(Invariant::NothingLeft, format!("{server}#{incarnation} starts after the shutdown"));
        }
        self.starting.insert((server.clone(), incarnation), now);
        self.crowd(now);
        let Some(account) = self.accounts.get_mut(server) else {
            return self.breaks(Invariant::KnownRoutes, format!("{server} starts and was never configured"));
        };
        let holder = account.holder.replace(incarnation);
        let highest = account.highest.replace(incarnation);
        let verdict = account.begins(now);
        if let Some(holder) = holder {
            self.breaks(Invariant::OneLife, format!("{server}#{incarnation} starts while #{holder} holds its lease"));
        }
        if let Some(highest) = highest.filter(|highest| *highest >= incarnation) {
            self.breaks(Invariant::NumbersGrow, format!("{server}#{incarnation} starts after #{highest}"));
        }
        if let Err(why) = verdict {
            self.breaks(Invariant::Schedule, format!("{server}#{incarnation} starts {why}"));
        }
    }

    pub(super) fn is_up(&mut self, server: &ServerId, incarnation: Incarnation, now: Instant) {
        self.starting.remove(&(server.clone(), incarnation));
        self.crowd(now);
        if let Some(account) = self.accounts.get_mut(server) {
            account.is_up(now);
        }
    }

    /// A life ended: by itself if there is a fault, else because the runtime wanted it so.
    pub(super) fn ends(&mut self, server: &ServerId, incarnation: Incarnation, fault: Option<&Fault>, now: Instant) {
        let was_starting = self.starting.remove(&(server.clone(), incarnation)).is_some();
        self.crowd(now);
        if fault.is_some() {
            *(if was_starting { &mut self.tally.failed_starts } else { &mut self.tally.deaths }) += 1;
        }
        let Some(account) = self.accounts.get_mut(server) else { return };
        match fault {
            Some(fault) => account.fails(now, fault),
            None => account.is_given_up(now),
        }
    }

    /// A life gave its lease back.
    pub(super) fn is_gone(&mut self, server: &ServerId, incarnation: Incarnation) {
        if let Some(account) = self.accounts.get_mut(server) {
            account.holder.take_if(|holder| *holder == incarnation);
        }
    }

    // ---- Calls -----------------------------------------------------------------------------------------------------

    pub(super) fn call_begins(&mut self, call: u64) {
        self.calls.insert(call, false);
    }

    /// A call ended, by an answer or because its caller left.
    pub(super) fn call_ends(&mut self, call: u64, name: &str, answer: Option<&ToolAnswer>) {
        self.tally.calls += 1;
        if self.calls.remove(&call).is_none() {
            self.breaks(Invariant::EndsOnce, format!("call {call} ended twice"));
        }
        let Some(server) = answer.and_then(|answer| answer.server.as_ref()) else { return };
        let is_owner = name.strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with("__"));
        if !is_owner || !self.accounts.contains_key(server) {
            self.breaks(Invariant::KnownRoutes, format!("call {call} to {name} was led to {server}"));
        }
    }

    /// A request reaches a server. `died_at`: when that life died, if it has.
    pub(super) fn request_begins(
        &mut self,
        to: (&ServerId, Incarnation),
        tool: &str,
        call: u64,
        now: Instant,
        died_at: Option<Instant>,
    ) {
        self.requests += 1;
        let (server, incarnation) = to;
        if died_at.is_some_and(|at| now > at + LAST_WORDS) {
            self.breaks(Invariant::KnownRoutes, format!("call {call} reaches {server}#{incarnation}, which is dead"));
        }
        if !self.accounts.get(server).is_some_and(|account| account.known.contains(tool)) {
            self.breaks(Invariant::KnownRoutes, format!("call {call} asks {server} for '{tool}', which it never had"));
        }
        match self.calls.get(&call) {
            Some(false) => {}
            Some(true) => {
                self.breaks(Invariant::RunsOnce, format!("call {call} reaches {server} and may have run before"));
            }
            None => self.breaks(Invariant::EndsOnce, format!("call {call} reaches {server} after its end")),
        }
    }

    /// A request has left a server, answered or not.
    pub(super) fn request_ends(
        &mut self,
        to: (&ServerId, Incarnation),
        call: u64,
        may_have_run: bool,
        now: Instant,
        died_at: Option<Instant>,
    ) {
        self.requests -= 1;
        let (server, incarnation) = to;
        if let Some(at) = died_at.filter(|at| now > *at + LAST_WORDS) {
            let late = now.saturating_duration_since(at).as_millis();
            self.breaks(
                Invariant::EndsWithServer,
                format!("call {call} ends {late} ms after the death of {server}#{incarnation}"),
            );
        }
        if may_have_run && let Some(has_run) = self.calls.get_mut(&call) {
            *has_run = true;
        }
    }

    // ---- What the house says ---------------------------------------------------------------------------------------

    pub(super) fn event(&mut self, event: &ServerEvent, now: Instant) {
        let server = &event.server;
        let Some(account) = self.accounts.get_mut(server) else {
            return self.breaks(Invariant::KnownRoutes, format!("an event of {server}, which was never configured"));
        };
        if let What::State { from, to, .. } = &event.what {
            if *to == ServerState::Ready {
                account.is_ready(now);
            }
            let before = account.state.map_or("-", ServerState::as_str);
            if !account.moves(*from, *to) || !is_legal(*from, *to) {
                self.breaks(Invariant::LegalPath, format!("{server}: was {before}, then {from} -> {to}"));
            }
        } else if let What::Notice(notice) = &event.what {
            self.tally.notices += 1;
            if let Err(how) = account.noticed(notice, now) {
                self.breaks(Invariant::OneNotice, format!("{server}: {how}"));
            }
        }
    }

    /// Looks at the list of tools. Called whenever anybody could.
    pub(super) fn look(&mut self, generation: u64, list: Arc<[OfferedTool]>, now: Instant) {
        let is_same = |old: &Arc<[OfferedTool]>| {
            Arc::ptr_eq(old, &list)
                || old.len() == list.len()
                    && old.iter().zip(list.iter()).all(|(one, other)| {
                        one.name == other.name && one.definition.raw.get() == other.definition.raw.get()
                    })
        };
        // Only servers that change places can undo a change between two looks.
        let is_arranged = self.arranged_at.is_some_and(|at| now <= at + TICK);
        if let Some((before, old)) = &self.last_list
            && is_same(old) != (generation == *before)
            && !(is_arranged && generation > before + 1)
        {
            let how = format!("{before} -> {generation}, {} -> {} tools", old.len(), list.len());
            self.breaks(Invariant::Generation, how);
        }
        let listed: BTreeSet<&ServerId> = list.iter().map(|tool| &tool.server).collect();
        let mut found = None;
        for (server, account) in &self.accounts {
            match account.listing {
                Listing::There if !listed.contains(server) => {
                    let state = account.state.map_or("-", ServerState::as_str);
                    found = Some((Invariant::DownListed, format!("{server} ({state}) has no tool listed")));
                }
                Listing::Gone { from } if now > from + TICK && listed.contains(server) => {
                    let state = account.state.map_or("removed", ServerState::as_str);
                    let since = now.saturating_duration_since(from).as_millis();
                    let how = format!("{server} ({state}) is listed {since} ms after it was sent away");
                    found = Some((Invariant::GoneUnlisted, how));
                }
                Listing::Open { .. } | Listing::There | Listing::Gone { .. } => {}
            }
        }
        if let Some((invariant, how)) = found {
            self.breaks(invariant, how);
        }
        self.last_list = Some((generation, list));
    }

    /// Looks at how many start side by side. Within one moment one may not have left when the next comes.
    pub(super) fn crowd(&mut self, now: Instant) {
        // A start that takes long gives its slot away.
        let starting = self.starting.values().filter(|since| now < **since + SLOT_TIME).count();
        if starting <= self.slots {
            self.crowded_since = None;
            return;
        }
        let since = *self.crowded_since.get_or_insert(now);
        if now > since + TICK {
            let how = format!("{starting} starts with {} slots", self.slots);
            self.breaks(Invariant::Gate, how);
        }
    }

    /// Looks at what is left after everything has ended.
    pub(super) fn finish(&mut self, tasks: usize) {
        let holders: Vec<_> = self
            .accounts
            .iter()
            .filter_map(|(server, account)| Some(format!("{server}#{}", account.holder?)))
            .collect();
        if !holders.is_empty() {
            self.breaks(Invariant::NothingLeft, format!("leases are held by {}", holders.join(", ")));
        }
        if let Some(call) = self.calls.keys().next() {
            self.breaks(Invariant::EndsOnce, format!("{} calls have no end, the first is {call}", self.calls.len()));
        }
        if self.requests > 0 {
            self.breaks(Invariant::EndsOnce, format!("{} requests have no end", self.requests));
        }
        if tasks > 0 {
            self.breaks(Invariant::NothingLeft, format!("{tasks} tasks are alive"));
        }
    }
}
