//! One fleet in which everything that can be the matter is the matter, and the answers that a newcomer gets.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::status::{Exit, Fault, FaultClass};
use ostler_core::{Incarnation, ServerId, ToolDefinition};
use serde_json::value::RawValue;

use super::*;
use crate::render::{Style, why as rendered};

struct Fleet {
    now: Instant,
    servers: Vec<Known>,
    tools: Vec<OfferedTool>,
}

fn known(now: Instant, name: &str, state: ServerState, fault: Option<Fault>) -> Known {
    let status = ServerStatus {
        server: ServerId::new(name).expect("an id"),
        state,
        since: now.checked_sub(Duration::from_secs(4)).expect("late enough"),
        incarnation: Some(Incarnation::FIRST),
        facts: None,
        tools: 0,
        refused_tools: 0,
        failures: 0,
        restarts: 0,
        last_fault: fault.map(Arc::new),
        next_try: None,
        start_deadline: None,
    };
    Known { status, configured_name: name.to_owned(), group: None, imported_from: None, complaint: None }
}

fn tool(server: &str, name: &str) -> OfferedTool {
    let raw = RawValue::from_string(format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#)).expect("JSON");
    let definition = ToolDefinition::parse(&raw).expect("a tool");
    let server = ServerId::new(server).expect("an id");
    OfferedTool { name: OfferedName::new(&server, &definition.name), server, definition: Arc::new(definition) }
}

fn fault(class: FaultClass, message: &str) -> Fault {
    Fault::new(class, message)
}

fn fleet() -> Fleet {
    use {FaultClass as Class, ServerState as State};
    let now = crate::clock::now() + Duration::from_secs(3600);
    let after = |seconds| Some(now + Duration::from_secs(seconds));
    let mut math = known(now, "math", State::Ready, None);
    math.status.tools = 3;
    math.status.refused_tools = 1;
    math.complaint = Some("1 tools left out: tool 3: the name \"a b\" is not allowed: bad".to_owned());
    let missing = fault(Class::NotFound, "command not found: nosuch").with_hint("no folder of PATH has it");
    let missing = known(now, "missing", State::NeedsAction, Some(missing));
    let folder = fault(Class::BadConfig, "the folder '/no' cannot be entered: no such file or directory")
        .with_hint("create the folder '/no' or change `cwd` of the server");
    let folder = known(now, "folder", State::NeedsAction, Some(folder));
    let exit = Fault {
        exit: Some(Exit::Code(3)),
        stderr_tail: "Traceback\nKeyError: 'TOKEN'".to_owned(),
        ..fault(Class::CrashOnStart, "it ended with exit code 3 during the handshake")
    };
    let mut crash = known(now, "crash", State::Backoff, Some(exit.clone()));
    (crash.status.failures, crash.status.next_try) = (2, after(3));
    let mut aside = known(now, "aside", State::Quarantined, Some(exit));
    (aside.status.failures, aside.status.next_try) = (10, after(280));
    let hang = fault(Class::SlowStart, "initialize got no answer within 30.0 s").with_hint("it wrote nothing");
    let mut hang = known(now, "hang", State::Backoff, Some(hang));
    hang.status.next_try = after(8);
    let mut slow = known(now, "slow", State::Starting, None);
    slow.status.start_deadline = after(26);
    let auth = known(now, "auth", State::NeedsAction, Some(fault(Class::Auth, "the server answered 401")));
    let consent = fault(Class::Consent, "its launch line comes with a project, and nobody has approved it")
        .with_hint("look at it and approve it with `ostler approve consent`");
    let mut consent = known(now, "consent", State::NeedsAction, Some(consent));
    consent.imported_from = Some("/code/site/.mcp.json".to_owned());
    let mut idle = known(now, "idle", State::Idle, None);
    idle.group = Some("rare".to_owned());
    let mut over = known(now, "over", State::Stopped, Some(fault(Class::CleanExit, "it ended with exit code 0")));
    over.configured_name = "Over There".to_owned();
    Fleet {
        now,
        servers: vec![
            math,
            missing,
            folder,
            crash,
            aside,
            hang,
            slow,
            auth,
            consent,
            idle,
            over,
            known(now, "off", State::Disabled, None),
            known(now, "stopped", State::Stopped, Some(fault(Class::KilledByUs, "ended as asked"))),
            known(now, "bare", State::Ready, None),
        ],
        tools: vec![
            tool("math", "add"),
            tool("math", "multiply"),
            tool("math", "with.dot"),
            tool("crash", "list"),
            tool("idle", "sleep"),
        ],
    }
}

fn ask(name: &str) -> WhyDto {
    let Fleet { now, servers, tools } = fleet();
    why(name, &Scene { now, servers, tools: &tools, config: "/etc/ostler.toml".to_owned() })
}

/// The whole answer as it is printed.
fn told(name: &str) -> String {
    rendered::answer(&ask(name), Style::Plain)
}

#[test]
fn a_server_that_lacks_something_says_what() {
    insta::assert_snapshot!(told("missing"), @r#"
server 'missing' cannot run until somebody acts: command not found: nosuch
  state        needs_action for 4.0 s
  last failure not_found: command not found: nosuch
what to do
  1. No folder of PATH has it.
  2. Its command stands at [servers.missing] in /etc/ostler.toml.
  3. Then start it: ostler restart missing
"#);
    insta::assert_snapshot!(told("folder"), @r#"
server 'folder' cannot run until somebody acts: the folder '/no' cannot be entered: no such file or directory
  state        needs_action for 4.0 s
  last failure bad_config: the folder '/no' cannot be entered: no such file or directory
what to do
  1. Create the folder '/no' or change `cwd` of the server.
  2. Correct [servers.folder] in /etc/ostler.toml; a running daemon takes that up by itself.
  3. Then start it: ostler restart folder
"#);
    insta::assert_snapshot!(told("auth"), @r#"
server 'auth' cannot run until somebody acts: the server answered 401
  state        needs_action for 4.0 s
  last failure auth: the server answered 401
what to do
  1. Renew the credentials that it gets by env or headers of [servers.auth] in /etc/ostler.toml.
  2. Read what it said: ostler logs auth
  3. Then start it: ostler restart auth
"#);
    insta::assert_snapshot!(told("consent"), @r#"
server 'consent' cannot run until somebody acts: its launch line comes with a project, and nobody has approved it
  state        needs_action for 4.0 s
  last failure consent: its launch line comes with a project, and nobody has approved it
what to do
  1. Look at its whole launch line and approve it: ostler approve consent
  2. If you do not want it, set enabled = false at mcpServers.consent in /code/site/.mcp.json.
"#);
}

#[test]
fn a_server_that_fails_shows_how_it_ended_and_when_it_is_tried_again() {
    insta::assert_snapshot!(told("crash"), @r#"
server 'crash' is down and will be started again: it ended with exit code 3 during the handshake
  state        backoff for 4.0 s
  last failure crash_on_start: it ended with exit code 3 during the handshake
  last exit    exit code 3
  failures     2 in a row
  next try     in 3.0 s
  last words on standard error
    | Traceback
    | KeyError: 'TOKEN'
what to do
  1. Read what it said: ostler logs crash
  2. Run its command by hand in a terminal; compare args, env and cwd of [servers.crash] in /etc/ostler.toml.
  3. It is tried again by itself in 3.0 s; to try at once: ostler restart crash
"#);
    insta::assert_snapshot!(told("aside"), @r#"
server 'aside' failed 10 times in a row and was put aside: it ended with exit code 3 during the handshake
  state        quarantined for 4.0 s
  last failure crash_on_start: it ended with exit code 3 during the handshake
  last exit    exit code 3
  failures     10 in a row
  next try     in 4 m 40 s
  last words on standard error
    | Traceback
    | KeyError: 'TOKEN'
what to do
  1. Read what it said: ostler logs aside
  2. Run its command by hand in a terminal; compare args, env and cwd of [servers.aside] in /etc/ostler.toml.
  3. It is now tried only now and then, next in 4 m 40 s. Once it is repaired: ostler restart aside
"#);
    insta::assert_snapshot!(told("hang"), @r#"
server 'hang' is down and will be started again: initialize got no answer within 30.0 s
  state        backoff for 4.0 s
  last failure slow_start: initialize got no answer within 30.0 s
  next try     in 8.0 s
what to do
  1. It wrote nothing.
  2. Read what it said: ostler logs hang
  3. If it rightly takes long, raise start_timeout at [servers.hang] in /etc/ostler.toml.
  4. If it never answers, it may be no MCP server, or wait for input: run it by hand.
  5. It is tried again by itself in 8.0 s; to try at once: ostler restart hang
"#);
    insta::assert_snapshot!(told("slow"), @r#"
server 'slow' is starting and has not answered for 4.0 s
  state        starting for 4.0 s
  given up     in 26.0 s, if there is no answer until then
what to do
  1. Wait: it is given up in 26.0 s. See what it says meanwhile: ostler logs slow -f
  2. If it rightly takes long, raise start_timeout at [servers.slow] in /etc/ostler.toml.
"#);
}

#[test]
fn a_server_that_does_not_run_on_purpose_says_whose_purpose_it_was() {
    insta::assert_snapshot!(told("off"), @r#"
server 'off' is switched off in the configuration
  state        disabled for 4.0 s
what to do
  1. Set enabled = true at [servers.off] in /etc/ostler.toml; a running daemon takes that up by itself.
"#);
    insta::assert_snapshot!(told("idle"), @r#"
server 'idle' sleeps until one of its tools is called; nothing is wrong
  state        idle for 4.0 s
  group        rare
what to do
  1. Call one of its tools, or wake it now: ostler start idle
"#);
    insta::assert_snapshot!(told("stopped"), @r#"
server 'stopped' was stopped by a person
  state        stopped for 4.0 s
  last failure killed_by_us: ended as asked
what to do
  1. Start it: ostler start stopped
"#);
    insta::assert_snapshot!(told("Over There"), @r#"
server 'over' ended and is not started again, as its configuration says: it ended with exit code 0
  state        stopped for 4.0 s
  last failure clean_exit: it ended with exit code 0
what to do
  1. If it should come back by itself, set restart = "always" at [servers."Over There"] in /etc/ostler.toml.
  2. Start it: ostler start over
"#);
}

#[test]
fn where_all_is_well_that_is_said() {
    insta::assert_snapshot!(told("MATH"), @r#"
server 'math' is well: ready for 4.0 s, 3 tools
  state        ready for 4.0 s
what to do
  1. Some of its tools were left out: 1 tools left out: tool 3: the name "a b" is not allowed: bad
"#);
    insta::assert_snapshot!(told("math__add"), @r#"
tool 'math__add' of server 'math' can be called
  state        ready for 4.0 s
  server       math
what to do
  1. Call it: ostler call math__add '{…}'
"#);
    insta::assert_snapshot!(told("idle__sleep"), @r#"
tool 'idle__sleep' of server 'idle' can be called
  state        idle for 4.0 s
  server       idle
  group        rare
what to do
  1. Its server sleeps; the first call wakes it.
  2. Call it: ostler call idle__sleep '{…}'
"#);
}

#[test]
fn a_tool_that_cannot_be_called_says_why() {
    insta::assert_snapshot!(told("math__a b"), @r#"
server 'math' lists a tool 'a b', but it was refused: the name "a b" is not allowed: bad
  state        ready for 4.0 s
  server       math
what to do
  1. The tool's definition must change: tell the makers of 'math', or use another version.
  2. The other tools of the server are not touched by this.
"#);
    insta::assert_snapshot!(told("math__mutliply"), @r#"
server 'math' offers 3 tools, but none is called 'mutliply'
  state        ready for 4.0 s
  server       math
what to do
  1. Did you mean 'math__multiply'?
  2. Some of its tools were left out: 1 tools left out: tool 3: the name "a b" is not allowed: bad
  3. See what it offers: ostler tools math__
"#);
    insta::assert_snapshot!(told("math__with.dot"), @r#"
no tool is called 'math__with.dot', but server 'math' has one that is offered as 'math__with_dot_e7rj4pze'
  state        ready for 4.0 s
  server       math
what to do
  1. Use that name: ostler why math__with_dot_e7rj4pze
"#);
    insta::assert_snapshot!(told("crash__list"), @r#"
tool 'crash__list' is known, but its server 'crash' is down and will be started again: it ended with exit code 3 during the handshake
  state        backoff for 4.0 s
  server       crash
  last failure crash_on_start: it ended with exit code 3 during the handshake
  last exit    exit code 3
  failures     2 in a row
  next try     in 3.0 s
  last words on standard error
    | Traceback
    | KeyError: 'TOKEN'
what to do
  1. Read what it said: ostler logs crash
  2. Run its command by hand in a terminal; compare args, env and cwd of [servers.crash] in /etc/ostler.toml.
  3. It is tried again by itself in 3.0 s; to try at once: ostler restart crash
"#);
    insta::assert_snapshot!(told("missing__anything"), @r#"
whether there is a tool 'missing__anything' cannot be known: its server 'missing' cannot run until somebody acts: command not found: nosuch
  state        needs_action for 4.0 s
  server       missing
  last failure not_found: command not found: nosuch
what to do
  1. No folder of PATH has it.
  2. Its command stands at [servers.missing] in /etc/ostler.toml.
  3. Then start it: ostler restart missing
"#);
    insta::assert_snapshot!(told("bare__thing"), @r#"
server 'bare' offers no tools now
  state        ready for 4.0 s
  server       bare
what to do
  1. See what it offers: ostler tools bare__
"#);
}

#[test]
fn a_name_that_nobody_has_is_answered_with_the_nearest() {
    insta::assert_snapshot!(told("mth"), @r#"
no server and no tool is called 'mth'
what to do
  1. Did you mean 'math' or 'auth'?
  2. See what there is: ostler servers, ostler tools
  3. Servers are named in /etc/ostler.toml.
"#);
    insta::assert_snapshot!(told("multiply"), @r#"
no server and no tool is called 'multiply'
what to do
  1. Did you mean 'math__multiply'?
  2. See what there is: ostler servers, ostler tools
  3. Servers are named in /etc/ostler.toml.
"#);
    insta::assert_snapshot!(told("weather__forecast"), @r#"
no server and no tool is called 'weather__forecast'
what to do
  1. A tool is called SERVER__TOOL, and no server is called 'weather'.
  2. See what there is: ostler servers, ostler tools
  3. Servers are named in /etc/ostler.toml.
"#);
}

#[test]
fn every_state_and_every_class_has_an_answer_and_advice() {
    for &state in ServerState::ALL {
        for &class in FaultClass::ALL {
            let now = crate::clock::now() + Duration::from_secs(3600);
            let servers = vec![known(now, "it", state, Some(fault(class, "broken")))];
            let answer = why("it", &Scene { now, servers, tools: &[], config: "a file".to_owned() });
            assert!(!answer.advice.is_empty(), "{state} {class}");
            assert_eq!(answer.well, is_well(state), "{state}");
        }
    }
}
