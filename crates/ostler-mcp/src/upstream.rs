//! A live incarnation as the rest of the house sees it: core's `Upstream` over a session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::catalogue::{Catalogue, Kind};
use ostler_core::port::{BoxFuture, Outcome, Request, Upstream};
use ostler_core::status::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::clock;
use crate::envelope;
use crate::greeting::Declared;
use crate::life::Life;
use crate::limit::Limits;
use crate::list::Lister;
use crate::revision::{Feature, Revision};
use crate::session::Ask;

/// How long one `subscriptions/listen` stands before it is sent anew.
const LISTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The pauses between two of them, when they end early.
const LISTEN_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// "No such method": asking again makes no sense.
const UNKNOWN_METHOD: i64 = -32601;

/// A live incarnation. Dropping it kills the process.
pub(crate) struct Live {
    life: Arc<Life>,
    revision: &'static Revision,
    declared: Declared,
    limits: Limits,
    catalogue: Mutex<Catalogue>,
    listener: Option<AbortHandle>,
    ignores_ping: AtomicBool,
}

impl Live {
    /// Takes over a life whose start is over. A modern server that says when its lists change is listened to from here.
    pub(crate) fn new(
        life: Life,
        revision: &'static Revision,
        declared: Declared,
        limits: Limits,
        catalogue: Catalogue,
    ) -> Self {
        let life = Arc::new(life);
        let kinds = changing(declared);
        let listener = (revision.has(Feature::Listen) && !kinds.is_empty())
            .then(|| tokio::spawn(listen(Arc::clone(&life), revision, kinds)).abort_handle());
        let catalogue = Mutex::new(catalogue);
        Self { life, revision, declared, limits, catalogue, listener, ignores_ping: AtomicBool::new(false) }
    }

    async fn ask(&self, method: &'static str, deadline: Instant) -> Result<Box<RawValue>, CallError> {
        self.life.ask(method, None, self.revision, deadline).await
    }

    async fn is_alive(&self, deadline: Instant) -> Result<(), CallError> {
        self.life.count_stderr();
        if !self.revision.has(Feature::Ping) {
            return answered(self.ask("server/discover", deadline).await);
        }
        if !self.ignores_ping.load(Ordering::Relaxed) {
            let now = clock::now();
            let half = now + deadline.saturating_duration_since(now) / 2;
            match answered(self.ask("ping", half).await) {
                Err(CallError::TimedOut { .. }) => {}
                heard => return heard,
            }
        }
        // Some servers ignore ping and answer everything else.
        let heard = answered(self.ask("tools/list", deadline).await);
        self.ignores_ping.store(heard.is_ok(), Ordering::Relaxed);
        heard
    }
}

impl Upstream for Live {
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(async move {
            let ask = Ask {
                method: request.method,
                params: request.params.as_deref(),
                deadline: request.deadline,
                observer: request.observer,
                revision: self.revision,
            };
            outcome(self.life.session().call(ask).await?, self.revision)
        })
    }

    fn refresh(&self, kind: Kind, deadline: Instant) -> BoxFuture<'_, Result<Catalogue, CallError>> {
        Box::pin(async move {
            let lister = Lister {
                life: &self.life,
                revision: self.revision,
                declared: self.declared,
                limits: self.limits,
                deadline,
            };
            let listed = lister.one(kind).await?;
            let mut catalogue = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
            listed.put(&mut catalogue);
            Ok(catalogue.clone())
        })
    }

    fn probe(&self, deadline: Instant) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(self.is_alive(deadline))
    }

    fn closed(&self) -> BoxFuture<'_, Fault> {
        Box::pin(self.life.fault())
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(listener) = &self.listener {
                listener.abort();
            }
            self.life.stop(grace).await;
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
        // The listener may hold the life for a moment longer.
        self.life.process().kill();
    }
}

/// Whether the server answered at all: an error is a sign of life, too.
fn answered(answer: Result<Box<RawValue>, CallError>) -> Result<(), CallError> {
    match answer {
        Ok(_) | Err(CallError::Remote { .. } | CallError::Protocol { .. }) => Ok(()),
        Err(silence) => Err(silence),
    }
}

