//! The actors with scripted servers, on paused time: what a fleet does when its servers misbehave.

mod calls;
mod fake;
mod lives;
mod stable;
