//! A project's launch line, with a store of data.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use ostler_core::memory::ServerMemory;

use super::*;
use crate::config::{Config, Environment};

#[derive(Default)]
struct Shelf(Mutex<HashMap<ServerId, Consent>>);

impl Store for Shelf {
    fn servers(&self) -> Vec<ServerMemory> {
        Vec::new()
    }

    fn remember(&self, _: ServerMemory) {}

    fn forget(&self, _: &ServerId) {}

    fn consent(&self, server: &ServerId) -> Option<Consent> {
        self.0.lock().expect("unpoisoned").get(server).cloned()
    }

    fn approve(&self, consent: Consent) -> Result<(), String> {
        self.0.lock().expect("unpoisoned").insert(consent.server.clone(), consent);
        Ok(())
    }
}

/// The server of a project's file, and one of the user's own.
fn servers(home: &Path, arg: &str) -> (Server, Server) {
    let project = home.join("site");
    std::fs::create_dir_all(&project).expect("a folder");
    let theirs = format!(r#"{{"mcpServers":{{"theirs":{{"command":"cat","args":["{arg}"]}}}}}}"#);
    std::fs::write(project.join(".mcp.json"), theirs).expect("written");
    let main = home.join("ostler.toml");
    std::fs::write(&main, "import = [\"site/.mcp.json\"]\n[servers.ours]\ncommand = \"cat\"\n").expect("written");
    let environment = Environment::new(home, &[("HOME", "/nonexistent"), ("PATH", "/bin:/usr/bin")]);
    let mut servers = Config::load_with(Some(&main), &environment).expect("it is sound").servers.into_iter();
    let ours = servers.next().expect("ours");
    (ours, servers.next().expect("theirs"))
}

#[test]
fn an_approval_holds_for_the_launch_line_that_was_shown() {
    let home = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = servers(home.path(), "one");
    let consents = Consents::new(Some(Arc::new(Shelf::default())));
    assert_eq!(consents.standing(&ours), Standing::NotNeeded);
    assert_eq!(consents.standing(&theirs), Standing::Missing);
    let digest = theirs.launch_digest();
    let (_, changed) = servers(home.path(), "two");
    assert_eq!(consents.approve(&changed, &digest), Err(ApproveError::Changed(theirs.id.clone())));
    assert_eq!(consents.approve(&theirs, &digest), Ok(()));
    assert_eq!(consents.standing(&theirs), Standing::Given);
    assert_eq!(consents.standing(&changed), Standing::Changed);
    let nowhere = Consents::default();
    assert_eq!(nowhere.standing(&theirs), Standing::Missing);
    assert_eq!(nowhere.approve(&theirs, &digest), Err(ApproveError::NoStore));
}

/// Says that it was reached.
struct Reached;

impl Connector for Reached {
    fn connect(&self, _: Attempt) -> BoxFuture<'_, Result<Connection, Fault>> {
        Box::pin(std::future::ready(Err(Fault::new(FaultClass::CrashOnStart, "reached"))))
    }
}

struct Deaf;

impl ostler_core::port::Inbound for Deaf {
    fn changed(&self, _: ostler_core::catalogue::Kind) {}
    fn log(&self, _: &str, _: &serde_json::value::RawValue) {}
    fn request(&self, _: ostler_core::port::ServerRequest) -> BoxFuture<'static, ostler_core::port::Reply> {
        Box::pin(std::future::pending())
    }
    fn activity(&self) {}
}

async fn connect(connector: &dyn Connector, server: &Server) -> Fault {
    let attempt = Attempt {
        server: server.id.clone(),
        incarnation: ostler_core::Incarnation::FIRST,
        deadline: clock::now(),
        inbound: Arc::new(Deaf),
        lease: ostler_core::port::Lease::new(()),
    };
    connector.connect(attempt).await.err().expect("nothing is connected here")
}

#[tokio::test]
async fn nothing_is_run_before_it_is_approved() {
    let home = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = servers(home.path(), "one");
    let consents = Consents::new(Some(Arc::new(Shelf::default())));
    let (own, guarded) = (consents.guard(&ours, Arc::new(Reached)), consents.guard(&theirs, Arc::new(Reached)));
    assert_eq!(connect(&*own, &ours).await.message, "reached");
    let fault = connect(&*guarded, &theirs).await;
    assert_eq!(fault.class, FaultClass::Consent);
    assert_eq!(fault.hint.as_deref(), Some("look at it and approve it with `ostler approve theirs`"));
    consents.approve(&theirs, &theirs.launch_digest()).expect("stored");
    assert_eq!(connect(&*guarded, &theirs).await.message, "reached");
}
