//! Starting, dying, coming back, being stopped: the life of servers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ostler_core::status::{Fault, FaultClass};
use ostler_core::{Incarnation, ServerState};
use ostler_policy::machine::Policy;
use ostler_runtime::{FleetMsg, RegistryActor};
use ractor::Actor;

use crate::fake::{Fake, Step, crash};
use crate::stable::{Stable, id, outcome, pass, spec, timed};

fn failures(count: usize) -> Vec<Step> {
    std::iter::repeat_with(|| Step::Fail(crash())).take(count).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_or_fails_neither_delays_nor_hides_another() {
    let (good, hangs, fails) = (Fake::new(&["echo"]), Fake::new(&["echo"]), Fake::new(&["echo"]));
    hangs.script([Step::Hang]);
    fails.script(failures(1));
    let specs = vec![spec("hangs", &hangs), spec("fails", &fails), spec("good", &good)];
    let stable = Stable::start(specs).await;
    let ((), took) = timed(async { drop(stable.until("good", ServerState::Ready).await) }).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(stable.tools(), ["good__echo"]);
    assert_eq!(outcome(&stable.call("good__echo").await), "ok");
    assert_eq!(stable.status("fails").expect("known").state, ServerState::Backoff);
    assert_eq!(stable.status("hangs").expect("known").state, ServerState::Starting);
}

#[tokio::test(start_paused = true)]
async fn more_hanging_servers_than_slots_do_not_keep_a_good_one_down() {
    let (good, hanging) = (Fake::new(&["echo"]), Fake::new(&["echo"]));
    hanging.script(std::iter::repeat_with(|| Step::Hang).take(1000));
    let mut specs: Vec<_> = (0..16).map(|number| spec(&format!("h{number:02}"), &hanging)).collect();
    specs.push(spec("good", &good));
    let stable = Stable::start(specs).await;
    let (_, took) = timed(stable.until("good", ServerState::Ready)).await;
    assert!(took <= Duration::from_secs(11), "two rounds of eight slots, five seconds each: {took:?}");
    good.kill();
    stable.until("good", ServerState::Backoff).await;
    let (_, took) = timed(stable.until("good", ServerState::Ready)).await;
    assert!(took <= Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn young_deaths_wait_longer_each_time_and_are_announced_once_at_three() {
    let fake = Fake::new(&["echo"]);
    let mut stable = Stable::of("math", &fake).await;
    let mut delays = Vec::new();
    for failures in 1..=4 {
        fake.kill();
        let status = stable.when("math", |status| status.failures == failures).await;
        assert_eq!(status.state, ServerState::Backoff);
        let ((), took) = timed(async { drop(stable.until("math", ServerState::Ready).await) }).await;
        delays.push(took);
    }
    for (delay, nominal) in delays.iter().zip([1, 2, 4, 8]) {
        let nominal = Duration::from_secs(nominal);
        assert!(*delay >= nominal / 2 && *delay <= nominal + Duration::from_millis(50), "{delays:?}");
    }
    let story = stable.story("math");
    let notices: Vec<_> = story.iter().filter(|line| line.starts_with("notice")).collect();
    assert_eq!(notices, ["notice: failed 3 times in a row, last: exited with code 3"]);
    assert_eq!(stable.status("math").expect("known").restarts, 4);
}

#[tokio::test(start_paused = true)]
async fn a_death_after_a_stable_run_is_answered_at_once() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::of("math", &fake).await;
    pass(61).await;
    fake.kill();
    let waited = timed(stable.when("math", |status| status.restarts == 1 && status.state == ServerState::Ready)).await;
    assert!(waited.1 <= Duration::from_millis(100), "{:?}", waited.1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_fails_at_its_limit_and_is_tried_again() {
    let fake = Fake::new(&["echo"]);
    fake.script([Step::Hang]);
    let stable = Stable::start(vec![spec("slow", &fake)]).await;
    let (status, took) = timed(stable.when("slow", |status| status.failures == 1)).await;
    assert_eq!(took.as_secs(), 30);
    assert_eq!(status.last_fault.expect("it failed").class, FaultClass::SlowStart);
    stable.until("slow", ServerState::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_command_needs_action_and_is_not_retried_every_second() {
    let fake = Fake::new(&["echo"]);
    let missing = || Step::Fail(Fault::new(FaultClass::NotFound, "no such command").with_hint("install it"));
    fake.script([missing(), missing()]);
    let mut stable = Stable::start(vec![spec("gone", &fake)]).await;
    stable.until("gone", ServerState::NeedsAction).await;
    pass(60).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), 1);
    let notice = "notice: needs action: no such command; install it".to_owned();
    assert!(stable.story("gone").contains(&notice));
}

#[tokio::test(start_paused = true)]
async fn the_next_incarnation_waits_until_nothing_of_the_last_is_left() {
    let fake = Fake::new(&["cling"]);
    let stable = Stable::of("math", &fake).await;
    let first = fake.life();
    first.kill();
    stable.until("math", ServerState::Backoff).await;
    pass(10).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), 1, "the first one still holds its lease");
    first.release();
    stable.until("math", ServerState::Ready).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ended_is_given_up_and_the_next_incarnation_starts() {
    let fake = Fake::new(&["cling"]);
    let stable = Stable::of("math", &fake).await;
    let first = fake.life();
    first.kill();
    stable.until("math", ServerState::Backoff).await;
    pass(20).await;
    let status = stable.until("math", ServerState::Ready).await;
    assert_eq!((status.incarnation.map(Incarnation::get), fake.starts.load(Ordering::Relaxed)), (Some(2), 2));
    first.release();
    pass(1).await;
    fake.kill();
    stable.until("math", ServerState::Backoff).await;
    pass(10).await;
    assert_eq!(fake.starts.load(Ordering::Relaxed), 2, "what the first one gave back is not the second one's lease");
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_not_one_byte_of_the_catalogue() {
    let (math, notes) = (Fake::new(&["b", "a"]), Fake::new(&["save"]));
    let stable = Stable::start(vec![spec("math", &math), spec("notes", &notes)]).await;
    stable.until("math", ServerState::Ready).await;
    stable.until("notes", ServerState::Ready).await;
    let (before, generation) = (stable.fleet.dispatch().tools(), stable.fleet.generation());
    math.kill();
    stable.until("math", ServerState::Backoff).await;
    assert!(Arc::ptr_eq(&before, &stable.fleet.dispatch().tools()), "while it is down");
    stable.until("math", ServerState::Ready).await;
    assert!(Arc::ptr_eq(&before, &stable.fleet.dispatch().tools()), "when it is back");
    assert_eq!(stable.fleet.generation(), generation);
    assert_eq!(stable.tools(), ["math__a", "math__b", "notes__save"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_stops_starts_and_restarts_a_server() {
    let fake = Fake::new(&["echo"]);
    let mut stable = Stable::of("math", &fake).await;
    stable.story("math");
    stable.fleet.stop(&id("math")).expect("taken");
    stable.until("math", ServerState::Stopped).await;
    stable.when("math", |_| stable.tools().is_empty()).await;
    assert_eq!(outcome(&stable.call("math__echo").await), "unavailable");
    stable.fleet.start(&id("math")).expect("taken");
    stable.until("math", ServerState::Ready).await;
    assert_eq!(stable.tools(), ["math__echo"]);
    stable.fleet.restart(&id("math")).expect("taken");
    stable.when("math", |status| status.restarts >= 1 && status.state == ServerState::Ready).await;
    assert!(stable.story("math").iter().all(|line| !line.starts_with("notice")));
    assert!(stable.fleet.stop(&id("nobody")).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_is_not_started() {
    let fake = Fake::new(&["echo"]);
    let mut spec = spec("math", &fake);
    spec.policy = Arc::new(Policy { enabled: false, ..Policy::default() });
    let stable = Stable::start(vec![spec]).await;
    stable.until("math", ServerState::Disabled).await;
    assert!(stable.fleet.is_settled());
    assert_eq!(fake.starts.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_list_changes_is_one_refresh_and_the_new_tools_are_published() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::of("math", &fake).await;
    fake.offer(&["echo", "new"]);
    for _ in 0..10_000 {
        fake.life().changed();
    }
    stable.when("math", |status| status.tools == 2).await;
    assert_eq!(stable.tools(), ["math__echo", "math__new"]);
    pass(10).await;
    assert_eq!(fake.refreshes.load(Ordering::Relaxed), 1);
}

async fn new_registry(stable: &Stable) {
    stable.registry.stop_and_wait(None, None).await.expect("it stops");
    let (registry, _) = RegistryActor::spawn(None, RegistryActor, Arc::clone(&stable.house)).await.expect("it starts");
    stable.actor.cast(FleetMsg::Registry(registry)).expect("the fleet lives");
}

#[tokio::test(start_paused = true)]
async fn a_new_registry_is_told_everything_and_readers_never_see_a_gap() {
    let (math, notes) = (Fake::new(&["echo"]), Fake::new(&["save"]));
    let stable = Stable::start(vec![spec("notes", &notes), spec("math", &math)]).await;
    stable.until("math", ServerState::Ready).await;
    stable.until("notes", ServerState::Ready).await;
    let (tools, generation) = (stable.fleet.dispatch().tools(), stable.fleet.generation());
    new_registry(&stable).await;
    assert_eq!(outcome(&stable.call("math__echo").await), "ok", "the last snapshot serves");
    pass(10).await;
    assert!(Arc::ptr_eq(&tools, &stable.fleet.dispatch().tools()));
    assert_eq!(stable.fleet.generation(), generation, "the successor changed nothing on its way");
    math.offer(&["echo", "new"]);
    math.life().changed();
    stable.when("math", |status| status.tools == 2).await;
    assert_eq!(stable.tools(), ["notes__save", "math__echo", "math__new"]);
}

#[tokio::test(start_paused = true)]
async fn the_tools_of_a_stopped_server_stay_away() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::of("math", &fake).await;
    // A refresh that is under way when the order comes, and a registry that is replaced after it.
    fake.life().changed();
    stable.fleet.stop(&id("math")).expect("taken");
    stable.until("math", ServerState::Stopped).await;
    new_registry(&stable).await;
    pass(10).await;
    assert!(stable.tools().is_empty(), "{:?}", stable.tools());
    assert_eq!(stable.status("math").expect("known").tools, 0);
}

#[tokio::test(start_paused = true)]
async fn an_order_without_a_registry_harms_nobody() {
    let (math, notes) = (Fake::new(&["echo"]), Fake::new(&["save"]));
    let stable = Stable::start(vec![spec("notes", &notes), spec("math", &math)]).await;
    stable.until("math", ServerState::Ready).await;
    stable.registry.stop_and_wait(None, None).await.expect("it stops");
    stable.fleet.stop(&id("math")).expect("taken");
    stable.until("math", ServerState::Stopped).await;
    assert_eq!(outcome(&stable.call("notes__save").await), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_changes_during_the_start_is_listed_again() {
    let fake = Fake::new(&["echo"]);
    fake.script([Step::ChangeEarly(&["echo", "late"])]);
    let stable = Stable::of("math", &fake).await;
    stable.when("math", |status| status.tools == 2).await;
    fake.offer(&["echo", "late", "later"]);
    fake.life().changed();
    stable.when("math", |status| status.tools == 3).await;
}

/// The permit and the order lie side by side in the server's mailbox: the connection is closed before it has begun.
#[tokio::test(start_paused = true)]
async fn a_stop_right_behind_the_permit_ends_the_server() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::of("math", &fake).await;
    stable.fleet.stop(&id("math")).expect("taken");
    stable.until("math", ServerState::Stopped).await;
    stable.actor.cast(FleetMsg::PauseGate(Duration::from_secs(10))).expect("the fleet lives");
    stable.fleet.start(&id("math")).expect("taken");
    stable.until("math", ServerState::Queued).await;
    pass(9).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    stable.actor.cast(FleetMsg::Tick).expect("the fleet lives");
    stable.fleet.stop(&id("math")).expect("taken");
    let (_, took) = timed(stable.until("math", ServerState::Stopped)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    stable.fleet.start(&id("math")).expect("taken");
    stable.until("math", ServerState::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_touches_only_what_changed() {
    let (math, notes) = (Fake::new(&["echo"]), Fake::new(&["save"]));
    let stable = Stable::start(vec![spec("math", &math), spec("notes", &notes)]).await;
    stable.until("math", ServerState::Ready).await;
    stable.until("notes", ServerState::Ready).await;
    let (new_math, files) = (Fake::new(&["echo", "more"]), Fake::new(&["read"]));
    let mut changed = spec("math", &new_math);
    changed.fingerprint = ostler_policy::reconcile::Fingerprint::new("another command");
    stable.fleet.reconcile(vec![spec("notes", &notes), changed, spec("files", &files)]).expect("taken");
    stable.when("math", |status| status.tools == 2 && status.state == ServerState::Ready).await;
    stable.until("files", ServerState::Ready).await;
    assert_eq!(stable.tools(), ["notes__save", "math__echo", "math__more", "files__read"]);
    assert_eq!(notes.starts.load(Ordering::Relaxed), 1);
    stable.fleet.reconcile(vec![spec("notes", &notes)]).expect("taken");
    stable.when("notes", |_| stable.tools() == ["notes__save"]).await;
    assert!(stable.status("math").is_none());
}

#[tokio::test(start_paused = true)]
async fn when_most_servers_fail_at_once_it_is_said_once_and_starts_are_slowed() {
    let fakes: Vec<_> = (0..12).map(|_| Fake::new(&["echo"])).collect();
    let specs = fakes.iter().enumerate().map(|(number, fake)| spec(&format!("s{number:02}"), fake)).collect();
    let stable = Stable::start(specs).await;
    for number in 0..12 {
        stable.until(&format!("s{number:02}"), ServerState::Ready).await;
    }
    for _ in 0..3 {
        for fake in &fakes {
            fake.kill();
        }
        for number in 0..12 {
            let name = format!("s{number:02}");
            stable.until(&name, ServerState::Backoff).await;
        }
        for number in 0..12 {
            stable.until(&format!("s{number:02}"), ServerState::Ready).await;
        }
    }
    let notices: Vec<_> = stable.notices();
    assert_eq!(notices.iter().filter(|text| text.contains("problem of this host")).count(), 1, "{notices:?}");
    assert_eq!(notices.iter().filter(|text| text.contains("servers need a look")).count(), 1, "{notices:?}");
    assert!(notices.iter().filter(|text| text.starts_with("failed 3 times")).count() < 5, "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_every_server_and_is_never_answered_with_a_restart() {
    let (math, broken) = (Fake::new(&["echo"]), Fake::new(&[]));
    broken.script(failures(50));
    let stable = Stable::start(vec![spec("math", &math), spec("broken", &broken)]).await;
    stable.until("math", ServerState::Ready).await;
    assert!(stable.fleet.shutdown(Duration::from_secs(5)).await);
    let starts = broken.starts.load(Ordering::Relaxed);
    pass(120).await;
    assert_eq!(math.starts.load(Ordering::Relaxed), 1);
    assert_eq!(broken.starts.load(Ordering::Relaxed), starts);
}
