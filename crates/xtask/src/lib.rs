//! The habits of this workspace as code: what `tidy` looks for and what `ci` runs.
//!
//! A library too, so that `cargo test` keeps the walls without anybody calling the command.

pub mod bench;
pub mod chaos;
pub mod ci;
pub mod sim;
pub mod tidy;
