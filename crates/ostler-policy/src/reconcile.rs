//! What must change so that the servers that exist become the servers that are wanted.
//!
//! It only compares; the fleet carries the plan out. What makes two configurations equal is decided by whoever makes
//! the fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use ostler_core::ServerId;

/// What a server's configuration boils down to: two that are equal need no restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Takes a text that is equal for equal configurations, and only then. It must not contain secrets.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The server exists and is not wanted.
    Remove(ServerId),
    /// The server is wanted and does not exist.
    Add(ServerId),
    /// The server exists and is wanted in another configuration.
    Replace(ServerId),
}

/// Compares what runs with what is desired. What is equal on both sides is not mentioned.
///
/// Removals come first, in the order of `running`, so that a name is free before another takes its place; then
/// additions and replacements in the order of `desired`. A server that is desired twice counts once, as first given.
pub fn plan(running: &[(ServerId, Fingerprint)], desired: &[(ServerId, Fingerprint)]) -> Vec<Change> {
    let wanted: BTreeSet<&ServerId> = desired.iter().map(|(server, _)| server).collect();
    let mut current: BTreeMap<&ServerId, &Fingerprint> = BTreeMap::new();
    let mut changes = Vec::new();
    for (server, fingerprint) in running {
        if wanted.contains(server) {
            current.insert(server, fingerprint);
        } else {
            changes.push(Change::Remove(server.clone()));
        }
    }
    let mut seen = BTreeSet::new();
    for (server, fingerprint) in desired {
        if !seen.insert(server) {
            continue;
        }
        match current.get(server) {
            None => changes.push(Change::Add(server.clone())),
            Some(running) if *running != fingerprint => changes.push(Change::Replace(server.clone())),
            Some(_) => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(list: &[(&str, &str)]) -> Vec<(ServerId, Fingerprint)> {
        list.iter().map(|(name, print)| (ServerId::new(name).unwrap(), Fingerprint::new(*print))).collect()
    }

    fn id(name: &str) -> ServerId {
        ServerId::new(name).unwrap()
    }

    #[test]
    fn the_plan_names_what_differs_and_nothing_else() {
        let check = |running: &[(&str, &str)], desired: &[(&str, &str)], expected: &[Change]| {
            assert_eq!(plan(&servers(running), &servers(desired)), expected);
        };
        check(&[], &[], &[]);
        check(&[("a", "1"), ("b", "1")], &[("b", "1"), ("a", "1")], &[]);
        check(&[], &[("b", "1"), ("a", "1")], &[Change::Add(id("b")), Change::Add(id("a"))]);
        check(&[("b", "1"), ("a", "1")], &[], &[Change::Remove(id("b")), Change::Remove(id("a"))]);
        check(
            &[("a", "1"), ("b", "1"), ("c", "1")],
            &[("d", "1"), ("c", "2"), ("a", "1")],
            &[Change::Remove(id("b")), Change::Add(id("d")), Change::Replace(id("c"))],
        );
        check(&[("Math", "1")], &[("math", "1")], &[Change::Remove(id("Math")), Change::Add(id("math"))]);
        check(&[], &[("a", "1"), ("a", "2")], &[Change::Add(id("a"))]);
    }

    fn fleet() -> impl Strategy<Value = Vec<(ServerId, Fingerprint)>> {
        prop::collection::btree_map("[a-f]", "[12]", 0..6).prop_map(|fleet| {
            fleet.into_iter().map(|(name, print)| (ServerId::new(&name).unwrap(), Fingerprint::new(print))).collect()
        })
    }

    proptest! {
        #[test]
        fn a_plan_carried_out_leaves_nothing_to_plan(running in fleet(), desired in fleet()) {
            let mut carried: BTreeMap<_, _> = running.iter().cloned().collect();
            let target: BTreeMap<_, _> = desired.iter().cloned().collect();
            for change in plan(&running, &desired) {
                match change {
                    Change::Remove(server) => prop_assert!(carried.remove(&server).is_some()),
                    Change::Add(server) => {
                        let print = target[&server].clone();
                        prop_assert!(carried.insert(server, print).is_none());
                    }
                    Change::Replace(server) => {
                        let print = target[&server].clone();
                        prop_assert_ne!(carried.insert(server, print.clone()), Some(print));
                    }
                }
            }
            prop_assert_eq!(&carried, &target);
            let now: Vec<_> = carried.into_iter().collect();
            prop_assert_eq!(plan(&now, &desired), []);
        }
    }
}
