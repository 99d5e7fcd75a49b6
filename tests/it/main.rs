//! The product from outside: the real binary, real child processes, real HTTP, other people's servers.

mod ask;
mod deaths;
mod eras;
mod fake_server;
mod fleet;
mod flood;
mod foreign;
mod ops;
mod restart;
mod settings;
mod shutdown;
mod support;
mod tidy;
