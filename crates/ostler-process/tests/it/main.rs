//! Real processes, real signals: one program of tests.

#![cfg(target_os = "linux")]

mod bounds;
mod direct;
mod escape;
mod init;
mod ledger;
mod spawn;
mod support;
mod tree;
