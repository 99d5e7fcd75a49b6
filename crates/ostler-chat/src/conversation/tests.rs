//! A conversation from the lobby's door to the answer, on a paused clock, with a fake model and fake tools.

use ostler_core::CallError;
use ostler_core::dialogue::{Block, Usage};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{Act, FakeDispatch, FakeModel, Line, text_result};
use crate::{ConversationHandle, LobbyActor, LobbyArgs, LobbyError, LobbyHandle, LobbyMsg};

struct House {
    lobby: LobbyHandle,
    actor: ActorRef<LobbyMsg>,
    model: Arc<FakeModel>,
    _ended: JoinHandle<()>,
}

async fn house(
    lines: impl IntoIterator<Item = Line>,
    tool: impl Fn(&str, &str) -> Act + Send + Sync + 'static,
) -> House {
    let model = FakeModel::new(lines);
    let args = LobbyArgs {
        dispatch: Arc::new(FakeDispatch(Box::new(tool))),
        model: Arc::clone(&model) as Arc<dyn Model>,
        limits: TurnLimits::default(),
    };
    let (actor, ended) = Actor::spawn(None, LobbyActor, args).await.expect("the lobby starts");
    House { lobby: LobbyHandle::new(actor.clone()), actor, model, _ended: ended }
}

fn no_tool(_: &str, _: &str) -> Act {
    Act::Answer(Ok(text_result("no tool is expected")))
}

/// Says something with room for all events and returns both the end and the events.
async fn say(conversation: &ConversationHandle, text: &str) -> (Result<Answer, TurnError>, Vec<TurnEvent>) {
    let (sender, mut receiver) = mpsc::channel(64);
    let result = conversation.say(text.to_owned(), sender).await;
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    (result, events)
}

fn answer(text: &str, rounds: u32) -> Answer {
    Answer { text: text.to_owned(), stop: "end_turn", rounds, usage: Usage::default() }
}

