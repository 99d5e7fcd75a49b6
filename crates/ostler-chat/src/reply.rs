//! Waiting for an actor's answer, without the way to hang that a bare channel has.
//!
//! A message that is sent while its actor ends can stay in the closed mailbox for as long as somebody holds a
//! reference to the actor, and with it the sender of the reply. So the wait also ends with the actor, and by a
//! deadline in any case.

use std::time::Instant;

use ractor::ActorCell;
use tokio::sync::oneshot;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The actor is gone, or dropped the question.
    Lost,
    /// The deadline passed.
    TimedOut,
}

/// Waits for `reply` until `deadline` or until `actor` is gone. Cancel-safe.
pub(crate) async fn wait<T>(
    mut reply: oneshot::Receiver<T>,
    actor: &ActorCell,
    deadline: Instant,
) -> Result<T, Unanswered> {
    tokio::select! {
        biased;
        answer = &mut reply => answer.map_err(|_| Unanswered::Lost),
        // The actor may have answered with its last breath.
        _ = actor.wait(None) => reply.try_recv().map_err(|_| Unanswered::Lost),
        () = tokio::time::sleep_until(deadline.into()) => Err(Unanswered::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ractor::{Actor, ActorProcessingErr, ActorRef};

    use super::*;
    use crate::clock;

    struct Echo;

    enum EchoMsg {
        Answer(oneshot::Sender<u32>),
        Crash,
    }

    impl Actor for Echo {
        type Msg = EchoMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<EchoMsg>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(&self, _: ActorRef<EchoMsg>, message: EchoMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
            match message {
                EchoMsg::Answer(reply) => {
                    let _ = reply.send(1);
                    Ok(())
                }
                EchoMsg::Crash => Err("crash".into()),
            }
        }
    }

    async fn call(actor: &ActorRef<EchoMsg>, deadline: Instant) -> Result<u32, Unanswered> {
        let (reply, answer) = oneshot::channel();
        actor.cast(EchoMsg::Answer(reply)).map_err(|_| Unanswered::Lost)?;
        wait(answer, actor, deadline).await
    }

    #[derive(Clone, Copy)]
    enum End {
        Kill,
        Stop,
        Crash,
        Drain,
    }

    /// Callers that never pause, while their actor ends in each possible way: all must learn that it is gone. A wait
    /// without the actor's end in it is lost here about once in ten thousand ends, and shows as `TimedOut`; the test
    /// after this one makes the same loss happen without luck.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_caller_hangs_when_the_actor_ends_under_it() {
        for round in 0..2_000 {
            let end = [End::Kill, End::Stop, End::Crash, End::Drain][round % 4];
            let (actor, ended) = Actor::spawn(None, Echo, ()).await.expect("it starts");
            let deadline = clock::now() + Duration::from_secs(30);
            let callers: Vec<_> = (0..6)
                .map(|_| {
                    let actor = actor.clone();
                    tokio::spawn(async move {
                        loop {
                            if let Err(end) = call(&actor, deadline).await {
                                return end;
                            }
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            match end {
                End::Kill => actor.kill(),
                End::Stop => actor.stop(None),
                End::Crash => drop(actor.cast(EchoMsg::Crash)),
                End::Drain => drop(actor.drain()),
            }
            for caller in callers {
                assert_eq!(caller.await.expect("no panic"), Unanswered::Lost, "round {round}");
            }
            ended.await.expect("it ends");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_is_kept_ends_with_the_actor() {
        let (actor, ended) = Actor::spawn(None, Echo, ()).await.expect("it starts");
        // The sender outlives the actor, as it does in a mailbox that nobody empties.
        let (_kept, answer) = oneshot::channel::<u32>();
        actor.stop(None);
        let deadline = clock::now() + Duration::from_secs(3600);
        assert_eq!(wait(answer, &actor, deadline).await, Err(Unanswered::Lost));
        ended.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_actor_is_given_up_at_the_deadline() {
        let (actor, _ended) = Actor::spawn(None, Echo, ()).await.expect("it starts");
        let (_kept, answer) = oneshot::channel::<u32>();
        let deadline = clock::now() + Duration::from_secs(5);
        assert_eq!(wait(answer, &actor, deadline).await, Err(Unanswered::TimedOut));
        assert_eq!(clock::now(), deadline);
        actor.stop(None);
    }
}
