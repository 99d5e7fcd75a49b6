//! How many servers may start at the same moment, and who is next.
//!
//! Pure: it neither waits nor wakes anybody. The shell asks for [`Gate::grants`] after every change and when
//! [`Gate::wake_at`] is due, and returns each permit once the start has succeeded or failed.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Instant;

use ostler_core::{Incarnation, ServerId};

/// Which line a start waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StartClass {
    /// A first start, or one that somebody asked for.
    Fresh,
    /// Another try after failures: it lets all fresh starts pass.
    Retry,
}

/// One start of one server.
type Start = (ServerId, Incarnation);

/// The start gate: a bounded number of permits, two lines, and a pause.
///
/// Its lines are as long as there are servers: a server's machine has at most one request or permit out.
#[derive(Debug, Clone)]
pub struct Gate {
    slots: NonZeroUsize,
    held: Vec<Start>,
    fresh: VecDeque<Start>,
    retry: VecDeque<Start>,
    paused_until: Option<Instant>,
}

impl Gate {
    /// Makes a gate that lets `slots` starts run at the same moment.
    pub fn new(slots: NonZeroUsize) -> Self {
        Self { slots, held: Vec::new(), fresh: VecDeque::new(), retry: VecDeque::new(), paused_until: None }
    }

    /// Puts a start at the end of its line. One that already waits or holds a permit is left where it is.
    pub fn request(&mut self, server: ServerId, incarnation: Incarnation, class: StartClass) {
        let start = (server, incarnation);
        if self.held.contains(&start) || self.fresh.contains(&start) || self.retry.contains(&start) {
            return;
        }
        match class {
            StartClass::Fresh => self.fresh.push_back(start),
            StartClass::Retry => self.retry.push_back(start),
        }
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

    /// Gives out all permits that can be given at `now`: fresh starts first, each line in its order.
    #[must_use]
    pub fn grants(&mut self, now: Instant) -> Vec<(ServerId, Incarnation)> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.paused_until = None;
        let mut granted = Vec::new();
        while self.held.len() < self.slots.get() {
            let Some(start) = self.fresh.pop_front().or_else(|| self.retry.pop_front()) else { break };
            self.held.push(start.clone());
            granted.push(start);
        }
        granted
    }

    /// When to ask for grants again although nothing changed: the end of a pause that somebody waits for.
    pub fn wake_at(&self) -> Option<Instant> {
        self.paused_until.filter(|_| self.waiting() > 0 && self.in_use() < self.slots.get())
    }

    /// How many starts wait.
    pub fn waiting(&self) -> usize {
        self.fresh.len() + self.retry.len()
    }

    /// How many permits are out.
    pub fn in_use(&self) -> usize {
        self.held.len()
    }

    fn forget(&mut self, gone: impl Fn(&Start) -> bool) {
        self.held.retain(|start| !gone(start));
        self.fresh.retain(|start| !gone(start));
        self.retry.retain(|start| !gone(start));
    }
}

#[cfg(test)]
mod tests;
