//! The registry: single writer of the tool trie and the dispatch table.
//!
//! It merges what the servers list into one snapshot and publishes it. Tools stay while their server is down or is
//! being restarted; they leave only when a person stops the server or the configuration drops it. If this actor dies,
//! readers keep the last snapshot, and every server publishes to its successor.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ostler_core::name::SEPARATOR;
use ostler_core::tool::OfferedTool;
use ostler_core::{Catalogue, Incarnation, NameTrie, OfferedName, ServerId, ToolDefinition};
use ostler_telemetry::record::{self, ToolCounters};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::house::House;
use crate::lane::Lane;
use crate::message::{PublishReport, RegistryMsg, ServerMsg};
use crate::route::{Route, RouteTable};

/// The actor. Its arguments are the house whose table it writes.
#[derive(Debug)]
pub struct RegistryActor;

/// What the registry knows.
pub struct RegistryState {
    house: Arc<House>,
    order: Vec<ServerId>,
    servers: BTreeMap<ServerId, Entry>,
}

struct Entry {
    lane: Arc<Lane>,
    /// Sorted by name.
    tools: Vec<Listed>,
}

struct Listed {
    offered: OfferedTool,
    route: Arc<Route>,
}

impl Actor for RegistryActor {
    type Msg = RegistryMsg;
    type State = RegistryState;
    type Arguments = Arc<House>;

    async fn pre_start(
        &self,
        _: ActorRef<RegistryMsg>,
        house: Arc<House>,
    ) -> Result<RegistryState, ActorProcessingErr> {
        Ok(RegistryState { house, order: Vec::new(), servers: BTreeMap::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<RegistryMsg>,
        message: RegistryMsg,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RegistryMsg::Enrol { server, lane } => state.enrol(server, lane),
            RegistryMsg::Arrange(order) => state.arrange(order),
            RegistryMsg::Publish { server, incarnation, catalogue, reply } => {
                state.publish(&server, incarnation, &catalogue, &reply);
            }
            RegistryMsg::Retract(server) => state.retract(&server),
            RegistryMsg::Leave(server) => state.leave(&server),
        }
        Ok(())
    }
}

impl RegistryState {
    fn enrol(&mut self, server: ServerId, lane: Arc<Lane>) {
        let tools = match self.servers.remove(&server) {
            Some(entry) => entry.tools.into_iter().map(|listed| listed.over(&lane)).collect(),
            None => Vec::new(),
        };
        self.servers.insert(server, Entry { lane, tools });
        self.store();
    }

    fn arrange(&mut self, order: Vec<ServerId>) {
        if self.order != order {
            self.order = order;
            self.store();
        }
    }

    fn publish(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        catalogue: &Catalogue,
        reply: &ActorRef<ServerMsg>,
    ) {
        // A server enrols before it publishes; one that has left meanwhile is not brought back by a late message.
        let Some(entry) = self.servers.get_mut(server) else { return };
        let (tools, refused) = merge(server, incarnation, catalogue, entry);
        entry.tools = tools;
        let report = PublishReport { tools: entry.tools.len(), refused, changed: self.store() };
        record::tools(server, report.tools);
        // An actor that is gone needs no report.
        let _ = reply.cast(ServerMsg::Published { incarnation, report });
    }

    fn retract(&mut self, server: &ServerId) {
        if let Some(entry) = self.servers.get_mut(server) {
            entry.tools.clear();
            record::tools(server, 0);
            self.store();
        }
    }

    fn leave(&mut self, server: &ServerId) {
        if self.servers.remove(server).is_some() {
            self.store();
            record::forget(server);
        }
    }

    /// Publishes the next snapshot. Returns whether the list of tools changed.
    fn store(&self) -> bool {
        let old = self.house.routes.load();
        let mut table = RouteTable { generation: old.generation, ..RouteTable::default() };
        let mut tools = Vec::new();
        for (server, entry) in self.in_order() {
            table.lanes.insert(&format!("{server}{SEPARATOR}"), Arc::clone(&entry.lane));
            for listed in &entry.tools {
                table.routes.insert(listed.offered.name.as_str(), Arc::clone(&listed.route));
                tools.push(listed.offered.clone());
            }
        }
        let changed = !same_tools(&old.tools, &tools);
        table.tools = if changed { tools.into() } else { Arc::clone(&old.tools) };
        if changed {
            table.generation += 1;
            record::generation(table.generation);
        }
        self.house.routes.store(table);
        changed
    }

    /// The servers in configuration order; those that it does not name come last, by id.
    fn in_order(&self) -> impl Iterator<Item = (&ServerId, &Entry)> {
        let known: HashSet<&ServerId> = self.order.iter().collect();
        let named = self.order.iter().filter_map(|server| self.servers.get_key_value(server));
        named.chain(self.servers.iter().filter(move |(server, _)| !known.contains(server)))
    }
}

impl Listed {
    /// The same tool, reached by another lane.
    fn over(self, lane: &Arc<Lane>) -> Self {
        let route = Route {
            lane: Arc::clone(lane),
            incarnation: self.route.incarnation,
            raw: self.route.raw.clone(),
            counters: Arc::clone(&self.route.counters),
        };
        Self { route: Arc::new(route), ..self }
    }
}

/// Makes a server's part of the namespace of its catalogue, and says what was left out.
fn merge(
    server: &ServerId,
    incarnation: Incarnation,
    catalogue: &Catalogue,
    entry: &Entry,
) -> (Vec<Listed>, Vec<String>) {
    let mut refused: Vec<String> =
        catalogue.refused.iter().map(|tool| format!("tool {}: {}", tool.position, tool.reason)).collect();
    let mut names = NameTrie::default();
    for definition in &catalogue.tools {
        let name = OfferedName::new(server, &definition.name);
        if names.get(name.as_str()).is_some() {
            refused.push(format!("tool '{}': the server lists the name twice; the first counts", definition.name));
            continue;
        }
        names.insert(name.as_str(), listed(server, incarnation, name.clone(), definition, entry));
    }
    let tools =
        names.iter().map(|(_, listed)| Listed { offered: listed.offered.clone(), route: Arc::clone(&listed.route) });
    (tools.collect(), refused)
}

fn listed(
    server: &ServerId,
    incarnation: Incarnation,
    name: OfferedName,
    definition: &Arc<ToolDefinition>,
    entry: &Entry,
) -> Arc<Listed> {
    let before = entry.tools.iter().find(|listed| listed.offered.name == name);
    let counters = match before {
        Some(listed) => Arc::clone(&listed.route.counters),
        None => Arc::new(ToolCounters::new(server, definition.name.as_str())),
    };
    // The bytes decide, so that an unchanged tool stays the same object across restarts.
    let definition = match before {
        Some(listed) if listed.offered.definition.raw.get() == definition.raw.get() => &listed.offered.definition,
        Some(_) | None => definition,
    };
    Arc::new(Listed {
        offered: OfferedTool { name, server: server.clone(), definition: Arc::clone(definition) },
        route: Arc::new(Route { lane: Arc::clone(&entry.lane), incarnation, raw: definition.name.clone(), counters }),
    })
}

fn same_tools(old: &[OfferedTool], new: &[OfferedTool]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(a, b)| a.name == b.name && a.definition.raw.get() == b.definition.raw.get())
}
