//! The lane alone, with an upstream that never answers.

use ostler_core::Catalogue;
use ostler_core::catalogue::Kind;
use ostler_core::port::{BoxFuture, Caller};

use super::*;

struct Silent;

impl Upstream for Silent {
    fn request(&self, _: Request) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(std::future::pending())
    }

    fn refresh(&self, _: Kind, _: Instant) -> BoxFuture<'_, Result<Catalogue, CallError>> {
        Box::pin(std::future::pending())
    }

    fn probe(&self, _: Instant) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(std::future::pending())
    }

    fn closed(&self) -> BoxFuture<'_, Fault> {
        Box::pin(std::future::pending())
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn lane() -> Arc<Lane> {
    let limits = LaneLimits { while_restarting: WhileRestarting::Fail, ..LaneLimits::default() };
    Lane::new(ServerId::new("math").expect("an id"), limits, Box::new(|| ()))
}

fn later() -> Instant {
    clock::now() + Duration::from_secs(10)
}

fn request() -> Request {
    Request { method: "tools/call", params: None, deadline: later(), caller: Caller::House, observer: None }
}

#[tokio::test(start_paused = true)]
async fn an_ended_incarnation_is_shut_out_while_its_guard_is_still_held() {
    let lane = lane();
    let guard = lane.open(Incarnation::FIRST, Arc::new(Silent));
    let admission = lane.admit(later()).await.expect("it is open");
    let call = admission.request(request());
    tokio::pin!(call);
    assert!(poll_once(&mut call).await.is_none(), "it waits for its answer");
    lane.end(Incarnation::FIRST);
    let ended = poll_once(&mut call).await.expect("it ends at once");
    assert!(matches!(ended, Err(CallError::ServerLost { .. })));
    let next_try = clock::now() + Duration::from_secs(1);
    lane.explain(Shut { state: ServerState::Backoff, next_try: Some(next_try), why: None });
    let refused = lane.admit(later()).await.err().expect("it is shut");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
    drop(guard);
    assert_eq!(lane.admit(later()).await.err().expect("still shut").retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn the_guard_of_an_old_incarnation_does_not_shut_out_the_new_one() {
    let lane = lane();
    let old = lane.open(Incarnation::FIRST, Arc::new(Silent));
    let _new = lane.open(Incarnation::FIRST.next(), Arc::new(Silent));
    drop(old);
    let admission = lane.admit(later()).await.expect("the new one is open");
    assert_eq!(admission.incarnation(), Incarnation::FIRST.next());
}

#[tokio::test(start_paused = true)]
async fn a_drained_lane_lets_calls_finish_and_nobody_in() {
    let lane = lane();
    let guard = lane.open(Incarnation::FIRST, Arc::new(Silent));
    let admission = lane.admit(later()).await.expect("it is open");
    let drained = guard.drain();
    tokio::pin!(drained);
    assert!(poll_once(&mut drained).await.is_none(), "a call is in flight");
    assert!(lane.admit(later()).await.is_err());
    drop(admission);
    assert!(poll_once(&mut drained).await.is_some());
}

/// Polls once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