#[tokio::test(start_paused = true)]
async fn a_turn_calls_its_tools_at_once_and_tells_what_happens() {
    let lines = [Line::Call(&[("x", "math__add"), ("y", "notes__recall")]), Line::Say("done")];
    // Each tool ends only when the other was called: they run at the same time.
    let (math, notes) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let house = house(lines, move |name, _| {
        let (mine, other) = if name == "math__add" { (&math, &notes) } else { (&notes, &math) };
        other.notify_one();
        Act::Wait(Arc::clone(mine), Ok(text_result(name)))
    })
    .await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (result, mut events) = say(&conversation, "both").await;
    assert_eq!(result, Ok(answer("done", 2)));
    let started = |id: &str, name: &str| TurnEvent::ToolStarted {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: r#"{"a":1}"#.to_owned(),
    };
    let ended = |id: &str, name: &str, server: &str| TurnEvent::ToolEnded {
        id: id.to_owned(),
        name: name.to_owned(),
        server: Some(ServerId::new(server).expect("an id")),
        incarnation: Some(Incarnation::FIRST),
        elapsed: Duration::from_millis(7),
        outcome: "ok",
        content: name.to_owned(),
        is_error: false,
    };
    // The order among the two calls is theirs.
    events[1..=4].sort_by_key(|event| format!("{event:?}").replace("ToolStarted", "A"));
    assert_eq!(
        events,
        [
            TurnEvent::Asking { round: 1 },
            started("x", "math__add"),
            started("y", "notes__recall"),
            ended("x", "math__add", "math"),
            ended("y", "notes__recall", "notes"),
            TurnEvent::Asking { round: 2 },
            TurnEvent::Text("done".to_owned()),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_history_is_kept_across_prompts() {
    let lines = [Line::Call(&[("x", "math__add")]), Line::Say("one"), Line::Say("two")];
    let house = house(lines, |_, _| Act::Answer(Ok(text_result("1")))).await;
    let conversation = house.lobby.open().await.expect("it opens");
    assert_eq!(say(&conversation, "first").await.0, Ok(answer("one", 2)));
    assert_eq!(say(&conversation, "second").await.0, Ok(answer("two", 1)));
    let asked = house.model.asked.lock().expect("no panic");
    let shape: Vec<usize> = asked.iter().map(|request| request.messages.len()).collect();
    assert_eq!(shape, [1, 3, 5]);
    let Some(Block::Text(last)) = asked[2].messages[4].blocks.first() else { panic!("a text") };
    assert_eq!(last, "second");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_does_not_exist_is_told_to_the_model_and_the_loop_goes_on() {
    let lines = [Line::Call(&[("x", "math__divide")]), Line::Say("sorry")];
    let house =
        house(lines, |name, _| Act::Answer(Err(CallError::UnknownTool { name: name.to_owned(), hint: String::new() })))
            .await;
    let conversation = house.lobby.open().await.expect("it opens");
    assert_eq!(say(&conversation, "divide").await.0, Ok(answer("sorry", 2)));
    let asked = house.model.asked.lock().expect("no panic");
    let Some(Block::ToolResult(result)) = asked[1].messages[2].blocks.first() else { panic!("a result") };
    assert!(result.is_error && result.content.contains("no tool is called 'math__divide'"), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_never_answers_is_a_timeout_for_the_model() {
    let house = house([Line::Call(&[("x", "math__add")]), Line::Say("pity")], |_, _| Act::Hang).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (result, events) = say(&conversation, "add").await;
    assert_eq!(result, Ok(answer("pity", 2)));
    let Some(TurnEvent::ToolEnded { outcome, .. }) = events.get(2) else { panic!("{events:?}") };
    assert_eq!(*outcome, "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_answers_ends_the_turn_and_not_the_conversation() {
    let house = house([Line::Hang, Line::Say("back")], no_tool).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let before = clock::now();
    assert_eq!(say(&conversation, "hello").await.0, Err(TurnError::Model(ModelError::TimedOut)));
    assert_eq!(clock::now() - before, TurnLimits::default().model_timeout);
    assert_eq!(say(&conversation, "hello?").await.0, Ok(answer("back", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_is_reported_with_its_reason() {
    let refused = ModelError::Rejected("no".to_owned());
    let house = house([Line::Fail(refused.clone()), Line::Say("back")], no_tool).await;
    let conversation = house.lobby.open().await.expect("it opens");
    assert_eq!(say(&conversation, "hello").await.0, Err(TurnError::Model(refused)));
    assert_eq!(say(&conversation, "hello?").await.0, Ok(answer("back", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_second_say_is_busy_and_a_cancel_frees_the_conversation() {
    let house = house([Line::Hang, Line::Say("free")], no_tool).await;
    let conversation = Arc::new(house.lobby.open().await.expect("it opens"));
    let (sender, mut events) = mpsc::channel(8);
    let first = tokio::spawn({
        let conversation = Arc::clone(&conversation);
        async move { conversation.say("hang".to_owned(), sender).await }
    });
    assert_eq!(events.recv().await, Some(TurnEvent::Asking { round: 1 }));
    assert_eq!(say(&conversation, "me too").await.0, Err(TurnError::Busy));
    // The refused turn's own end must not cancel the one that runs.
    assert!(!first.is_finished());
    first.abort();
    drop(first.await);
    assert_eq!(say(&conversation, "now").await.0, Ok(answer("free", 1)), "a dropped say cancels its turn");
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_the_turn_that_runs() {
    let house = house([Line::Hang, Line::Say("free")], no_tool).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (sender, mut events) = mpsc::channel(8);
    let (result, ()) = tokio::join!(conversation.say("hang".to_owned(), sender), async {
        assert_eq!(events.recv().await, Some(TurnEvent::Asking { round: 1 }));
        assert_eq!(say(&conversation, "refused").await.0, Err(TurnError::Busy));
        conversation.cancel();
    });
    assert_eq!(result, Err(TurnError::Cancelled));
    assert_eq!(say(&conversation, "now").await.0, Ok(answer("free", 1)));
}

#[tokio::test(start_paused = true)]
async fn reports_of_another_turn_or_round_fall_out() {
    let house = house([Line::Hang], no_tool).await;
    let dispatch: Arc<dyn Dispatch> = Arc::new(FakeDispatch(Box::new(no_tool)));
    let model = Arc::clone(&house.model) as Arc<dyn Model>;
    let args = ConversationArgs { id: ConversationId(1), dispatch, model, limits: TurnLimits::default() };
    let (actor, _ended) = Actor::spawn(None, ConversationActor, args).await.expect("it starts");
    let (events, _watcher) = mpsc::channel(8);
    let (reply, answer) = oneshot::channel();
    let turn = TurnId(2);
    let failed = |turn, round| ConversationMsg::Model { turn, round, result: Err(ModelError::TimedOut) };
    let messages = [
        ConversationMsg::Say { turn, text: "hang".to_owned(), events, reply },
        failed(TurnId(1), 1),
        failed(turn, 7),
        ConversationMsg::Tool { turn, call: CallKey { round: 1, index: 0 }, content: String::new(), is_error: false },
        ConversationMsg::Panicked { turn: TurnId(1), what: String::new() },
        ConversationMsg::Cancel { turn: TurnId(1) },
        ConversationMsg::Cancel { turn },
    ];
    for message in messages {
        actor.cast(message).expect("it lives");
    }
    assert_eq!(answer.await.expect("an end"), Err(TurnError::Cancelled), "only the last message was its own");
    actor.stop(None);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_dies_tells_its_waiter_and_leaves_the_lobby_standing() {
    let house = house([Line::Panic, Line::Call(&[("x", "math__add")]), Line::Say("well")], |_, _| Act::Panic).await;
    for _ in 0..2 {
        let conversation = house.lobby.open().await.expect("it opens");
        assert_eq!(say(&conversation, "die").await.0, Err(TurnError::ConversationLost));
        assert_eq!(say(&conversation, "still there?").await.0, Err(TurnError::ConversationLost));
    }
    let conversation = house.lobby.open().await.expect("the lobby lives");
    assert_eq!(say(&conversation, "and you?").await.0, Ok(answer("well", 1)));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_lobby_ends_every_turn() {
    let house = house([Line::Hang], no_tool).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (sender, mut events) = mpsc::channel(8);
    let (result, ()) = tokio::join!(conversation.say("hang".to_owned(), sender), async {
        assert_eq!(events.recv().await, Some(TurnEvent::Asking { round: 1 }));
        house.actor.stop(None);
    });
    assert_eq!(result, Err(TurnError::ConversationLost));
    assert_eq!(house.lobby.open().await.map(|handle| handle.id()), Err(LobbyError::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_makes_room_for_another_conversation() {
    let house = house([], no_tool).await;
    let mut open = Vec::new();
    for _ in 0..crate::MAX_CONVERSATIONS {
        open.push(house.lobby.open().await.expect("it opens"));
    }
    let full = LobbyError::Full { limit: crate::MAX_CONVERSATIONS };
    assert_eq!(house.lobby.open().await.map(|handle| handle.id()), Err(full));
    let left = open.pop().expect("one");
    let actor = left.actor_for_tests();
    drop(left);
    // Its end reaches the lobby before the next message does: the supervisor's queue goes first.
    actor.wait(None).await.expect("no timeout");
    assert!(house.lobby.open().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn text_is_joined_for_a_slow_reader_and_none_is_lost() {
    let deltas: Vec<String> = (0..500).map(|number| format!("{number},")).collect();
    let whole = deltas.concat();
    let house = house([Line::Stream(deltas)], no_tool).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (sender, mut receiver) = mpsc::channel(2);
    let (result, text) = tokio::join!(conversation.say("go".to_owned(), sender), async {
        let mut text = String::new();
        while let Some(event) = receiver.recv().await {
            if let TurnEvent::Text(delta) = event {
                text.push_str(&delta);
            }
        }
        text
    });
    assert_eq!(result, Ok(answer(&whole, 1)));
    assert_eq!(text, whole);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_never_reads_delays_a_turn_once_and_cannot_stop_it() {
    let calls = || Line::Call(&[("x", "math__add"), ("y", "math__add")]);
    let house = house([calls(), calls(), Line::Say("done")], |_, _| Act::Answer(Ok(text_result("1")))).await;
    let conversation = house.lobby.open().await.expect("it opens");
    let (sender, _never_read) = mpsc::channel(1);
    let before = clock::now();
    assert_eq!(conversation.say("go".to_owned(), sender).await, Ok(answer("done", 3)));
    assert_eq!(clock::now() - before, task::PATIENCE);
}
