//! What a new process knows of the last one: streaks, parked servers, last lists.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_core::memory::{Consent, ServerMemory};
use ostler_core::port::Store;
use ostler_core::{ServerId, ServerState};
use ostler_policy::machine::Policy;
use ostler_runtime::{House, ServerSpec};

use crate::fake::{Fake, Step, crash};
use crate::stable::{Stable, id, options, outcome, pass, spec};

#[derive(Default)]
struct Shelf(Mutex<HashMap<ServerId, ServerMemory>>);

impl Store for Shelf {
    fn servers(&self) -> Vec<ServerMemory> {
        self.0.lock().expect("no panic").values().cloned().collect()
    }

    fn remember(&self, memory: ServerMemory) {
        self.0.lock().expect("no panic").insert(memory.server.clone(), memory);
    }

    fn forget(&self, server: &ServerId) {
        self.0.lock().expect("no panic").remove(server);
    }

    fn consent(&self, _: &ServerId) -> Option<Consent> {
        None
    }

    fn approve(&self, _: Consent) -> Result<(), String> {
        Err("not here".to_owned())
    }
}

async fn process(shelf: &Arc<Shelf>, fake: &Arc<Fake>) -> Stable {
    process_with(shelf, spec("math", fake)).await
}

async fn process_with(shelf: &Arc<Shelf>, spec: ServerSpec) -> Stable {
    let house = House::remembering(options(), Arc::clone(shelf) as Arc<dyn Store>);
    Stable::start_in(house, vec![spec]).await
}

#[tokio::test(start_paused = true)]
async fn a_lazy_server_is_started_once_to_list_and_from_then_on_by_the_first_call() {
    let (shelf, fake) = (Arc::new(Shelf::default()), Fake::new(&["echo"]));
    let lazy = || ServerSpec { policy: Arc::new(Policy { lazy: true, ..Policy::default() }), ..spec("math", &fake) };
    let first = process_with(&shelf, lazy()).await;
    first.until("math", ServerState::Ready).await;
    assert!(first.fleet.shutdown(Duration::from_secs(5)).await);
    let second = process_with(&shelf, lazy()).await;
    second.until("math", ServerState::Idle).await;
    pass(60).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), 1);
    assert_eq!(second.tools(), ["math__echo"]);
    // The call waits although calls fail at once while this server restarts: it does not restart, it was asleep.
    assert_eq!(outcome(&second.call("math__echo").await), "ok");
    assert_eq!(fake.starts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_process_does_not_forget_that_a_server_is_in_quarantine() {
    let (shelf, fake) = (Arc::new(Shelf::default()), Fake::new(&["echo"]));
    fake.script(std::iter::repeat_with(|| Step::Fail(crash())).take(10));
    let first = process(&shelf, &fake).await;
    first.until("math", ServerState::Quarantined).await;
    assert!(first.fleet.shutdown(Duration::from_secs(5)).await);
    let starts = fake.starts.load(Ordering::Relaxed);
    let second = process(&shelf, &fake).await;
    let status = second.until("math", ServerState::Quarantined).await;
    assert_eq!((status.failures, status.last_fault.expect("remembered").message.as_str()), (10, "exited with code 3"));
    pass(60).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), starts);
    second.until("math", ServerState::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn tools_of_the_last_process_are_offered_before_their_server_is_up() {
    let (shelf, fake) = (Arc::new(Shelf::default()), Fake::new(&["echo"]));
    let first = process(&shelf, &fake).await;
    first.until("math", ServerState::Ready).await;
    assert!(first.fleet.shutdown(Duration::from_secs(5)).await);
    fake.script([Step::Hang]);
    let second = process(&shelf, &fake).await;
    second.until("math", ServerState::Starting).await;
    assert_eq!(second.tools(), ["math__echo"]);
    let generation = second.fleet.generation();
    assert_eq!(outcome(&second.call("math__echo").await), "unavailable");
    second.until("math", ServerState::Ready).await;
    assert_eq!(second.fleet.generation(), generation, "the same bytes are no change");
    assert_eq!(outcome(&second.call("math__echo").await), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_memory_of_another_launch_line_is_void() {
    let (shelf, fake) = (Arc::new(Shelf::default()), Fake::new(&["echo"]));
    let first = process(&shelf, &fake).await;
    first.until("math", ServerState::Ready).await;
    first.fleet.stop(&id("math")).expect("taken");
    first.until("math", ServerState::Stopped).await;
    assert!(first.fleet.shutdown(Duration::from_secs(5)).await);
    let stopped = process(&shelf, &fake).await;
    pass(60).await;
    assert_eq!(stopped.status("math").expect("known").state, ServerState::Stopped, "a person stopped it");
    let mut changed = spec("math", &fake);
    changed.launch = "another".to_owned();
    let changed = process_with(&shelf, changed).await;
    changed.until("math", ServerState::Ready).await;
}
