//! What a server's actor remembers across restarts of our process: its streak, where it was parked, what it last listed.
//!
//! The machine speaks of what remains of its waits; here they become wall-clock times and back. What a jump of the clock
//! has made of them, the machine bounds by its policy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ostler_core::memory::{Parked, ServerMemory};
use ostler_core::{Catalogue, ToolDefinition};
use ostler_policy::machine::{Remembered, State};

use super::{ServerSpec, ServerState};
use crate::clock;
use crate::house::House;

/// Where a new actor of the server begins: where the last process left off, or at the beginning.
pub(super) fn begin(spec: &ServerSpec, house: &House) -> (State, Option<Arc<Catalogue>>) {
    let Some(memory) = house.recall(&spec.id, &spec.launch) else {
        return (State::initial(&spec.policy), None);
    };
    let machine = State::restore(&spec.policy, &remembered(&memory, clock::wall()), clock::now());
    let tools: Vec<_> = memory.tools.iter().filter_map(|raw| ToolDefinition::parse(raw).ok()).map(Arc::new).collect();
    let catalogue = (!tools.is_empty()).then(|| Arc::new(Catalogue { tools, ..Catalogue::default() }));
    (machine, catalogue)
}

fn remembered(memory: &ServerMemory, now: SystemTime) -> Remembered {
    let parked = memory.parked.as_ref().map(|parked| {
        // A time in the past is due; one that a jump of the clock has put far ahead is bounded by the policy.
        let remaining = parked.until.map(|until| until.duration_since(now).unwrap_or(Duration::ZERO));
        (parked.state, remaining)
    });
    let fault = memory.parked.as_ref().and_then(|parked| parked.fault.clone()).map(Arc::new);
    Remembered { failures: memory.failures, told: memory.told, parked, fault }
}

impl ServerState {
    /// Writes down how the server stands. Returns at once.
    pub(super) fn remember(&self) {
        let Some(store) = &self.house.store else { return };
        let Remembered { failures, told, parked, fault } = self.machine.remember(clock::now());
        let at = clock::wall();
        let parked = parked.map(|(state, remaining)| Parked {
            state,
            until: remaining.map(|remaining| at + remaining),
            fault: fault.as_deref().cloned(),
        });
        let tools = self
            .listed
            .catalogue
            .as_ref()
            .map(|(_, catalogue)| catalogue.tools.iter().map(|tool| tool.raw.clone()).collect());
        store.remember(ServerMemory {
            server: self.spec.id.clone(),
            launch: self.spec.launch.clone(),
            at,
            failures,
            told,
            parked,
            tools: tools.unwrap_or_default(),
        });
    }
}
