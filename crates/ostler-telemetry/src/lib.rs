//! Every metric, span and log field, declared once and recorded by one function a fact.
//!
//! Installs no recorder and no subscriber: that is the binary's choice. The other rooms call [`record`] and [`span`] and
//! never the macros of `metrics`, so that what [`metric`] lists is all there is.

#![warn(missing_docs)]

pub mod log;
pub mod metric;
pub mod record;
pub mod span;
