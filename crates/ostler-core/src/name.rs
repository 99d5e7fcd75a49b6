//! Tool names: what a server calls its tool, and what we offer it as.
//!
//! An offered name is `server__tool`. Where that breaks the alphabet or the length of the model APIs it is
//! rewritten, and a rewritten name always carries a stable hash of the original. The mapping is a table
//! (the dispatch table); an offered name is never parsed back.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::id::ServerId;

/// Between the server's id and the tool's name. No server id contains it.
pub const SEPARATOR: &str = "__";

/// The longest offered name, in characters: the limit of the model APIs.
pub const MAX_OFFERED: usize = 64;

/// The longest raw name, in characters: the limit of MCP.
pub const MAX_RAW: usize = 128;

/// A tool's name as its server knows it: `[A-Za-z0-9_.-]{1,128}`, as MCP says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RawName(Arc<str>);

/// Why a raw name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RawNameError {
    /// It is empty or has more than [`MAX_RAW`] characters.
    #[error("a tool name has 1 to {MAX_RAW} characters")]
    Length,
    /// It has a character outside MCP's alphabet.
    #[error("a tool name has ASCII letters, digits, '_', '.' and '-' only")]
    Alphabet,
}

impl RawName {
    /// Checks `text` against MCP's rule for tool names.
    pub fn new(text: &str) -> Result<Self, RawNameError> {
        if text.is_empty() || text.len() > MAX_RAW {
            return Err(RawNameError::Length);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !text.bytes().all(allowed) {
            return Err(RawNameError::Alphabet);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name in the merged namespace: `[A-Za-z0-9_-]{1,64}`. Only [`OfferedName::new`] makes one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OfferedName(Arc<str>);

impl OfferedName {
    /// Builds the name under which `raw` of `server` is offered.
    ///
    /// The name depends on the two arguments alone, so it never moves when other servers come or go. Two raw names
    /// of one server can only meet by a collision of the 40-bit hash; the registry refuses the later of the two.
    pub fn new(server: &ServerId, raw: &RawName) -> Self {
        let plain = format!("{server}{SEPARATOR}{}", raw.as_str());
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if plain.len() <= MAX_OFFERED && plain.bytes().all(valid) {
            return Self(plain.into());
        }
        let suffix = hash_suffix(raw.as_str());
        let mut rewritten: String = plain.chars().map(|c| if c == '.' { '_' } else { c }).collect();
        rewritten.truncate(MAX_OFFERED - suffix.len());
        rewritten.push_str(&suffix);
        Self(rewritten.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `_` and eight characters of a 40-bit hash. FNV-1a: it must be stable for ever and needs no secrecy.
fn hash_suffix(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let folded = hash ^ (hash >> 24);
    let mut suffix = String::from("_");
    for position in 0..8 {
        let index = (folded >> (5 * position)) & 31;
        suffix.push(char::from(ALPHABET[usize::try_from(index).expect("five bits fit")]));
    }
    suffix
}

macro_rules! text_like {
    ($name:ident) => {
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

text_like!(RawName);
text_like!(OfferedName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offered(server: &str, raw: &str) -> OfferedName {
        OfferedName::new(&ServerId::new(server).expect("an id"), &RawName::new(raw).expect("a raw name"))
    }

    #[test]
    fn a_plain_name_is_the_two_parts_and_nothing_else() {
        assert_eq!(offered("math", "multiply").as_str(), "math__multiply");
        assert_eq!(offered("math", "a__b").as_str(), "math__a__b");
    }

    #[test]
    fn a_rewritten_name_carries_its_hash() {
        assert_eq!(offered("files", "read.file").as_str(), "files__read_file_lxvpxxtg");
        let long = offered("files", &"x".repeat(100));
        assert_eq!(long.as_str().len(), MAX_OFFERED);
        assert_ne!(long, offered("files", &"x".repeat(101)));
    }

    proptest! {
        #[test]
        fn offered_names_are_valid_and_do_not_collide(
            server in "[a-z][a-z0-9]{0,15}(_[a-z0-9]{1,8})?",
            other in "[a-z][a-z0-9]{0,15}(_[a-z0-9]{1,8})?",
            raw in "[A-Za-z0-9_.-]{1,128}",
            second in "[A-Za-z0-9_.-]{1,128}",
        ) {
            prop_assume!(server != "ostler" && other != "ostler");
            let name = offered(&server, &raw);
            let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            prop_assert!(name.as_str().len() <= MAX_OFFERED && name.as_str().bytes().all(valid));
            let neighbour = offered(&other, &second);
            prop_assert_eq!(name == neighbour, server == other && raw == second);
        }
    }
}
