//! The window into the house: reads its events and its list of tools, writes them into the book.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::ServerEvent;
use ostler_core::port::Dispatch;
use ostler_core::status::What;
use ostler_runtime::{Entry, FleetHandle, Subscription};

use super::invariant::Invariant;
use super::world::{World, now};

/// How often the window looks although nothing was said.
const GLANCE: Duration = Duration::from_millis(1009);

#[derive(Clone)]
pub(super) struct Window {
    pub(super) world: Arc<World>,
    pub(super) fleet: FleetHandle,
    pub(super) dispatch: Arc<dyn Dispatch>,
}

impl Window {
    pub(super) fn new(world: &Arc<World>, fleet: FleetHandle) -> Self {
        Self { world: Arc::clone(world), dispatch: fleet.dispatch(), fleet }
    }

    /// Looks at the list of tools as any reader could at this moment.
    pub(super) fn look(&self) {
        let (generation, list) = (self.fleet.generation(), self.dispatch.tools());
        self.world.book(|book| book.look(generation, list, now()));
    }

    /// Watches for ever.
    pub(super) async fn watch(self) {
        let mut story = self.fleet.events().subscribe();
        loop {
            tokio::select! {
                biased;
                entry = story.next() => self.read(entry, &mut story),
                () = tokio::time::sleep(GLANCE) => self.world.book(|book| book.crowd(now())),
            }
            self.look();
        }
    }

    fn read(&self, first: Entry, story: &mut Subscription) {
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Event(event) => {
                    if let Some(line) = line(&event) {
                        self.world.say(line);
                    }
                    self.world.book(|book| book.event(&event, now()));
                }
                Entry::Gap { missed } => {
                    self.world.breaks(Invariant::NoBugs, format!("{missed} events in one moment"));
                }
            }
            next = story.try_next();
        }
    }
}

fn line(event: &ServerEvent) -> Option<String> {
    let life = event.incarnation.map_or_else(String::new, |incarnation| format!("#{incarnation}"));
    let server = &event.server;
    if let What::State { from, to, fault, next_try_in } = &event.what {
        let why = fault.as_ref().map_or_else(String::new, |fault| format!(" ({})", fault.class));
        let next = next_try_in.map_or_else(String::new, |delay| format!(" next in {} ms", delay.as_millis()));
        return Some(format!("{server}{life} {from} -> {to}{why}{next}"));
    }
    if let What::Published { tools, refused } = &event.what {
        return Some(format!("{server}{life} published {tools}, refused {refused}"));
    }
    if let What::Notice(notice) = &event.what {
        return Some(format!("{server}{life} notice: {notice}"));
    }
    None
}
