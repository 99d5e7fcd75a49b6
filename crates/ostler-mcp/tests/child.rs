//! The doors of the crate with a real child: a shell script that speaks MCP by pattern matching.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_core::catalogue::Kind;
use ostler_core::port::{
    Attempt, BoxFuture, Caller, Connection, Connector, Inbound, Lease, Outcome, Reply, Request, ServerRequest, Upstream,
};
use ostler_core::status::{DeathReason, Exit, Fault, FaultClass};
use ostler_core::{CallError, Incarnation, Secret, ServerId};
use ostler_mcp::{EraChoice, Limits, StdioConnector, StdioSpec};
use ostler_process::{Ladder, Reaper, ReaperOptions, ResourceLimits, Sandbox};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

const SCRIPT: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":"%s",%s}\n' "$id" "$1"; }
echo "the secret has ${#TOKEN} letters" >&2
while IFS= read -r line; do
    id=${line#*'"id":"'}
    id=${id%%'"'*}
    case $line in
    *'"server/discover"'*) answer '"error":{"code":-32601,"message":"what?"}' ;;
    *'"initialize"'*) answer '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh"}}' ;;
    *'"tools/list"'*) answer '"result":{"tools":[{"name":"greet","inputSchema":{"type":"object"}}]}' ;;
    *'"greet"'*) answer '"result":{"content":[{"type":"text","text":"hello"}]}' ;;
    *'"die"'*) sleep 60 & exit 7 ;;
    esac
done
"#;

struct Deaf;

impl Inbound for Deaf {
    fn changed(&self, _: Kind) {}
    fn log(&self, _: &str, _: &RawValue) {}
    fn request(&self, _: ServerRequest) -> BoxFuture<'static, Reply> {
        Box::pin(async { Reply::Error { code: -32601, message: "no".to_owned() } })
    }
    fn activity(&self) {}
}

/// Says when it is dropped.
struct Guard(Option<oneshot::Sender<()>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

/// The deadline of whatever should take milliseconds.
fn soon() -> Instant {
    tokio::time::Instant::now().into_std() + Duration::from_secs(20)
}

fn connector(args: &[&str]) -> StdioConnector {
    let spec = StdioSpec {
        server: ServerId::new("shell").expect("an id"),
        program: "sh".into(),
        args: args.iter().map(Into::into).collect(),
        env: vec![("TOKEN".into(), Secret::new("hunter2"))],
        cwd: None,
        resources: ResourceLimits::default(),
        sandbox: Sandbox::Off,
        ladder: Ladder::default(),
        limits: Limits::default(),
        era: EraChoice::Auto,
    };
    StdioConnector::new(spec, Reaper::start(ReaperOptions::default()))
}

async fn connect(connector: &StdioConnector) -> (Result<Connection, Fault>, oneshot::Receiver<()>) {
    let (sender, released) = oneshot::channel();
    let attempt = Attempt {
        server: ServerId::new("shell").expect("an id"),
        incarnation: Incarnation::FIRST,
        deadline: soon(),
        inbound: Arc::new(Deaf),
        lease: Lease::new(Guard(Some(sender))),
    };
    (connector.connect(attempt).await, released)
}

async fn call(upstream: &dyn Upstream, tool: &str) -> Result<Outcome, CallError> {
    let params = RawValue::from_string(format!(r#"{{"name":"{tool}","arguments":{{}}}}"#)).expect("JSON");
    let deadline = soon();
    let request =
        Request { method: "tools/call", params: Some(params), deadline, caller: Caller::Operator, observer: None };
    upstream.request(request).await
}

/// Waits for the lease, which has to come back.
async fn returned(released: oneshot::Receiver<()>) {
    tokio::time::timeout(Duration::from_secs(20), released)
        .await
        .expect("nothing is left")
        .expect("the lease is dropped");
}

#[tokio::test]
async fn a_child_is_called_and_stopped_and_leaves_nothing() {
    let connector = connector(&["-c", SCRIPT]);
    let (connection, released) = connect(&connector).await;
    let connection = connection.unwrap();
    assert_eq!(connection.facts.revision, "2025-06-18");
    assert!(connection.facts.pid.is_some());
    let outcome = call(&*connection.upstream, "greet").await.unwrap();
    let Outcome::Raw(result) = outcome else { panic!("{outcome:?}") };
    assert_eq!(result.get(), r#"{"content":[{"type":"text","text":"hello"}]}"#);
    connection.upstream.close(Duration::from_secs(5)).await;
    assert_eq!(connection.upstream.closed().await.class, FaultClass::KilledByUs);
    returned(released).await;
}

#[tokio::test]
async fn a_child_that_dies_in_a_call_is_known_by_its_exit_code_though_its_pipe_is_held() {
    let connector = connector(&["-c", SCRIPT]);
    let (connection, released) = connect(&connector).await;
    let upstream = connection.unwrap().upstream;
    let error = call(&*upstream, "die").await.unwrap_err();
    assert!(matches!(error, CallError::ServerLost { may_have_run: true, .. }), "{error}");
    let fault = upstream.closed().await;
    assert_eq!((fault.class, fault.reason), (FaultClass::CrashRunning, DeathReason::Exit));
    assert_eq!(fault.exit, Some(Exit::Code(7)));
    assert_eq!(fault.stderr_tail.trim(), "the secret has 7 letters");
    drop(upstream);
    returned(released).await;
}

#[tokio::test]
async fn a_child_that_cannot_start_says_why() {
    let connector = connector(&["-c", "echo 'no license found' >&2; exit 2"]);
    let (connection, released) = connect(&connector).await;
    let fault = connection.err().unwrap();
    assert_eq!((fault.class, fault.exit), (FaultClass::CrashOnStart, Some(Exit::Code(2))));
    assert_eq!(fault.stderr_tail.trim(), "no license found");
    assert!(fault.hint.unwrap().ends_with("no license found"));
    returned(released).await;
}
