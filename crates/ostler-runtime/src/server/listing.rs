//! What a server offers, from its lists to the registry and back: only what can be called makes it ready.

use std::sync::Arc;

use ostler_core::port::EventSink;
use ostler_core::status::{Facts, Notice, ServerState as State, What};
use ostler_core::{Catalogue, Incarnation, ServerId};
use ostler_policy::machine::Event;
use ostler_telemetry::record;
use ractor::{ActorProcessingErr, ActorRef};

use super::ServerState;
use crate::message::{PublishReport, RegistryMsg, ServerMsg};

/// What the server last listed, and what the registry made of it.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) catalogue: Option<(Incarnation, Arc<Catalogue>)>,
    pub(super) tools: usize,
    pub(super) refused: Vec<String>,
}

impl ServerState {
    pub(super) fn connected(
        &mut self,
        myself: &ActorRef<ServerMsg>,
        incarnation: Incarnation,
        catalogue: Arc<Catalogue>,
        facts: Arc<Facts>,
    ) {
        if let Some(running) = self.connection.as_mut().filter(|running| running.incarnation == incarnation) {
            running.facts = Some(facts);
        }
        self.publish(myself, incarnation, catalogue);
    }

    pub(super) fn publish(
        &mut self,
        myself: &ActorRef<ServerMsg>,
        incarnation: Incarnation,
        catalogue: Arc<Catalogue>,
    ) {
        if !self.serves(incarnation) {
            record::stale_event(&self.spec.id);
            return;
        }
        self.listed.catalogue = Some((incarnation, Arc::clone(&catalogue)));
        let (server, reply) = (self.spec.id.clone(), myself.clone());
        // A registry that is gone is replaced, and its successor is told by `rewire`.
        let _ = self.registry.cast(RegistryMsg::Publish { server, incarnation, catalogue, reply });
    }

    /// Whether what this incarnation lists counts. A server that is being stopped lists nothing any more.
    pub(super) fn serves(&self, incarnation: Incarnation) -> bool {
        let is_live = self.connection.as_ref().is_some_and(|running| running.incarnation == incarnation);
        is_live && matches!(self.machine.view(), State::Starting | State::Ready | State::Degraded)
    }

    /// What the server listed when we last ran is offered before it is up again: calls wait for it as for a restart.
    pub(super) fn publish_recalled(&mut self) {
        let offered = self.machine.awaits_start() || !matches!(self.machine.view(), State::Disabled | State::Stopped);
        match &self.listed.catalogue {
            Some((incarnation, catalogue)) if offered => {
                let (server, catalogue) = (self.spec.id.clone(), Arc::clone(catalogue));
                self.listed.tools = catalogue.tools.len();
                let recall = RegistryMsg::Recall { server, incarnation: *incarnation, catalogue };
                let _ = self.registry.cast(recall);
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn retract(&mut self, server: ServerId) {
        self.listed = Listed::default();
        self.announce();
        // A registry that is gone is replaced, and its successor is told by `rewire`.
        let _ = self.registry.cast(RegistryMsg::Retract(server));
    }

    /// The tools can be called: only now is the server ready.
    pub(super) async fn published(
        &mut self,
        myself: &ActorRef<ServerMsg>,
        incarnation: Incarnation,
        report: PublishReport,
    ) -> Result<(), ActorProcessingErr> {
        if !self.serves(incarnation) {
            record::stale_event(&self.spec.id);
            return Ok(());
        }
        let news = report.changed || self.listed.tools != report.tools || self.listed.refused != report.refused;
        let complaint = (self.listed.refused != report.refused).then(|| complaint(&report)).flatten();
        self.listed.tools = report.tools;
        self.listed.refused = report.refused;
        self.apply(myself, Event::Up { incarnation }).await?;
        if news {
            let what = What::Published { tools: self.listed.tools, refused: self.listed.refused.len() };
            self.house.events.emit(&self.spec.id, Some(incarnation), what);
            self.remember();
        }
        if let Some(notice) = complaint {
            self.notify(notice);
        }
        Ok(())
    }

    /// Tells a new registry everything that the old one may not have heard.
    pub(super) fn rewire(&mut self, myself: &ActorRef<ServerMsg>, registry: ActorRef<RegistryMsg>) {
        self.registry = registry;
        self.enrol();
        let server = self.spec.id.clone();
        let message = match self.listed.catalogue.clone() {
            Some((incarnation, catalogue)) => {
                RegistryMsg::Publish { server, incarnation, catalogue, reply: myself.clone() }
            }
            None => RegistryMsg::Retract(server),
        };
        let _ = self.registry.cast(message);
    }

    pub(super) fn enrol(&self) {
        let enrol = RegistryMsg::Enrol { server: self.spec.id.clone(), lane: Arc::clone(&self.lane) };
        // A registry that is gone is replaced, and its successor is told by `rewire`.
        let _ = self.registry.cast(enrol);
    }
}

fn complaint(report: &PublishReport) -> Option<Notice> {
    const SHOWN: usize = 3;
    let refused = &report.refused;
    let first = refused.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    let more = if refused.len() > SHOWN { format!("; and {} more", refused.len() - SHOWN) } else { String::new() };
    (!refused.is_empty()).then(|| Notice::Catalogue(format!("{} left out: {first}{more}", counted(refused.len()))))
}

fn counted(tools: usize) -> String {
    if tools == 1 { "1 tool".to_owned() } else { format!("{tools} tools") }
}
