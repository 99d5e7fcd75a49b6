//! What the integration tests stand on: the misbehaving server, the runs that break things on purpose, a look at
//! processes, the simulation of the runtime. The tests themselves are in `it/`.

pub mod chaos;
pub mod fake;
pub mod process;
pub mod sim;
