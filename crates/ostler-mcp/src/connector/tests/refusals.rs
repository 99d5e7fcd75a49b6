//! Servers that refuse or die of a question, and what they say then.

use super::*;

/// The message of the error with which a server refuses a question.
fn refusal(id: &serde_json::Value, code: i64, supported: &[&str]) -> serde_json::Value {
    let data = if supported.is_empty() { json!({}) } else { json!({"supported": supported}) };
    json!({"id": id["id"], "error": {"code": code, "message": "no", "data": data}})
}

#[tokio::test(start_paused = true)]
async fn a_slow_modern_server_may_refuse_initialize_before_it_answers_the_probe() {
    let modern = discovered(&["2026-07-28"], &json!({"tools": {}}));
    for (code, supported, after) in
        [(-32601, &[][..], 2), (-32022, &[], 2), (-32022, &["2026-07-28"], 20), (-32000, &[], 2)]
    {
        let mut house = house();
        let (result, _peer) = house
            .connect(async |peers| {
                let mut peer = next(peers).await;
                let probe = peer.expect("server/discover").await;
                let hello = peer.expect("initialize").await;
                peer.send(&refusal(&hello, code, supported)).await;
                tokio::time::sleep(Duration::from_secs(after)).await;
                peer.answer(&probe, &modern).await;
                peer.serve("tools/list", &json!({"tools": []})).await;
                peer
            })
            .await;
        assert_eq!(up(result).facts.revision, "2026-07-28", "{code} {supported:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_that_refuses_both_questions_is_judged_by_both_answers() {
    let ask = async |to_hello: (i64, &'static [&'static str]), to_probe: Option<(i64, &'static [&'static str])>| {
        let mut house = house();
        let began = TokioInstant::now();
        let (result, _peer) = house
            .connect(async |peers| {
                let mut peer = next(peers).await;
                let probe = peer.expect("server/discover").await;
                let hello = peer.expect("initialize").await;
                peer.send(&refusal(&hello, to_hello.0, to_hello.1)).await;
                if let Some((code, supported)) = to_probe {
                    peer.send(&refusal(&probe, code, supported)).await;
                }
                peer
            })
            .await;
        let fault = down(result);
        (fault.class, fault.message, began.elapsed().as_secs())
    };
    let (class, message, after) = ask((-32602, &[]), Some((-32601, &[]))).await;
    assert_eq!((class, after), (FaultClass::Protocol, 3), "{message}");
    assert!(message.contains("initialize failed") && message.contains("-32602"), "{message}");
    let (class, message, after) = ask((-32601, &[]), Some((-32022, &["2031-01-01"]))).await;
    assert_eq!((class, after), (FaultClass::Incompatible, 3), "{message}");
    assert!(message.contains("it speaks '2031-01-01'"), "{message}");
    // Whoever never answers the probe has refused with the one answer that there is, after one more window.
    let (class, message, after) = ask((-32022, &["2031-01-01"]), None).await;
    assert_eq!((class, after), (FaultClass::Incompatible, 6), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_modern_refusal_that_names_no_revision_says_what_was_refused() {
    for code in [-32020, -32021, -32022] {
        let mut house = house();
        let (result, _peer) = house
            .connect(async |peers| {
                let mut peer = next(peers).await;
                let probe = peer.expect("server/discover").await;
                peer.send(&refusal(&probe, code, &[])).await;
                peer
            })
            .await;
        let fault = down(result);
        assert_eq!(fault.class, FaultClass::Incompatible);
        assert_eq!(fault.message, format!("server/discover was refused: the server says: no (code {code})"));
    }
    let mut house = house();
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("server/discover", &discovered(&[], &json!({}))).await;
            peer
        })
        .await;
    let fault = down(result);
    assert!(fault.message.starts_with("no common protocol revision: it names none, we speak 2024"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_of_initialize_is_probed_again_after_a_bad_hour() {
    let mut house = house();
    let _ = house
        .connect(async |peers| {
            for _ in 0..2 {
                next(peers).await.die(Exit::Code(1));
            }
        })
        .await;
    let (result, ()) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.expect("initialize").await;
            peer.die(Exit::Code(1));
        })
        .await;
    assert_eq!(down(result).class, FaultClass::CrashOnStart);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.start_modern().await;
            peer
        })
        .await;
    assert_eq!(up(result).facts.revision, "2026-07-28");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_is_cleaned_and_cut_before_it_stands_in_a_fault() {
    let hostile = "\u{1b}[2J\u{202e}x\n".repeat(30_000);
    let check = |fault: &Fault, part: &str| {
        assert!(fault.message.len() <= 500 && fault.message.contains(part), "{} bytes", fault.message.len());
        assert!(!fault.message.chars().any(|char| char.is_control() || char == '\u{202e}'), "{fault}");
    };
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let hello = peer.expect("initialize").await;
            peer.send(&json!({"id": hello["id"], "error": {"code": -1, "message": hostile}})).await;
            peer
        })
        .await;
    check(&down(result), "initialize failed: the server says: x x");
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("initialize", &initialized(&hostile)).await;
            peer
        })
        .await;
    let fault = down(result);
    check(&fault, "no common protocol revision");
    assert!(fault.message.ends_with("2026-07-28"), "what we speak is not cut off: {fault}");
    let mut house = house_with(Limits::default(), EraChoice::Auto);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let probe = peer.expect("server/discover").await;
            peer.send(&json!({"id": probe["id"], "error": {"code": -32021, "message": hostile}})).await;
            peer
        })
        .await;
    check(&down(result), "server/discover was refused: the server says: x x");
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.write("\u{1b}[2J\u{202e}noise\n").await;
            peer
        })
        .await;
    assert!(down(result).hint.expect("a hint").contains("first: \"noise\";"));
}
