//! The models: one module a provider, each behind `ostler_core::port::Model`. A provider's wire types stay in it.

pub mod anthropic;
pub mod rehearsal;
mod sse;