/// What kind of result it is. Only the revisions that say so are asked, and only results that may say it are read.
fn outcome(result: Box<RawValue>, revision: &Revision) -> Result<Outcome, CallError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed<'a> {
        #[serde(borrow, default)]
        result_type: Option<&'a RawValue>,
    }
    if !revision.has(Feature::ResultType) || !result.get().contains("\"resultType\"") {
        return Ok(Outcome::Raw(result));
    }
    let kind = match serde_json::from_str::<Typed<'_>>(result.get()) {
        Ok(Typed { result_type: None }) => Some("complete".into()),
        Ok(Typed { result_type: Some(kind) }) => envelope::text(kind),
        Err(_) => None,
    };
    match kind.as_deref() {
        Some("complete") => Ok(Outcome::Raw(result)),
        Some("input_required") => Ok(Outcome::InputRequired(result)),
        Some("task") => Ok(Outcome::Task(result)),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(envelope::protocol(format!("its result is of an unknown type {other:?}")))
        }
        None => Err(envelope::protocol("the type of its result is not a text")),
    }
}

fn changing(declared: Declared) -> Vec<Kind> {
    [(Kind::Tools, declared.tools), (Kind::Resources, declared.resources), (Kind::Prompts, declared.prompts)]
        .into_iter()
        .filter(|(_, list)| list.is_some_and(|list| list.list_changed))
        .map(|(kind, _)| kind)
        .collect()
}

/// Keeps a `subscriptions/listen` open as long as the incarnation lives.
///
/// What changed before it stands, the server tells nobody: when it acknowledges, the reader reports all as changed.
async fn listen(life: Arc<Life>, revision: &'static Revision, kinds: Vec<Kind>) {
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Tools => r#""toolsListChanged":true"#,
            Kind::Resources => r#""resourcesListChanged":true"#,
            Kind::Prompts => r#""promptsListChanged":true"#,
        })
        .collect();
    let params = format!(r#"{{"notifications":{{{}}}}}"#, names.join(","));
    let (shortest, longest) = LISTEN_PAUSE;
    let mut pause = shortest;
    loop {
        let began = clock::now();
        life.session().shared().subscribe(&kinds);
        let end = life.ask("subscriptions/listen", Some(params.clone()), revision, began + LISTEN).await;
        if let Err(CallError::ServerLost { .. } | CallError::Remote { code: UNKNOWN_METHOD, .. }) = end {
            return;
        }
        tracing::debug!("a subscription ended and is made anew");
        if clock::now().saturating_duration_since(began) > longest {
            pause = shortest;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::{NEWEST_LEGACY, NEWEST_MODERN};

    fn kind(text: &str, revision: &Revision) -> String {
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        match outcome(raw, revision) {
            Ok(Outcome::Raw(raw)) => format!("raw {raw}"),
            Ok(Outcome::InputRequired(raw)) => format!("input {raw}"),
            Ok(Outcome::Task(raw)) => format!("task {raw}"),
            Err(error) => format!("error {error}"),
        }
    }

    #[test]
    fn a_modern_result_says_what_it_is() {
        let check = |text: &str, expected: &str| {
            assert_eq!(kind(text, NEWEST_MODERN), format!("{expected} {text}"));
        };
        check(r#"{"content":[]}"#, "raw");
        check(r#"{"resultType":"complete"}"#, "raw");
        check(r#"{"content":[{"resultType":"odd"}]}"#, "raw");
        check(r#"{"resultType":"input_required","requestState":"x"}"#, "input");
        check(r#"{"resultType":"task"}"#, "task");
        assert!(kind(r#"{"resultType":"surprise"}"#, NEWEST_MODERN).contains("unknown type \"surprise\""));
        assert!(kind(r#"{"resultType":7}"#, NEWEST_MODERN).contains("not a text"));
    }

    #[test]
    fn a_legacy_result_is_never_looked_into() {
        let text = r#"{"resultType":"surprise"}"#;
        assert_eq!(kind(text, NEWEST_LEGACY), format!("raw {text}"));
    }
}
