//! Sleep and probes: servers that nobody calls, and servers that live and say nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ostler_core::ServerState;
use ostler_core::status::FaultClass;
use ostler_policy::machine::Policy;
use ostler_runtime::ServerSpec;

use crate::fake::Fake;
use crate::stable::{Stable, call, outcome, pass, spec, timed};

fn with(fake: &Arc<Fake>, policy: Policy) -> ServerSpec {
    ServerSpec { policy: Arc::new(policy), ..spec("math", fake) }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_calls_is_put_to_sleep_and_woken_by_a_call_with_its_tools_in_place() {
    let fake = Fake::new(&["echo"]);
    let idle_stop = Some(Duration::from_secs(100));
    let stable = Stable::start(vec![with(&fake, Policy { idle_stop, ..Policy::default() })]).await;
    stable.until("math", ServerState::Ready).await;
    pass(90).await;
    assert_eq!(outcome(&stable.call("math__echo").await), "ok");
    pass(90).await;
    assert_eq!(stable.status("math").expect("known").state, ServerState::Ready, "the call kept it awake");
    let (_, took) = timed(stable.until("math", ServerState::Idle)).await;
    assert!(took <= Duration::from_secs(11), "{took:?}");
    assert_eq!(stable.tools(), ["math__echo"]);
    assert_eq!(outcome(&stable.call("math__echo").await), "ok");
    assert_eq!(fake.starts.load(Ordering::Relaxed), 2);
    assert_eq!(stable.status("math").expect("known").failures, 0);
}

fn probed() -> Policy {
    Policy { probe: Some(Duration::from_secs(30)), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_probe_is_restarted_as_hung() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::start(vec![with(&fake, probed())]).await;
    stable.until("math", ServerState::Ready).await;
    pass(120).await;
    assert!(fake.probes.load(Ordering::Relaxed) >= 3);
    fake.deaf.store(true, Ordering::Relaxed);
    stable.until("math", ServerState::Degraded).await;
    let status = stable.when("math", |status| status.failures == 1).await;
    assert_eq!(status.last_fault.expect("it failed").class, FaultClass::Hang);
    fake.deaf.store(false, Ordering::Relaxed);
    stable.until("math", ServerState::Ready).await;
}

fn patient(fake: &Arc<Fake>) -> ServerSpec {
    let mut spec = with(fake, probed());
    spec.lane.call_timeout = Duration::from_secs(3600);
    spec
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_not_a_hung_one() {
    let fake = Fake::new(&["stuck", "echo"]);
    let stable = Stable::start(vec![patient(&fake)]).await;
    stable.until("math", ServerState::Ready).await;
    fake.deaf.store(true, Ordering::Relaxed);
    // An hour of work within its deadline, during which no probe is answered, and nobody else either.
    let dispatch = stable.fleet.dispatch();
    let long = tokio::spawn(async move { dispatch.call(call("math__stuck")).await });
    for _ in 0..20 {
        pass(60).await;
        let mut short = call("math__stuck");
        short.deadline = Some((tokio::time::Instant::now() + Duration::from_secs(5)).into_std());
        assert_eq!(outcome(&stable.fleet.dispatch().call(short).await), "timed_out");
    }
    assert_eq!(fake.starts.load(Ordering::Relaxed), 1);
    long.abort();
}

#[tokio::test(start_paused = true)]
async fn traffic_does_not_hide_a_server_that_hangs() {
    let fake = Fake::new(&["stuck"]);
    let stable = Stable::start(vec![patient(&fake)]).await;
    stable.until("math", ServerState::Ready).await;
    fake.deaf.store(true, Ordering::Relaxed);
    let dispatch = stable.fleet.dispatch();
    // There is always a call within its deadline: each begins before the last one ends.
    let callers: Vec<_> = (0..3)
        .map(|offset| {
            let dispatch = Arc::clone(&dispatch);
            tokio::spawn(async move {
                pass(offset * 7).await;
                loop {
                    let mut wanted = call("math__stuck");
                    wanted.deadline = Some((tokio::time::Instant::now() + Duration::from_secs(20)).into_std());
                    drop(dispatch.call(wanted).await);
                }
            })
        })
        .collect();
    let (status, took) = timed(stable.when("math", |status| status.failures == 1)).await;
    assert_eq!(status.last_fault.expect("it failed").class, FaultClass::Hang);
    assert!(took <= Duration::from_secs(180), "{took:?}");
    for caller in callers {
        caller.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_is_not_asked() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::start(vec![with(&fake, probed())]).await;
    stable.until("math", ServerState::Ready).await;
    fake.deaf.store(true, Ordering::Relaxed);
    for _ in 0..60 {
        fake.life().speak();
        pass(10).await;
    }
    assert_eq!(fake.starts.load(Ordering::Relaxed), 1);
    assert_eq!(fake.probes.load(Ordering::Relaxed), 0);
}
