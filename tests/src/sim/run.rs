//! One run: a house is built, lives through the plan's time under seeded trouble, is shut down, and leaves nothing.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Duration;

use ostler_runtime::{FleetHandle, House, HouseOptions};
use ractor::Actor;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::caller::Caller;
use super::invariant::{Broken, Invariant};
use super::operator::{Maker, Operator, id};
use super::root::{RootActor, RootArgs, RootMsg};
use super::window::Window;
use super::world::{Tally, World, now};

/// How long a server may take to end when the house closes.
const GRACE: Duration = Duration::from_secs(20);

/// How long after the end the last remains of servers may be there.
const REMAINS: Duration = Duration::from_secs(60);

/// What is to be played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides about everything.
    pub seed: u64,
    /// How long, in virtual time.
    pub span: Duration,
    /// How many servers, to begin with.
    pub servers: usize,
    /// Whether all lines of the trace are kept, and not only the last.
    pub keep: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The first promise that was broken, if one was.
    pub broken: Option<Broken>,
    /// The trace, or its end.
    pub trace: Vec<String>,
    /// Equal for equal traces.
    pub digest: u64,
    /// How many lines the whole trace has.
    pub lines: u64,
    /// How much happened.
    pub tally: Tally,
}

/// What becomes of a panic on this thread.
enum Panics {
    /// No run is played: it is not ours.
    NotOurs,
    /// The first one of a run is kept.
    Kept(Option<String>),
}

thread_local! {
    static PANICS: RefCell<Panics> = const { RefCell::new(Panics::NotOurs) };
}

/// Plays `plan` on this thread, on a runtime of its own.
pub fn run(plan: &Plan) -> Report {
    watch_for_panics();
    PANICS.set(Panics::Kept(None));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime needs no descriptors but its own");
    let world = {
        let _inside = runtime.enter();
        World::new(plan.seed, plan.keep, slots(plan))
    };
    runtime.block_on(live(plan, &world));
    drop(runtime);
    if let Panics::Kept(Some(text)) = PANICS.replace(Panics::NotOurs) {
        world.breaks(Invariant::NoBugs, format!("a panic: {text}"));
    }
    let told = world.told();
    let tally = world.book(|book| book.tally);
    Report { broken: world.broken(), trace: told.lines, digest: told.digest, lines: told.count, tally }
}

/// Panics of actors are caught by their supervisor: without this, a run would not hear of them.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_ours = PANICS.with_borrow_mut(|panics| match panics {
                Panics::Kept(first) => {
                    first.get_or_insert_with(|| info.to_string().lines().collect::<Vec<_>>().join(" "));
                    true
                }
                Panics::NotOurs => false,
            });
            if !is_ours {
                usual(info);
            }
        }));
    });
}

fn slots(plan: &Plan) -> usize {
    (plan.servers / 4).max(2)
}

async fn live(plan: &Plan, world: &Arc<World>) {
    let mut dice = world.dice("house", 0);
    let limit = Duration::from_secs([5, 20, 60][dice.below(3)]);
    let mut maker = Maker { world: Arc::clone(world), limit, made: 0 };
    let specs: Vec<_> = (0..plan.servers).map(|number| maker.spec(id(number), !dice.chance(5))).collect();
    let start_slots = NonZeroUsize::new(slots(plan)).expect("at least two");
    let house = House::new(HouseOptions { start_slots, seed: plan.seed });
    let window = Window::new(world, FleetHandle::new(Arc::clone(&house)));
    world.book(|book| specs.iter().for_each(|spec| book.configured(&spec.id, &spec.policy, now())));
    house.want(specs.clone());

    let mut eyes = JoinSet::new();
    eyes.spawn(window.clone().watch());
    let (ready, begun) = oneshot::channel();
    let args = RootArgs { house, world: Arc::clone(world), ready };
    let (root, root_task) = RootActor::spawn(None, RootActor, args).await.expect("nothing in its start can fail");
    let _ = begun.await;

    let (stop, over) = watch::channel(false);
    let mut callers = JoinSet::new();
    for number in 0..u64::try_from(plan.servers).unwrap_or(1) {
        let pause = Duration::from_secs(2);
        callers.spawn(Caller { window: window.clone(), number, limit, pause }.run(over.clone()));
    }
    drop(over);
    let pause = Duration::from_secs(160) / u32::try_from(plan.servers.max(1)).unwrap_or(u32::MAX);
    let mut orders = JoinSet::new();
    orders.spawn(Operator { window: window.clone(), root: root.clone(), desired: specs, maker, pause }.run());

    tokio::select! {
        biased;
        () = world.until_broken() => return,
        () = sleep(plan.span) => {}
    }
    orders.shutdown().await;
    world.say("the house closes".to_owned());
    world.book(|book| book.close(now()));
    let is_done = window.fleet.shutdown(GRACE).await;
    if !is_done {
        world.breaks(Invariant::NothingLeft, "the shutdown did not end in time".to_owned());
        return;
    }
    let _ = stop.send(true);
    // A call ends by its deadline, and no caller begins another.
    if timeout(REMAINS + limit, callers.join_all()).await.is_err() {
        world.breaks(Invariant::EndsOnce, "a caller waits for ever".to_owned());
        return;
    }
    let _ = root.cast(RootMsg::Close);
    let _ = root_task.await;
    drop((root, window));
    eyes.shutdown().await;
    sleep(REMAINS).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    world.book(|book| book.finish(tasks));
}
