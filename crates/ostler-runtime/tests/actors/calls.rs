//! Calls while servers live, die and come back: each ends exactly once, in time, with the right word.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ostler_core::{CallError, ServerState};
use ostler_runtime::{LaneLimits, WhileRestarting};
use tokio::time::Instant;

use crate::fake::{Fake, Step};
use crate::stable::{Stable, call, outcome, spec, timed};

#[tokio::test(start_paused = true)]
async fn a_call_reaches_its_server_with_the_raw_name_and_the_callers_bytes() {
    let fake = Fake::new(&["dotted.name"]);
    let stable = Stable::of("math", &fake).await;
    let name = stable.tools().remove(0);
    let answer = stable.call(&name).await;
    let Ok(ostler_core::port::Outcome::Raw(raw)) = answer.result else { panic!("{answer:?}") };
    assert_eq!(raw.get(), r#"{"name":"dotted.name","arguments":{"text":"hi"}}"#);
    assert_eq!(answer.incarnation.map(ostler_core::Incarnation::get), Some(1));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_end_at_once_when_their_server_dies() {
    let fake = Fake::new(&["stuck"]);
    let stable = Stable::of("math", &fake).await;
    let dispatch = stable.fleet.dispatch();
    let in_flight = tokio::spawn(async move { timed(dispatch.call(call("math__stuck"))).await });
    tokio::time::advance(Duration::from_secs(1)).await;
    fake.kill();
    let (answer, took) = in_flight.await.expect("no panic");
    assert_eq!(outcome(&answer), "server_lost");
    assert!(answer.result.as_ref().is_err_and(CallError::may_have_run));
    assert!(took <= Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_dead_server_is_told_when_to_come_back() {
    let fake = Fake::new(&["echo"]);
    let stable = Stable::of("math", &fake).await;
    fake.kill();
    stable.until("math", ServerState::Backoff).await;
    let (answer, took) = timed(stable.call("math__echo")).await;
    assert_eq!(took, Duration::ZERO);
    let error = answer.result.expect_err("it is down");
    assert_eq!(error.code(), "unavailable");
    let retry_after = error.retry_after().expect("it is known");
    assert!(retry_after <= Duration::from_secs(1) && !retry_after.is_zero(), "{retry_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_patient_call_waits_for_the_restart() {
    let fake = Fake::new(&["echo"]);
    let mut spec = spec("math", &fake);
    spec.lane.while_restarting = WhileRestarting::Wait;
    let stable = Stable::start(vec![spec]).await;
    stable.until("math", ServerState::Ready).await;
    fake.kill();
    stable.until("math", ServerState::Backoff).await;
    let (answer, took) = timed(stable.call("math__echo")).await;
    assert_eq!(outcome(&answer), "ok");
    assert_eq!(answer.incarnation.map(ostler_core::Incarnation::get), Some(2));
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_server_that_is_still_starting_waits_for_its_tools() {
    let fake = Fake::new(&["echo"]);
    fake.script([Step::Hang]);
    let mut spec = spec("math", &fake);
    spec.lane.while_restarting = WhileRestarting::Wait;
    let stable = Stable::start(vec![spec]).await;
    stable.until("math", ServerState::Starting).await;
    let (answer, took) = timed(stable.call("math__echo")).await;
    assert_eq!((outcome(&answer), took.as_secs()), ("unavailable", 5));
    stable.until("math", ServerState::Ready).await;
    assert_eq!(outcome(&stable.call("math__echo").await), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_call_ends_at_its_deadline_and_is_cancelled_at_the_server() {
    let fake = Fake::new(&["stuck"]);
    let stable = Stable::of("math", &fake).await;
    let mut wanted = call("math__stuck");
    wanted.deadline = Some((Instant::now() + Duration::from_secs(3)).into_std());
    let (answer, took) = timed(stable.fleet.dispatch().call(wanted)).await;
    assert_eq!((outcome(&answer), took.as_secs()), ("timed_out", 3));
    let (answer, took) = timed(stable.call("math__stuck")).await;
    assert_eq!((outcome(&answer), took.as_secs()), ("timed_out", 60));
    assert_eq!(fake.life().cancelled.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_refuses_at_once_and_recovers() {
    let fake = Fake::new(&["stuck", "echo"]);
    let mut spec = spec("math", &fake);
    spec.lane = LaneLimits { in_flight: 1, waiting: 1, ..spec.lane };
    let stable = Stable::start(vec![spec]).await;
    stable.until("math", ServerState::Ready).await;
    let dispatch = stable.fleet.dispatch();
    let first = tokio::spawn({
        let dispatch = Arc::clone(&dispatch);
        async move { dispatch.call(call("math__stuck")).await }
    });
    let mut second = tokio::spawn({
        let dispatch = Arc::clone(&dispatch);
        async move { dispatch.call(call("math__echo")).await }
    });
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!second.is_finished());
    let (third, took) = timed(dispatch.call(call("math__echo"))).await;
    assert_eq!((outcome(&third), took), ("overloaded", Duration::ZERO));
    first.abort();
    assert_eq!(outcome(&(&mut second).await.expect("no panic")), "ok");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_answered_with_the_names_there_are() {
    let fake = Fake::new(&["add", "multiply"]);
    let stable = Stable::of("math", &fake).await;
    let check = |answer: ostler_core::port::ToolAnswer, text: &str| {
        assert_eq!(answer.result.expect_err("unknown").to_string(), text);
    };
    check(
        stable.call("math__divide").await,
        "no tool is called 'math__divide'; its server offers math__add, math__multiply",
    );
    check(stable.call("divide").await, "no tool is called 'divide'; there are math__add, math__multiply");
}
