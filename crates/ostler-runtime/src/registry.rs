//! The registry: single writer of the tool trie and the dispatch table.
//!
//! It merges what the servers list into one snapshot and publishes it. Tools stay while their server is down or is
//! being restarted; they leave only when a person stops the server or the configuration drops it. If this actor dies,
//! readers keep the last snapshot, and every server publishes to its successor.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ostler_core::name::SEPARATOR;
use ostler_core::tool::OfferedTool;
use ostler_core::{Catalogue, Incarnation, OfferedName, ServerId, ToolDefinition};
use ostler_telemetry::record::{self, ToolCounters};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::house::House;
use crate::lane::Lane;
use crate::message::{PublishReport, RegistryMsg, ServerMsg};
use crate::route::{Route, RouteTable};

/// The actor. Its arguments are the house whose table it writes.
#[derive(Debug)]
pub struct RegistryActor;

/// What the registry knows: every server's part, and the table that the parts make.
pub struct RegistryState {
    house: Arc<House>,
    order: Vec<ServerId>,
    servers: BTreeMap<ServerId, Entry>,
    /// What was published last. Its tries share all but the changed paths with their successors.
    table: RouteTable,
}

struct Entry {
    lane: Arc<Lane>,
    /// Sorted by name.
    tools: Vec<Listed>,
}

#[derive(Clone)]
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
        Ok(RegistryState::resumed(house))
    }

    async fn handle(
        &self,
        _: ActorRef<RegistryMsg>,
        message: RegistryMsg,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RegistryMsg::Enrol { server, lane } => state.enrol(&server, lane),
            RegistryMsg::Arrange(order) => state.arrange(order),
            RegistryMsg::Publish { server, incarnation, catalogue, reply } => {
                state.publish(&server, incarnation, &catalogue, &reply);
            }
            RegistryMsg::Recall { server, incarnation, catalogue } => state.recall(&server, incarnation, &catalogue),
            RegistryMsg::Retract(server) => state.retract(&server),
            RegistryMsg::Leave(server) => state.leave(&server),
        }
        Ok(())
    }
}

impl RegistryState {
    /// Begins where the registry before this one ended, so that nobody sees a gap between the two.
    fn resumed(house: Arc<House>) -> Self {
        let table = RouteTable::clone(&house.routes.load());
        let order = house.desired.load().iter().map(|spec| spec.id.clone()).collect();
        let mut servers: BTreeMap<ServerId, Entry> = BTreeMap::new();
        for (_, lane) in table.lanes.iter() {
            servers.insert(lane.server().clone(), Entry { lane: Arc::clone(lane), tools: Vec::new() });
        }
        for offered in table.tools.iter() {
            let route = table.routes.get(offered.name.as_str());
            if let (Some(entry), Some(route)) = (servers.get_mut(&offered.server), route) {
                entry.tools.push(Listed { offered: offered.clone(), route: Arc::clone(route) });
            }
        }
        Self { house, order, servers, table }
    }

    fn enrol(&mut self, server: &ServerId, lane: Arc<Lane>) {
        self.table.lanes.insert(&prefix(server), Arc::clone(&lane));
        let tools = match self.servers.remove(server) {
            Some(entry) => entry.tools.into_iter().map(|listed| listed.over(&lane)).collect(),
            None => Vec::new(),
        };
        self.servers.insert(server.clone(), Entry { lane, tools: Vec::new() });
        self.replace(server, tools);
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
        let Some(entry) = self.servers.get(server) else { return };
        let (tools, refused) = merge(server, incarnation, catalogue, entry);
        let report = PublishReport { tools: tools.len(), refused, changed: self.replace(server, tools) };
        // An actor that is gone needs no report.
        let _ = reply.cast(ServerMsg::Published { incarnation, report });
    }

    fn recall(&mut self, server: &ServerId, incarnation: Incarnation, catalogue: &Catalogue) {
        if let Some(entry) = self.servers.get(server) {
            let (tools, _) = merge(server, incarnation, catalogue, entry);
            self.replace(server, tools);
        }
    }

    fn retract(&mut self, server: &ServerId) {
        self.replace(server, Vec::new());
    }

    fn leave(&mut self, server: &ServerId) {
        if self.servers.contains_key(server) {
            self.table.lanes.remove(&prefix(server));
            self.replace(server, Vec::new());
            self.servers.remove(server);
            record::forget(server);
        }
    }

    /// Makes `tools` the part of a server and publishes. Returns whether the list of tools changed.
    fn replace(&mut self, server: &ServerId, tools: Vec<Listed>) -> bool {
        let Some(entry) = self.servers.get_mut(server) else { return false };
        for old in std::mem::replace(&mut entry.tools, tools) {
            self.table.routes.remove(old.offered.name.as_str());
        }
        for new in &entry.tools {
            self.table.routes.insert(new.offered.name.as_str(), Arc::clone(&new.route));
        }
        record::tools(server, entry.tools.len());
        self.store()
    }

    /// Publishes the table. Returns whether the list of tools changed.
    fn store(&mut self) -> bool {
        let tools: Vec<OfferedTool> =
            self.in_order().flat_map(|entry| entry.tools.iter().map(|listed| listed.offered.clone())).collect();
        let changed = !same_tools(&self.table.tools, &tools);
        if changed {
            self.table.tools = tools.into();
            self.table.generation += 1;
            record::generation(self.table.generation);
        }
        self.house.routes.store(self.table.clone());
        changed
    }

    /// The servers in configuration order; those that it does not name come last, by id.
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let known: HashSet<&ServerId> = self.order.iter().collect();
        let named = self.order.iter().filter_map(|server| self.servers.get(server));
        let others = self.servers.iter().filter(move |(server, _)| !known.contains(server));
        named.chain(others.map(|(_, entry)| entry))
    }
}

/// What the names of a server's tools begin with.
fn prefix(server: &ServerId) -> String {
    format!("{server}{SEPARATOR}")
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
    let mut tools: BTreeMap<OfferedName, Listed> = BTreeMap::new();
    for definition in &catalogue.tools {
        let name = OfferedName::new(server, &definition.name);
        if tools.contains_key(&name) {
            refused.push(format!("tool '{}': another one is already offered as {name}", definition.name));
            continue;
        }
        tools.insert(name.clone(), listed(server, incarnation, name, definition, entry));
    }
    (tools.into_values().collect(), refused)
}

fn listed(
    server: &ServerId,
    incarnation: Incarnation,
    name: OfferedName,
    definition: &Arc<ToolDefinition>,
    entry: &Entry,
) -> Listed {
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
    Listed {
        offered: OfferedTool { name, server: server.clone(), definition: Arc::clone(definition) },
        route: Arc::new(Route { lane: Arc::clone(&entry.lane), incarnation, raw: definition.name.clone(), counters }),
    }
}

fn same_tools(old: &[OfferedTool], new: &[OfferedTool]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(a, b)| a.name == b.name && a.definition.raw.get() == b.definition.raw.get())
}
