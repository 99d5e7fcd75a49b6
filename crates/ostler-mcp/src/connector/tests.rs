//! How sessions begin, against scripted servers. How lists are read: `lists`.

use std::sync::atomic::Ordering;

use ostler_core::CallError;
use ostler_core::catalogue::Kind;
use ostler_core::status::{DeathReason, Exit};
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant as TokioInstant;

use super::*;
use crate::testing::{Counts, Ear, Peer, Stage, attempt, discovered, initialized, seconds};

mod lists;
mod refusals;

struct House {
    dialer: Dialer<Stage>,
    peers: Receiver<Peer>,
    ear: Arc<Ear>,
    counts: Arc<Counts>,
}

fn house() -> House {
    house_with(Limits::default(), EraChoice::Auto)
}

fn house_with(limits: Limits, era: EraChoice) -> House {
    let (stage, peers) = Stage::new(1 << 20);
    let counts = Arc::new(Counts::default());
    let dialer = Dialer::new(stage, Arc::clone(&counts) as Arc<dyn Meter>, limits, era);
    House { dialer, peers, ear: Arc::default(), counts }
}

impl House {
    /// Connects while `script` plays the servers.
    async fn connect<T>(
        &mut self,
        script: impl AsyncFnOnce(&mut Receiver<Peer>) -> T,
    ) -> (Result<Connection, Fault>, T) {
        let attempt = attempt(&self.ear, Duration::from_secs(30));
        tokio::join!(self.dialer.dial(attempt), script(&mut self.peers))
    }
}

async fn next(peers: &mut Receiver<Peer>) -> Peer {
    peers.recv().await.expect("a spawn")
}

fn up(result: Result<Connection, Fault>) -> Connection {
    result.unwrap_or_else(|fault| panic!("{fault:?}"))
}

