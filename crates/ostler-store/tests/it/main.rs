//! Real files, real kills: one program of tests.

mod killed;
mod opening;
mod round_trip;
mod support;
