//! HTTP: one router function, one guard on every route, and what they speak (the DTOs).
//!
//! It knows the fleet by the [`backend::Backend`] port alone. Listeners differ by [`router::Surface`]; the Unix socket is
//! bound in [`crate::socket`].

pub mod asking;
pub mod backend;
mod body;
mod control;
pub mod dto;
pub mod error;
pub mod event;
pub mod guard;
pub mod near;
mod operate;
mod ops;
pub mod router;
pub mod serve;
pub mod settle;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod fake;
