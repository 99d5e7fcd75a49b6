//! How lists are read: pages, caps, and tools that are not as they should be.

use std::fmt::Write;

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

#[tokio::test(start_paused = true)]
async fn a_list_is_bounded_in_bytes() {
    let limits = Limits { list_bytes: 1_000, ..Limits::default() };
    let item = json!({"name": "t0-0", "inputSchema": {}}).to_string().len();
    let (tools, asked, counts) = read_pages(limits, |page| (10, json!(page.to_string()))).await;
    assert_eq!((tools, counts.of("list_too_large")), (1_000 / item, 1));
    assert_eq!(asked, 1 + (1_000 / item) / 10);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_too_long_ends_the_list() {
    let cursors = ["c".repeat((4 << 10) - 2), "d".repeat((4 << 10) - 1)];
    let (tools, asked, counts) = read_pages(Limits::default(), |page| (1, json!(cursors[page]))).await;
    assert_eq!((tools, asked, counts.of("cursor")), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_list_that_is_not_the_tools_keeps_nobody_waiting_for_long() {
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let began = TokioInstant::now();
    let (result, mut peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let capabilities = json!({"tools": {}, "prompts": {"listChanged": true}, "resources": {}});
            peer.serve("initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": capabilities})).await;
            peer.expect("notifications/initialized").await;
            peer.serve("tools/list", &json!({"tools": [{"name": "a", "inputSchema": {}}]})).await;
            peer.serve("resources/list", &json!({"resources": [{"uri": "a:b"}]})).await;
            peer.expect("resources/templates/list").await;
            peer.expect("prompts/list").await;
            peer
        })
        .await;
    let connection = up(result);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let catalogue = &connection.catalogue;
    assert_eq!((catalogue.tools.len(), catalogue.resources.len(), catalogue.prompts.len()), (1, 1, 0));
    assert_eq!(house.counts.of("missing_list"), 2);
    for _ in 0..2 {
        peer.expect("notifications/cancelled").await;
    }

    // Once the server says that one has changed, it is read as patiently as any.
    let refresh = connection.upstream.refresh(Kind::Prompts, seconds(30));
    let play = async {
        let list = peer.expect("prompts/list").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        peer.answer(&list, &json!({"prompts": [{"name": "p"}]})).await;
    };
    let (catalogue, ()) = tokio::join!(refresh, play);
    assert_eq!(catalogue.expect("listed").prompts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn templates_that_cannot_be_read_again_stay_as_they_were() {
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, mut peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {"resources": {}}});
            peer.serve("initialize", &hello).await;
            peer.expect("notifications/initialized").await;
            peer.serve("resources/list", &json!({"resources": []})).await;
            peer.serve("resources/templates/list", &json!({"resourceTemplates": [{"uriTemplate": "a:{b}"}]})).await;
            peer
        })
        .await;
    let connection = up(result);
    let refresh = connection.upstream.refresh(Kind::Resources, seconds(30));
    let play = async {
        peer.serve("resources/list", &json!({"resources": [{"uri": "a:b"}]})).await;
        peer.serve("resources/templates/list", &json!({"odd": true})).await;
    };
    let (catalogue, ()) = tokio::join!(refresh, play);
    let catalogue = catalogue.expect("listed");
    assert_eq!((catalogue.resources.len(), catalogue.templates.len()), (1, 1));
}

/// Keeps the warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{field}={value:?} ").expect("a string takes all");
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn tools_that_are_refused_are_told_once_a_listing_and_in_few_words() {
    let warnings = Warnings::default();
    let _here = tracing::subscriber::set_default(warnings.clone());
    let mut house = house_with(Limits::default(), EraChoice::Legacy);
    let (result, _peer) = house
        .connect(async |peers| {
            let mut peer = next(peers).await;
            peer.serve("initialize", &initialized("2025-11-25")).await;
            peer.expect("notifications/initialized").await;
            let bad = json!({"name": format!("\u{1b}[2J\u{202e}{}", "x".repeat(100_000)), "inputSchema": {}});
            peer.serve("tools/list", &json!({"tools": vec![bad; 9]})).await;
            peer
        })
        .await;
    assert_eq!(up(result).catalogue.refused.len(), 9);
    let told = warnings.0.lock().unwrap();
    let [warning] = &told[..] else { panic!("{} warnings", told.len()) };
    assert!(warning.contains("count=9") && warning.contains("position=0"), "{warning}");
    assert!(warning.len() < 400 && !warning.contains('\u{1b}') && !warning.contains('\u{202e}'), "{warning}");
}
