//! A map from names to values that knows prefixes: who is under one, how many, and which is the longest that matches.
//!
//! A radix tree over bytes with shared nodes: a clone is one reference, and a change copies only the path to it, so a
//! published tree and its successor share everything else.

use std::sync::Arc;

/// A prefix map. Iteration is in byte order of the names.
#[derive(Debug, Clone)]
pub struct NameTrie<T> {
    root: Arc<Node<T>>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// The bytes between the parent and this node; empty only at the root.
    label: Box<[u8]>,
    value: Option<T>,
    /// Sorted by the first byte of their labels, which is unique among them.
    children: Vec<Arc<Node<T>>>,
    /// How many values are here and below.
    count: usize,
}

impl<T> Node<T> {
    fn leaf(label: &[u8], value: T) -> Arc<Self> {
        Arc::new(Self { label: label.into(), value: Some(value), children: Vec::new(), count: 1 })
    }

    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |child| child.label[0])
    }
}

impl<T> Default for NameTrie<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node { label: Box::default(), value: None, children: Vec::new(), count: 0 }) }
    }
}

impl<T> NameTrie<T> {
    /// How many names are in it.
    pub fn len(&self) -> usize {
        self.root.count
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of exactly this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        let mut node = &*self.root;
        let mut rest = name.as_bytes();
        while let Some(&first) = rest.first() {
            let child = &*node.children[node.child(first).ok()?];
            rest = rest.strip_prefix(&*child.label)?;
            node = child;
        }
        node.value.as_ref()
    }

    /// The longest name in the tree that `name` starts with, and its value.
    pub fn longest_match<'a>(&self, name: &'a str) -> Option<(&'a str, &T)> {
        let mut node = &*self.root;
        let mut rest = name.as_bytes();
        let mut best = node.value.as_ref().map(|value| ("", value));
        while let Some(&first) = rest.first() {
            let Ok(index) = node.child(first) else { break };
            let child = &*node.children[index];
            let Some(after) = rest.strip_prefix(&*child.label) else { break };
            rest = after;
            node = child;
            if let Some(value) = &node.value {
                best = Some((&name[..name.len() - rest.len()], value));
            }
        }
        best
    }

    /// How many names start with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.subtree(prefix).map_or(0, |(node, _)| node.count)
    }

    /// The names that start with `prefix`, with their values, in byte order.
    pub fn under(&self, prefix: &str) -> Vec<(String, &T)> {
        let mut found = Vec::new();
        if let Some((node, mut path)) = self.subtree(prefix) {
            found.reserve(node.count);
            collect(node, &mut path, &mut found);
        }
        found
    }

    /// All names with their values, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        self.under("").into_iter()
    }

    /// The node that holds all names under `prefix`, and the full path to it.
    fn subtree(&self, prefix: &str) -> Option<(&Node<T>, Vec<u8>)> {
        let mut node = &*self.root;
        let mut path = Vec::new();
        let mut rest = prefix.as_bytes();
        while let Some(&first) = rest.first() {
            let child = &*node.children[node.child(first).ok()?];
            let shared = shared_prefix(rest, &child.label);
            if shared < rest.len() && shared < child.label.len() {
                return None;
            }
            path.extend_from_slice(&child.label);
            rest = &rest[shared..];
            node = child;
        }
        Some((node, path))
    }
}

impl<T: Clone> NameTrie<T> {
    /// Puts `value` under `name` and returns what was there.
    pub fn insert(&mut self, name: &str, value: T) -> Option<T> {
        insert(&mut self.root, name.as_bytes(), value)
    }

    /// Takes the value of `name` out.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        // Looked up first, so that a miss copies nothing.
        self.get(name)?;
        remove(&mut self.root, name.as_bytes())
    }
}

