//! The product from outside: the real binary, real child processes, real HTTP, other people's servers.

mod ask;
mod deaths;
mod embed;
mod eras;
mod fake_orders;
mod fake_server;
mod fleet;
mod flood;
mod foreign;
mod matrix;
mod operate;
mod ops;
mod reaper_loss;
mod restart;
mod settings;
mod shutdown;
mod simulation;
mod support;
mod tidy;
