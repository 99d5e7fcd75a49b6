//! How lists are read: pages, caps, and tools that are not as they should be.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_bad_tool_hides_no_other() {
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("initialize", &initialized("2025-11-25")).await;
            peer.expect("notifications/initialized").await;
            let tools = json!([
                {"name": "a", "inputSchema": {}},
                {"name": "without schema"},
                7,
                {"name": "a", "inputSchema": {}},
                {"name": "b", "inputSchema": {}, "x": [1]},
            ]);
            peer.serve("tools/list", &json!({"tools": tools})).await;
            peer
        })
        .await;
    let catalogue = up(result).catalogue;
    let names: Vec<_> = catalogue.tools.iter().map(|tool| tool.name.as_str().to_owned()).collect();
    let refused: Vec<_> = catalogue.refused.iter().map(|refused| refused.position).collect();
    assert_eq!((names, refused), (vec!["a".to_owned(), "b".to_owned()], vec![1, 2, 3]));
}

/// Connects to a server whose list of tools is `pages`: cursors to the next page, and how many tools each has.
async fn read_pages(limits: Limits, page: impl Fn(usize) -> (usize, serde_json::Value)) -> (usize, usize, Arc<Counts>) {
    let mut house = house_with(limits, EraChoice::Legacy);
    let began = TokioInstant::now();
    let (result, asked) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("initialize", &initialized("2025-11-25")).await;
            peer.expect("notifications/initialized").await;
            for number in 0.. {
                let line = tokio::time::timeout(Duration::from_secs(1), peer.line()).await;
                let Ok(Some(line)) = line else { return number };
                let request: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                let (count, cursor) = page(number);
                let tools: Vec<_> =
                    (0..count).map(|tool| json!({"name": format!("t{number}-{tool}"), "inputSchema": {}})).collect();
                peer.answer(&request, &json!({"tools": tools, "nextCursor": cursor})).await;
            }
            unreachable!("pages are bounded")
        })
        .await;
    assert!(began.elapsed() < Duration::from_secs(5));
    (up(result).catalogue.tools.len(), asked, house.counts)
}

#[tokio::test(start_paused = true)]
async fn pages_are_read_to_their_end_and_an_empty_cursor_is_one() {
    let cursors = [json!(""), json!("b\"ä"), json!(null)];
    let (tools, asked, counts) = read_pages(Limits::default(), |page| (2, cursors[page].clone())).await;
    assert_eq!((tools, asked, counts.of("cursor")), (6, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_comes_again_ends_the_list() {
    let (tools, asked, counts) = read_pages(Limits::default(), |_| (1, json!("same"))).await;
    assert_eq!((tools, asked, counts.of("cursor")), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_has_a_bounded_number_of_pages_and_of_items() {
    let limits = Limits { pages: 5, items: 12, ..Limits::default() };
    let (tools, asked, counts) = read_pages(limits, |page| (1, json!(page.to_string()))).await;
    assert_eq!((tools, asked, counts.of("too_many_pages")), (5, 5, 1));
    let (tools, asked, counts) = read_pages(limits, |page| (7, json!(page.to_string()))).await;
    assert_eq!((tools, asked, counts.of("too_many_items")), (12, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn only_declared_lists_are_asked_for_and_only_tools_must_be_readable() {
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, mut peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {"resources": {}, "prompts": {}}, "instructions": "i"});
            peer.serve("initialize", &hello).await;
            peer.expect("notifications/initialized").await;
            peer.serve("resources/list", &json!({"resources": [{"uri": "a:b"}]})).await;
            let templates = peer.expect("resources/templates/list").await;
            let prompts = peer.expect("prompts/list").await;
            peer.refuse(&templates, -32601).await;
            peer.refuse(&prompts, -32603).await;
            peer
        })
        .await;
    let connection = up(result);
    let catalogue = &connection.catalogue;
    assert_eq!(catalogue.resources[0].get(), r#"{"uri":"a:b"}"#);
    assert_eq!((catalogue.tools.len(), catalogue.templates.len(), catalogue.prompts.len()), (0, 0, 0));
    assert_eq!(catalogue.instructions.as_deref(), Some("i"));

    let refresh = connection.upstream.refresh(Kind::Prompts, seconds(5));
    let play = async { peer.serve("prompts/list", &json!({"prompts": [{"name": "p"}]})).await };
    let (catalogue, ()) = tokio::join!(refresh, play);
    let catalogue = catalogue.expect("listed");
    assert_eq!((catalogue.prompts.len(), catalogue.resources.len()), (1, 1));
}