fn down(result: Result<Connection, Fault>) -> Fault {
    result.err().expect("a fault")
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_is_known_by_its_answer_to_the_probe() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.start_modern().await;
            peer
        })
        .await;
    let connection = up(result);
    assert_eq!(connection.facts.revision, "2026-07-28");
    assert_eq!(connection.facts.pid, Some(77));
    assert_eq!(connection.catalogue.tools[0].name.as_str(), "add");
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_that_refuses_the_probe_is_initialized_in_the_same_process() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            assert_eq!(probe["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
            peer.refuse(&probe, -32602).await;
            let hello = peer.expect("initialize").await;
            assert_eq!(hello["params"]["protocolVersion"], "2025-11-25");
            assert_eq!(hello["params"].get("_meta"), None);
            peer.answer(&hello, &initialized("2024-11-05")).await;
            peer.expect("notifications/initialized").await;
            let list = peer.expect("tools/list").await;
            assert_eq!(list.get("params"), None);
            peer.answer(&list, &json!({"tools": []})).await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2024-11-05");
    assert!(house.peers.try_recv().is_err(), "one spawn");
}

#[tokio::test(start_paused = true)]
async fn silence_on_the_probe_leads_to_initialize_and_the_late_refusal_is_ignored() {
    let mut house = house();
    let began = TokioInstant::now();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            let hello = peer.expect("initialize").await;
            assert_eq!(began.elapsed().as_secs(), 3);
            tokio::time::advance(Duration::from_secs(9)).await;
            peer.refuse(&probe, -32601).await;
            peer.answer(&hello, &initialized("2025-06-18")).await;
            peer.expect("notifications/initialized").await;
            peer.serve("tools/list", &json!({"tools": []})).await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-06-18");
    assert_eq!(house.counts.of("unknown_id"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_the_probe_is_a_legacy_one() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.expect("server/discover").await;
            peer.greet_after_silence().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-11-25");
}

impl Peer {
    async fn greet_after_silence(&mut self) {
        self.serve("initialize", &initialized("2025-11-25")).await;
        self.expect("notifications/initialized").await;
        self.expect("notifications/cancelled").await;
        self.serve("tools/list", &json!({"tools": []})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_modern_server_is_modern_if_it_refuses_initialize() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            let hello = peer.expect("initialize").await;
            peer.answer(&probe, &discovered(&["2026-07-28"], &json!({"tools": {}}))).await;
            peer.refuse(&hello, -32022).await;
            peer.serve("tools/list", &json!({"tools": []})).await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2026-07-28");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_of_both_eras_is_held_to_the_one_that_it_accepted_last() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            let hello = peer.expect("initialize").await;
            peer.answer(&probe, &discovered(&["2026-07-28", "2025-11-25"], &json!({"tools": {}}))).await;
            peer.answer(&hello, &initialized("2025-11-25")).await;
            peer.expect("notifications/initialized").await;
            peer.serve("tools/list", &json!({"tools": []})).await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-11-25");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_of_the_probe_is_started_again_and_its_era_is_remembered() {
    let mut house = house();
    let (result, peer) = house
        .connect(async |peers| {
            let mut first = next(peers).await;
            first.expect("server/discover").await;
            first.die(Exit::Code(1));
            let mut second = next(peers).await;
            second.greet().await;
            second
        })
        .await;
    drop(up(result));
    drop(peer);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.greet().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-11-25");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_in_any_case_is_probed_in_every_second_attempt() {
    let mut house = house();
    let (result, ()) = house
        .connect(async |peers| {
            for _ in 0..2 {
                let peer = next(peers).await;
                peer.process.say("Traceback\nModuleNotFoundError: no x\n");
                peer.die(Exit::Code(3));
            }
        })
        .await;
    let fault = down(result);
    assert_eq!((fault.class, fault.reason), (FaultClass::CrashOnStart, DeathReason::Exit));
    assert_eq!(fault.exit, Some(Exit::Code(3)));
    assert_eq!(fault.message, "it ended with exit code 3 before it was ready");
    assert!(fault.stderr_tail.starts_with("Traceback"));
    assert!(fault.hint.expect("a hint").ends_with("ModuleNotFoundError: no x"));

    let (result, ()) = house.connect(async |peers| next(peers).await.die(Exit::Signal(11))).await;
    assert_eq!(down(result).reason, DeathReason::Signal);
    assert!(house.peers.try_recv().is_err(), "one spawn");

    let (result, ()) = house
        .connect(async |peers| {
            for question in ["server/discover", "initialize"] {
                let mut peer = next(peers).await;
                peer.expect(question).await;
                peer.die(Exit::Code(3));
            }
        })
        .await;
    assert_eq!(down(result).class, FaultClass::CrashOnStart);

    // It is repaired, and it is a modern one: initialize is refused, and the same process is asked the other way.
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let hello = peer.expect("initialize").await;
            peer.refuse(&hello, -32022).await;
            peer.start_modern().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2026-07-28");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_era_is_forgotten_when_it_fails() {
    let mut house = house();
    let (result, peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.start_modern().await;
            peer
        })
        .await;
    drop((up(result), peer));
    let (result, _) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            peer.refuse(&probe, -32601).await;
            peer
        })
        .await;
    assert_eq!(down(result).class, FaultClass::Protocol);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.start_legacy().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-11-25");
}

#[tokio::test(start_paused = true)]
async fn a_modern_refusal_says_what_to_speak_instead() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            peer.send(&json!({"id": probe["id"], "error":
                {"code": -32022, "message": "no", "data": {"supported": ["2025-11-25"]}}}))
                .await;
            peer.greet().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2025-11-25");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_common_revision_needs_another_version() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("server/discover", &discovered(&["2031-01-01"], &json!({}))).await;
            peer
        })
        .await;
    let fault = down(result);
    assert_eq!((fault.class, fault.reason), (FaultClass::Incompatible, DeathReason::Config));
    assert!(fault.message.contains("it speaks '2031-01-01'"), "{fault}");

    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            peer.refuse(&probe, -32601).await;
            peer.serve("initialize", &initialized("1999-01-01")).await;
            peer
        })
        .await;
    assert_eq!(down(result).class, FaultClass::Incompatible);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_fails_at_the_deadline_with_a_hint_and_is_killed() {
    let mut house = house();
    let began = TokioInstant::now();
    let (result, peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.write("Listening on port 3000\n").await;
            peer
        })
        .await;
    let fault = down(result);
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert_eq!((fault.class, fault.reason), (FaultClass::SlowStart, DeathReason::StartTimeout));
    assert!(fault.hint.expect("a hint").contains("Listening on port 3000"));
    assert!(peer.process.kills.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn giving_an_attempt_up_kills_what_it_started() {
    let mut house = house();
    let attempt = attempt(&house.ear, Duration::from_secs(30));
    let peer = {
        let mut dial = Box::pin(house.dialer.dial(attempt));
        tokio::select! {
            biased;
            _ = &mut dial => panic!("nobody answered"),
            peer = next(&mut house.peers) => peer,
        }
    };
    assert_eq!(peer.process.kills.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn noise_before_and_between_messages_is_counted_and_disturbs_nothing() {
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.write("\u{1b}[1mWelcome\n{\"level\":\"info\"}\n[]\n\n").await;
            peer.start_legacy().await;
            peer
        })
        .await;
    up(result);
    assert_eq!((house.counts.of("not_json"), house.counts.of("shape"), house.counts.of("batch")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_is_listened_to_and_listened_to_again() {
    let mut house = house();
    let (result, mut peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let capabilities = json!({"tools": {"listChanged": true}, "prompts": {}});
            peer.serve("server/discover", &discovered(&["2026-07-28"], &capabilities)).await;
            let lists = (peer.expect("tools/list").await, peer.expect("prompts/list").await);
            peer.answer(&lists.0, &json!({"tools": []})).await;
            peer.answer(&lists.1, &json!({"prompts": []})).await;
            peer
        })
        .await;
    let connection = up(result);
    let listen = peer.expect("subscriptions/listen").await;
    assert_eq!(listen["params"]["notifications"], json!({"toolsListChanged": true}));
    peer.send(&json!({"method": "notifications/subscriptions/acknowledged"})).await;
    peer.send(&json!({"method": "notifications/tools/list_changed"})).await;
    let cancel = json!({"method": "notifications/cancelled", "params": {"requestId": listen["id"]}});
    peer.send(&cancel).await;
    let ended = TokioInstant::now();
    let listen = peer.expect("subscriptions/listen").await;
    assert_eq!(ended.elapsed().as_secs(), 1);
    // One for the time before the first subscription stood, and one that the server told.
    assert_eq!(*house.ear.changes.lock().unwrap(), [Kind::Tools; 2]);
    for _ in 0..2 {
        peer.send(&json!({"method": "notifications/subscriptions/acknowledged", "params": {}})).await;
    }
    peer.answer(&listen, &json!({"resultType": "complete"})).await;
    peer.expect("subscriptions/listen").await;
    assert_eq!(ended.elapsed().as_secs(), 3);
    assert_eq!(*house.ear.changes.lock().unwrap(), [Kind::Tools; 3], "one for the gap, however often it is told");
    // The listening must not keep the process alive.
    drop(connection);
    assert!(peer.process.kills.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_asks_in_the_way_of_the_revision_and_any_answer_is_life() {
    let mut house = house();
    let (result, mut peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.start_legacy().await;
            peer
        })
        .await;
    let upstream = up(result).upstream;
    let play = async {
        let ping = peer.expect("ping").await;
        peer.refuse(&ping, -32601).await;
    };
    let (alive, ()) = tokio::join!(upstream.probe(seconds(10)), play);
    alive.expect("alive");

    let play = async {
        peer.expect("ping").await;
        peer.expect("notifications/cancelled").await;
        peer.serve("tools/list", &json!({"tools": []})).await;
    };
    let (alive, ()) = tokio::join!(upstream.probe(seconds(10)), play);
    alive.expect("alive, but deaf to ping");
    let play = async { peer.serve("tools/list", &json!({"tools": []})).await };
    let (alive, ()) = tokio::join!(upstream.probe(seconds(10)), play);
    alive.expect("alive, and no longer pinged");
    assert!(matches!(upstream.probe(seconds(10)).await, Err(CallError::TimedOut { .. })));
}
