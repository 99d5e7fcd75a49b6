//! The actors with scripted servers, on paused time: what a fleet does when its servers misbehave.

mod boot;
mod calls;
mod fake;
mod lives;
mod rest;
mod stable;
