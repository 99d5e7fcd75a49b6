//! How many servers may start at the same moment, and who is next.
//!
//! Pure: it neither waits nor wakes anybody. The shell asks for [`Gate::grants`] after every change and when
//! [`Gate::wake_at`] is due, and returns each permit once the start has succeeded or failed. A start that takes long keeps
//! its permit but gives up its slot after [`SLOT_TIME`], so that a few that hang do not hold up all others.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use ostler_core::{Incarnation, ServerId};

/// How many servers on the network may be connected to at the same moment: that costs this host next to nothing.
pub const NETWORK_SLOTS: usize = 16;

/// How long a start may occupy its slot.
pub const SLOT_TIME: Duration = Duration::from_secs(5);

/// Which line a start waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StartClass {
    /// A first start, or one that somebody asked for, of a server without which the house is not well.
    Required,
    /// A first start of any other server, or one that somebody asked for; and another try of a required one.
    Fresh,
    /// Another try after failures: it lets all other starts pass.
    Retry,
}

/// What a start costs this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StartKind {
    /// A process.
    Process,
    /// A process that may first have to be fetched and installed: it takes long, and much of the host.
    Cold,
    /// A connection to a server that runs elsewhere.
    Network,
}

/// The slots that a kind of start competes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// For processes, as many as the gate was made with. At most half of them, or one, for cold starts.
    Process,
    /// For connections: [`NETWORK_SLOTS`].
    Network,
}

impl StartKind {
    /// The kind of a start that runs `program`: cold if it is one of the launchers that fetch packages.
    pub fn of_program(program: &Path) -> Self {
        const FETCHING: [&str; 4] = ["npx", "uvx", "bunx", "pipx"];
        let name = program.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if FETCHING.contains(&name) { Self::Cold } else { Self::Process }
    }

    /// Which slots it competes for.
    pub fn pool(self) -> Pool {
        match self {
            Self::Process | Self::Cold => Pool::Process,
            Self::Network => Pool::Network,
        }
    }
}

/// One start of one server.
type Start = (ServerId, Incarnation);

#[derive(Debug, Clone)]
struct Held {
    start: Start,
    kind: StartKind,
    since: Instant,
}

/// The start gate: bounded numbers of slots, three lines, a pause, a brake.
///
/// Its lines are as long as there are servers: a server's machine has at most one request or permit out.
#[derive(Debug, Clone)]
pub struct Gate {
    slots: NonZeroUsize,
    held: Vec<Held>,
    /// One line for each class, in the order of the classes.
    lines: [VecDeque<(Start, StartKind)>; 3],
    paused_until: Option<Instant>,
    braked_until: Option<Instant>,
}

impl Gate {
    /// Makes a gate that lets `slots` processes start at the same moment.
    pub fn new(slots: NonZeroUsize) -> Self {
        Self { slots, held: Vec::new(), lines: Default::default(), paused_until: None, braked_until: None }
    }

    /// Puts a start at the end of its line. One that already waits or holds a slot is left where it is.
    pub fn request(&mut self, server: ServerId, incarnation: Incarnation, class: StartClass, kind: StartKind) {
        let start = (server, incarnation);
        let waits = self.lines.iter().flatten().any(|(waiting, _)| *waiting == start);
        if waits || self.held.iter().any(|held| held.start == start) {
            return;
        }
        let line = match class {
            StartClass::Required => 0,
            StartClass::Fresh => 1,
            StartClass::Retry => 2,
        };
        self.lines[line].push_back((start, kind));
    }

    /// Takes a permit back, or the request for it if it still waits. Nothing happens if there is neither.
    pub fn release(&mut self, server: &ServerId, incarnation: Incarnation) {
        self.forget(|start| start.0 == *server && start.1 == incarnation);
    }

    /// Takes back all that a server has here, of any incarnation: for a server that is gone.
    pub fn cancel(&mut self, server: &ServerId) {
        self.forget(|start| start.0 == *server);
    }

    /// Grants nothing before `until`. A pause is only ever made longer.
    pub fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Lets only one start run at a time before `until`, and no retry. Like a pause, it is only ever made longer.
    pub fn brake_until(&mut self, until: Instant) {
        self.braked_until = self.braked_until.max(Some(until));
    }

    /// Gives out all permits that can be given at `now`: class by class, each line in its order. A start whose pool is
    /// full lets those behind it pass.
    #[must_use]
    pub fn grants(&mut self, now: Instant) -> Vec<(ServerId, Incarnation)> {
        self.held.retain(|held| now < held.since + SLOT_TIME);
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.braked_until = self.braked_until.filter(|until| now < *until);
        let mut granted = Vec::new();
        while let Some((line, place)) = self.next() {
            let Some((start, kind)) = self.lines[line].remove(place) else { break };
            self.held.push(Held { start: start.clone(), kind, since: now });
            granted.push(start);
        }
        granted
    }

    /// When to ask for grants again although nothing changed: somebody waits, and the pause, the brake or a long start's
    /// time in its slot is over then.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.waiting() == 0 {
            return None;
        }
        let first = self.held.iter().map(|held| held.since + SLOT_TIME).chain(self.braked_until).min();
        self.paused_until.or(first)
    }

    /// How many starts wait.
    pub fn waiting(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// How many slots are taken.
    pub fn in_use(&self) -> usize {
        self.held.len()
    }

    /// The line and the place in it of the next start that may run.
    fn next(&self) -> Option<(usize, usize)> {
        if self.paused_until.is_some() || self.braked_until.is_some() && !self.held.is_empty() {
            return None;
        }
        let open = if self.braked_until.is_some() { 2 } else { 3 };
        self.lines[..open].iter().enumerate().find_map(|(line, starts)| {
            starts.iter().position(|(_, kind)| self.has_room(*kind)).map(|place| (line, place))
        })
    }

    fn has_room(&self, kind: StartKind) -> bool {
        let taken = |wanted: &dyn Fn(StartKind) -> bool| self.held.iter().filter(|held| wanted(held.kind)).count();
        let in_pool = taken(&|other| other.pool() == kind.pool());
        match kind {
            StartKind::Network => in_pool < NETWORK_SLOTS,
            StartKind::Process => in_pool < self.slots.get(),
            StartKind::Cold => {
                let cold = taken(&|other| other == StartKind::Cold);
                in_pool < self.slots.get() && cold < (self.slots.get() / 2).max(1)
            }
        }
    }

    fn forget(&mut self, gone: impl Fn(&Start) -> bool) {
        self.held.retain(|held| !gone(&held.start));
        for line in &mut self.lines {
            line.retain(|(start, _)| !gone(start));
        }
    }
}

#[cfg(test)]
mod tests;
