//! Whose launch lines are run: the operator's own at once, a project's once somebody has approved exactly this one.
//!
//! What was approved is in the store; without one nothing can be approved. What a launch line is, the configuration knows.

#[cfg(feature = "cli")]
mod noted;

#[cfg(feature = "http")]
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "http")]
use ostler_core::ServerId;
#[cfg(feature = "http")]
use ostler_core::memory::Consent;
#[cfg(feature = "http")]
use ostler_core::port::Journal;
use ostler_core::port::{Attempt, BoxFuture, Connection, Connector, Store};
use ostler_core::status::{Fault, FaultClass};

#[cfg(feature = "http")]
use crate::clock;
use crate::config::Server;

#[cfg(feature = "cli")]
pub(crate) use self::noted::noted;

/// Opens what is remembered in `folder`. Blocks on the disk. Errors: why it cannot be had.
#[cfg(all(feature = "http", feature = "journal"))]
pub(crate) fn store(folder: &Path) -> Result<Arc<dyn Journal>, String> {
    match ostler_store::SqliteStore::open(folder) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(error.to_string()),
    }
}

/// Says that there is no such thing.
#[cfg(all(feature = "http", not(feature = "journal")))]
pub(crate) fn store(_: &Path) -> Result<Arc<dyn Journal>, String> {
    Err("this program was built without a memory (feature \"journal\")".to_owned())
}

/// What was approved.
#[derive(Clone, Default)]
pub(crate) struct Consents(Option<Arc<dyn Store>>);

/// Whether a launch line may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    NotNeeded,
    Missing,
    /// Another one was approved.
    Changed,
    Given,
}

/// Why an approval was not recorded.
#[cfg(feature = "http")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApproveError {
    #[error("the launch line of server '{0}' has changed since it was shown")]
    Changed(ServerId),
    #[error("approvals cannot be remembered: this process was started without a place for them")]
    NoStore,
    #[error("the approval cannot be stored: {0}")]
    Store(String),
}

impl Consents {
    pub(crate) fn new(store: Option<Arc<dyn Store>>) -> Self {
        Self(store)
    }

    /// Whether `server` may be run as it is now. Blocks: it looks for the program.
    pub(crate) fn standing(&self, server: &Server) -> Standing {
        if !server.needs_consent() {
            return Standing::NotNeeded;
        }
        match self.0.as_ref().and_then(|store| store.consent(&server.id)) {
            None => Standing::Missing,
            Some(consent) if consent.digest == server.launch_digest() => Standing::Given,
            Some(_) => Standing::Changed,
        }
    }

    /// Records that a person approved the launch line with this digest. Blocks on the disk. Errors: the server has another
    /// launch line by now, or the approval cannot be stored.
    #[cfg(feature = "http")]
    pub(crate) fn approve(&self, server: &Server, digest: &str) -> Result<(), ApproveError> {
        if server.launch_digest() != digest {
            return Err(ApproveError::Changed(server.id.clone()));
        }
        let store = self.0.as_ref().ok_or(ApproveError::NoStore)?;
        let consent = Consent {
            server: server.id.clone(),
            digest: digest.to_owned(),
            shown: server.launch_line(),
            at: clock::wall(),
        };
        store.approve(consent).map_err(ApproveError::Store)
    }

    /// Puts the question before a connector, if there is one to be asked.
    pub(crate) fn guard(&self, server: &Server, connector: Arc<dyn Connector>) -> Arc<dyn Connector> {
        if !server.needs_consent() {
            return connector;
        }
        Arc::new(Guarded { server: Arc::new(server.clone()), consents: self.clone(), connector })
    }
}

/// Connects once somebody has approved. Asked anew at every start: the program that is found may be another one by then.
struct Guarded {
    server: Arc<Server>,
    consents: Consents,
    connector: Arc<dyn Connector>,
}

impl Connector for Guarded {
    fn connect(&self, attempt: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        Box::pin(async move {
            let (server, consents) = (Arc::clone(&self.server), self.consents.clone());
            let standing = tokio::task::spawn_blocking(move || consents.standing(&server)).await;
            let why = match standing {
                Ok(Standing::NotNeeded | Standing::Given) => return self.connector.connect(attempt).await,
                Ok(Standing::Missing) => "its launch line comes with a project, and nobody has approved it",
                Ok(Standing::Changed) => "its launch line has changed since it was approved",
                Err(_) => "its launch line could not be looked at; this is a bug in ostler",
            };
            let hint = format!("look at it and approve it with `ostler approve {}`", self.server.id);
            Err(Fault::new(FaultClass::Consent, why).with_hint(hint))
        })
    }
}

#[cfg(all(test, feature = "http"))]
mod tests;
