//! How an order to the fleet can fail.

use ostler_core::ServerId;

/// Why an order was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// No server has this name.
    #[error("no server is called '{0}'; see `ostler servers`")]
    UnknownServer(ServerId),
    /// The fleet is ending or is being restarted.
    #[error("the fleet takes no orders now: it is shutting down or restarting")]
    Closed,
}
