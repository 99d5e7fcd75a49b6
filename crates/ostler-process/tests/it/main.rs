//! Real processes, real signals: one program of tests.

#![cfg(target_os = "linux")]

mod direct;
mod spawn;
mod support;
mod tree;
