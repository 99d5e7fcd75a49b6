//! A caller: calls tools that exist and tools that do not, in a hurry or not, and sometimes leaves before the answer.

use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::port::{Caller as Kind, Outcome, ToolAnswer, ToolCall};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::dice::Dice;
use super::invariant::Invariant;
use super::window::Window;
use super::world::now;

/// How long after its deadline a call may end.
const SLACK: Duration = Duration::from_millis(250);

/// How many calls one caller can make: its numbers do not run into another's.
const CALLS: u64 = 1 << 32;

pub(super) struct Caller {
    pub(super) window: Window,
    pub(super) number: u64,
    /// The limit of a call that brings none.
    pub(super) limit: Duration,
    /// From the end of a call to the next one.
    pub(super) pause: Duration,
}

/// What a scripted server answers.
#[derive(Deserialize)]
struct Reply {
    server: String,
    life: u64,
    tool: String,
    nonce: u64,
}

impl Caller {
    /// Calls until `over` says true.
    pub(super) async fn run(self, mut over: watch::Receiver<bool>) {
        for number in self.number * CALLS.. {
            let mut dice = self.window.world.dice("caller", number);
            let pause = dice.about(self.pause);
            tokio::select! {
                biased;
                () = async { drop(over.wait_for(|over| *over).await) } => return,
                () = tokio::time::sleep(pause) => self.call(number, &mut dice).await,
            }
        }
    }

    async fn call(&self, number: u64, dice: &mut Dice) {
        let (name, is_listed) = self.name(dice);
        let asked = now();
        let wanted = match dice.below(10) {
            0 => Some(asked),
            1..=2 => Some(asked + dice.millis(1..=300)),
            3..=5 => Some(asked + dice.millis(300..=90_000)),
            _ => None,
        };
        let patience = dice.chance(10).then(|| asked + dice.millis(0..=600));
        let deadline = wanted.map_or(asked + self.limit, |at| at.min(asked + self.limit));
        let world = &self.window.world;
        world.say(format!("call {number} to {name}, {} ms", deadline.saturating_duration_since(asked).as_millis()));
        world.book(|book| book.call_begins(number));
        let arguments = RawValue::from_string(format!(r#"{{"nonce":{number}}}"#)).expect("this is JSON");
        let call = ToolCall { name: name.clone(), arguments, deadline: wanted, caller: Kind::Operator, observer: None };
        let answer = self.wait(call, patience, deadline + SLACK).await;
        let outcome = match &answer {
            Some(answer) => {
                self.check(number, &name, is_listed, answer);
                match &answer.result {
                    Ok(_) => "ok",
                    Err(error) => error.code(),
                }
            }
            None => "dropped",
        };
        world.say(format!("call {number} ends: {outcome}"));
        world.book(|book| {
            book.call_ends(number, &name, answer.as_ref());
            match outcome {
                "ok" => book.tally.answered += 1,
                "server_lost" => book.tally.lost += 1,
                "dropped" => book.tally.dropped += 1,
                _ => {}
            }
        });
        if answer.is_none() && patience.is_none_or(|at| now() < at) {
            let late = format!("call {number} to {name} has no end {} ms after its deadline", SLACK.as_millis());
            world.breaks(Invariant::EndsInTime, late);
        }
    }

    /// The answer, or nothing if the caller left before it or it did not come in time.
    async fn wait(&self, call: ToolCall, patience: Option<Instant>, latest: Instant) -> Option<ToolAnswer> {
        let until = patience.map_or(latest, |at| at.min(latest));
        timeout_at(until.into(), self.window.dispatch.call(call)).await.ok()
    }

    fn check(&self, number: u64, name: &str, is_listed: bool, answer: &ToolAnswer) {
        let world = &self.window.world;
        match &answer.result {
            Err(CallError::UnknownTool { .. }) if is_listed => {
                world.breaks(Invariant::KnownRoutes, format!("call {number}: {name} is listed and unknown"));
            }
            Ok(Outcome::Raw(raw)) => {
                let reply: Reply = serde_json::from_str(raw.get()).expect("servers here answer so");
                let is_right = reply.nonce == number
                    && name == format!("{}__{}", reply.server, reply.tool)
                    && answer.server.as_ref().is_some_and(|server| server.as_str() == reply.server)
                    && answer.incarnation.is_some_and(|life| life.get() == reply.life);
                if !is_right {
                    let (server, life) = (&answer.server, &answer.incarnation);
                    let how = format!("call {number} to {name} is said to be from {server:?} {life:?}: {raw}");
                    world.breaks(Invariant::RightAnswer, how);
                }
            }
            Ok(Outcome::InputRequired(_) | Outcome::Task(_)) | Err(_) => {}
        }
    }

    /// A name to call, and whether it is on the list at this moment.
    fn name(&self, dice: &mut Dice) -> (String, bool) {
        let list = self.window.dispatch.tools();
        if dice.chance(80)
            && let Some(tool) = dice.pick(&list)
        {
            return (tool.name.to_string(), true);
        }
        let name = match dice.below(4) {
            0 => "nobody__tool0".to_owned(),
            1 => "tool0".to_owned(),
            2 => format!("s{:02}__tool{}", dice.below(24), dice.below(8)),
            _ => format!("s{:02}__nothing", dice.below(24)),
        };
        let is_listed = list.iter().any(|tool| tool.name.as_str() == name);
        (name, is_listed)
    }
}
