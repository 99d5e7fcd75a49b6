//! What the integration tests stand on: the misbehaving server. The tests themselves are in `it/`.

pub mod fake;
