//! Identities: who a server, an incarnation, a call, a conversation or a turn is.
//!
//! Ids are built by one checked function and trusted afterwards. They are labels for people and for
//! metrics; finding an actor by its name is not done anywhere.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest server id, in bytes. It leaves room for `__` and a tool name within 64 characters.
pub const MAX_SERVER_ID: usize = 40;

/// The id that no server may carry: tools of our own live under it.
pub const RESERVED_SERVER_ID: &str = "ostler";

/// A server's id: ASCII letters and digits with single `-` or `_` between them, at most [`MAX_SERVER_ID`] bytes.
///
/// Two ids of one fleet never differ by case alone; the configuration check keeps that, see [`ServerId::folded`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId(Arc<str>);

/// Why a text is not a server id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerIdError {
    /// Nothing is left of the name.
    #[error("a server name must contain a letter or a digit")]
    Empty,
    /// The name has more than [`MAX_SERVER_ID`] bytes.
    #[error("a server name has at most {MAX_SERVER_ID} characters")]
    TooLong,
    /// The name has a character outside the alphabet, or a separator at an end or beside another.
    #[error("a server name has ASCII letters and digits, with single '-' or '_' between them")]
    Alphabet,
    /// The name is kept for our own tools.
    #[error("the server name '{RESERVED_SERVER_ID}' is reserved")]
    Reserved,
}

impl ServerId {
    /// Checks `text` and makes an id of it. Errors: the first rule that it breaks.
    pub fn new(text: &str) -> Result<Self, ServerIdError> {
        if text.is_empty() {
            return Err(ServerIdError::Empty);
        }
        if text.len() > MAX_SERVER_ID {
            return Err(ServerIdError::TooLong);
        }
        if text.eq_ignore_ascii_case(RESERVED_SERVER_ID) {
            return Err(ServerIdError::Reserved);
        }
        let mut separator = true;
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => separator = false,
                b'-' | b'_' if !separator => separator = true,
                _ => return Err(ServerIdError::Alphabet),
            }
        }
        if separator {
            return Err(ServerIdError::Alphabet);
        }
        Ok(Self(text.into()))
    }

    /// Maps a configured name into the alphabet: whatever is outside becomes one `-`, ends are trimmed.
    ///
    /// A name that is already an id comes back unchanged. Two names that map alike are the caller's to refuse.
    pub fn map(configured: &str) -> Result<Self, ServerIdError> {
        if let Ok(id) = Self::new(configured) {
            return Ok(id);
        }
        let mut mapped = String::with_capacity(configured.len());
        for character in configured.chars() {
            match character {
                c if c.is_ascii_alphanumeric() => mapped.push(c),
                c => {
                    let separator = if c == '_' { '_' } else { '-' };
                    if mapped.ends_with(|last: char| last.is_ascii_alphanumeric()) {
                        mapped.push(separator);
                    }
                }
            }
        }
        mapped.truncate(MAX_SERVER_ID);
        let trimmed = mapped.trim_end_matches(['-', '_']);
        Self::new(trimmed)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in lower case: two ids of one fleet must not share it.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl TryFrom<String> for ServerId {
    type Error = ServerIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ServerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({})", self.0)
    }
}

/// Which life of a server this is: 1 for the first start, one more for each start after it.
///
/// It is on every message, route, span and metric; what an earlier incarnation still says is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// The first life.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The life after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, from 1.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numbered!(
    /// One tool call through the router, unique within a process.
    CallId
);
numbered!(
    /// One question and everything done to answer it, counted within its conversation.
    TurnId
);
numbered!(
    /// One conversation, unique within a process.
    ConversationId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_letters_digits_and_single_separators() {
        let check = |text: &str, expected: Result<(), ServerIdError>| {
            assert_eq!(ServerId::new(text).map(|_| ()), expected, "{text:?}");
        };
        check("math", Ok(()));
        check("a-b_c9", Ok(()));
        check("", Err(ServerIdError::Empty));
        check("a__b", Err(ServerIdError::Alphabet));
        check("a-_b", Err(ServerIdError::Alphabet));
        check("-a", Err(ServerIdError::Alphabet));
        check("a_", Err(ServerIdError::Alphabet));
        check("mäth", Err(ServerIdError::Alphabet));
        check("Ostler", Err(ServerIdError::Reserved));
        check(&"a".repeat(MAX_SERVER_ID), Ok(()));
        check(&"a".repeat(MAX_SERVER_ID + 1), Err(ServerIdError::TooLong));
    }

    #[test]
    fn a_foreign_name_is_mapped_into_the_alphabet() {
        let check = |text: &str, expected: &str| {
            assert_eq!(ServerId::map(text).expect("it maps").as_str(), expected);
        };
        check("math", "math");
        check("My Server (beta)", "My-Server-beta");
        check("@scope/pkg", "scope-pkg");
        check("a__b", "a_b");
        check("grüße", "gr-e");
        check(&"ab".repeat(40), &"ab".repeat(20));
        assert_eq!(ServerId::map("***"), Err(ServerIdError::Empty));
    }
}