fn insert<T: Clone>(node: &mut Arc<Node<T>>, rest: &[u8], value: T) -> Option<T> {
    let node = Arc::make_mut(node);
    let Some(&first) = rest.first() else {
        let old = node.value.replace(value);
        node.count += usize::from(old.is_none());
        return old;
    };
    let old = match node.child(first) {
        Err(place) => {
            node.children.insert(place, Node::leaf(rest, value));
            None
        }
        Ok(index) => {
            let child = &mut node.children[index];
            let shared = shared_prefix(rest, &child.label);
            if shared < child.label.len() {
                split(child, shared);
            }
            insert(child, &rest[shared..], value)
        }
    };
    node.count += usize::from(old.is_none());
    old
}

/// Cuts the node's label at `at`: the first part becomes a new node above the rest.
fn split<T: Clone>(node: &mut Arc<Node<T>>, at: usize) {
    let label = node.label.clone();
    let count = node.count;
    let mut lower = Arc::clone(node);
    Arc::make_mut(&mut lower).label = label[at..].into();
    *node = Arc::new(Node { label: label[..at].into(), value: None, children: vec![lower], count });
}

fn remove<T: Clone>(node: &mut Arc<Node<T>>, rest: &[u8]) -> Option<T> {
    let node = Arc::make_mut(node);
    let old = match rest.first() {
        None => node.value.take(),
        Some(&first) => {
            let index = node.child(first).ok()?;
            let child = &mut node.children[index];
            let old = remove(child, rest.strip_prefix(&*Arc::clone(child).label)?);
            if child.count == 0 {
                node.children.remove(index);
            } else if child.value.is_none() && child.children.len() == 1 {
                merge(child);
            }
            old
        }
    };
    node.count -= usize::from(old.is_some());
    old
}

/// Joins a node that has no value and one child with that child.
fn merge<T: Clone>(node: &mut Arc<Node<T>>) {
    let mut label = node.label.to_vec();
    let mut lower = Arc::clone(&node.children[0]);
    label.extend_from_slice(&lower.label);
    Arc::make_mut(&mut lower).label = label.into();
    *node = lower;
}

fn shared_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

fn collect<'a, T>(node: &'a Node<T>, path: &mut Vec<u8>, found: &mut Vec<(String, &'a T)>) {
    if let Some(value) = &node.value {
        found.push((String::from_utf8_lossy(path).into_owned(), value));
    }
    for child in &node.children {
        path.extend_from_slice(&child.label);
        collect(child, path, found);
        path.truncate(path.len() - child.label.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Insert(String, u8),
        Remove(String),
    }

    fn change() -> impl Strategy<Value = Change> {
        let name = "[ab_]{0,6}";
        prop_oneof![
            3 => (name, any::<u8>()).prop_map(|(name, value)| Change::Insert(name, value)),
            1 => name.prop_map(Change::Remove),
        ]
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_sorted_map(changes in prop::collection::vec(change(), 0..60), probe in "[ab_]{0,6}") {
            let mut trie = NameTrie::default();
            let mut model = BTreeMap::new();
            for change in changes {
                let before = trie.clone();
                let listed: Vec<_> = before.iter().map(|(name, value)| (name, *value)).collect();
                match change {
                    Change::Insert(name, value) => {
                        prop_assert_eq!(trie.insert(&name, value), model.insert(name, value));
                    }
                    Change::Remove(name) => prop_assert_eq!(trie.remove(&name), model.remove(&name)),
                }
                let unchanged: Vec<_> = before.iter().map(|(name, value)| (name, *value)).collect();
                prop_assert_eq!(listed, unchanged, "a clone never changes");
            }
            prop_assert_eq!(trie.len(), model.len());
            prop_assert_eq!(trie.get(&probe), model.get(&probe));
            let under: Vec<_> = trie.under(&probe).into_iter().map(|(name, value)| (name, *value)).collect();
            let expected: Vec<_> =
                model.iter().filter(|(name, _)| name.starts_with(&probe)).map(|(n, v)| (n.clone(), *v)).collect();
            prop_assert_eq!(trie.count(&probe), expected.len());
            prop_assert_eq!(under, expected);
            let longest = model.iter().rfind(|(name, _)| probe.starts_with(name.as_str()));
            prop_assert_eq!(trie.longest_match(&probe), longest.map(|(name, value)| (&probe[..name.len()], value)));
        }
    }
}
