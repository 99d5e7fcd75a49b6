//! How a session begins: which era a server lives in, and what it says of itself.
//!
//! It asks within one process. That a process died of a question, and that another one has to be asked, is `connector`'s.

use std::pin::pin;
use std::time::{Duration, Instant};

use ostler_core::CallError;
use ostler_core::status::{Fault, FaultClass};
use ostler_telemetry::log::line;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::error;
use crate::greeting::{self, Greeting};
use crate::life::Life;
use crate::meta::Members;
use crate::revision::{Era, NEWEST_LEGACY, NEWEST_MODERN, Revision};

/// What is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// `server/discover`, and `initialize` if that leads nowhere.
    Probe,
    /// `initialize`, and `server/discover` if that is refused.
    Initialize,
    /// `initialize` alone.
    OnlyInitialize,
    /// `server/discover` alone.
    OnlyDiscover,
}

/// Why a session did not begin.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Whether the process died of itself. If not, it lives and said something wrong, or nothing.
    pub(crate) has_died: bool,
}

const DISCOVER: &str = "server/discover";
const INITIALIZE: &str = "initialize";

/// Errors that only a modern server gives: wrong version, missing capability, mismatched header.
const MODERN_ERRORS: [i64; 3] = [-32022, -32021, -32020];

/// Begins the session of a life that has just been started.
pub(crate) async fn greet(
    life: &Life,
    opening: Opening,
    window: Duration,
    deadline: Instant,
) -> Result<Greeting, Failure> {
    let start = Start { life, deadline, began: clock::now() };
    match opening {
        Opening::Probe => start.probe(window).await,
        Opening::Initialize => start.initialize_or_discover().await,
        Opening::OnlyInitialize => {
            let answer = start.initialize().await;
            start.read_initialized(answer).await
        }
        Opening::OnlyDiscover => {
            let answer = start.discover(NEWEST_MODERN).await;
            start.read_discovered(answer).await
        }
    }
}

struct Start<'a> {
    life: &'a Life,
    deadline: Instant,
    began: Instant,
}

type Raw = Result<Box<RawValue>, CallError>;

impl Start<'_> {
    async fn probe(&self, window: Duration) -> Result<Greeting, Failure> {
        let mut probe = pin!(self.discover(NEWEST_MODERN));
        tokio::select! {
            biased;
            answer = &mut probe => return self.judge(answer).await,
            () = sleep(window) => {}
        }
        // Silence: a legacy server that ignores the probe, or any server that starts slowly. From here on the answer to
        // `initialize` decides, and the probe's answer only counts if `initialize` is refused: a server that has
        // accepted it must not be spoken to in the other era. The two answers may come in any order.
        let mut hello = pin!(self.initialize());
        tokio::select! {
            biased;
            discovered = &mut probe => match discovered {
                Ok(_) => match timeout(window, hello).await {
                    Err(_) | Ok(Err(CallError::Remote { .. })) => self.read_discovered(discovered).await,
                    Ok(hello) => self.read_initialized(hello).await,
                },
                Err(lost @ (CallError::ServerLost { .. } | CallError::TimedOut { .. })) => {
                    Err(self.fail(INITIALIZE, lost).await)
                }
                // The late refusal of a slow server: a legacy one that is greeted next, or one that refuses both.
                Err(_) => match hello.await {
                    refusal @ Err(CallError::Remote { .. }) => self.choose(discovered, refusal).await,
                    hello => self.read_initialized(hello).await,
                },
            },
            hello = &mut hello => match hello {
                Err(CallError::Remote { .. }) => {
                    // A refusal that names a modern revision settles the era, and the probe's answer will come. Any
                    // other could be a legacy server's, which may never answer it.
                    if names_modern(&hello) {
                        return self.choose(probe.await, hello).await;
                    }
                    match timeout(window, probe).await {
                        Ok(discovered) => self.choose(discovered, hello).await,
                        Err(_) => self.read_initialized(hello).await,
                    }
                }
                hello => self.read_initialized(hello).await,
            },
        }
    }

    /// Goes on with the probe's answer if it says anything of a modern server, else with the refusal of `initialize`.
    async fn choose(&self, discovered: Raw, refusal: Raw) -> Result<Greeting, Failure> {
        match discovered {
            Ok(_) | Err(CallError::ServerLost { .. }) => self.read_discovered(discovered).await,
            Err(CallError::Remote { code, .. }) if MODERN_ERRORS.contains(&code) => self.judge(discovered).await,
            Err(_) if names_modern(&refusal) => self.judge(refusal).await,
            Err(_) => self.read_initialized(refusal).await,
        }
    }

    /// The first question was answered, and nothing else is open.
    async fn judge(&self, answer: Raw) -> Result<Greeting, Failure> {
        match answer {
            Ok(_) => self.read_discovered(answer).await,
            Err(CallError::Remote { code, ref data, .. }) if MODERN_ERRORS.contains(&code) => {
                let supported = supported(data.as_deref());
                match Revision::newest_of(supported.iter().map(String::as_str)) {
                    Some(revision) if revision.era == Era::Modern => {
                        let answer = self.discover(revision).await;
                        self.read_discovered(answer).await
                    }
                    Some(_) => {
                        let answer = self.initialize().await;
                        self.read_initialized(answer).await
                    }
                    None => Err(self.refused(DISCOVER, &answer, &supported)),
                }
            }
            Err(CallError::Remote { .. } | CallError::Protocol { .. }) => {
                let answer = self.initialize().await;
                self.read_initialized(answer).await
            }
            Err(error) => Err(self.fail(DISCOVER, error).await),
        }
    }

    async fn initialize_or_discover(&self) -> Result<Greeting, Failure> {
        match self.initialize().await {
            Err(CallError::Remote { .. }) => {
                let answer = self.discover(NEWEST_MODERN).await;
                self.read_discovered(answer).await
            }
            answer => self.read_initialized(answer).await,
        }
    }

    async fn discover(&self, revision: &'static Revision) -> Raw {
        self.life.ask(DISCOVER, Some("{}".to_owned()), revision, self.deadline).await
    }

    async fn initialize(&self) -> Raw {
        let params = format!(
            r#"{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"ostler","version":"{}"}}}}"#,
            NEWEST_LEGACY.name,
            env!("CARGO_PKG_VERSION"),
        );
        self.life.ask(INITIALIZE, Some(params), NEWEST_LEGACY, self.deadline).await
    }

    async fn read_discovered(&self, answer: Raw) -> Result<Greeting, Failure> {
        let result = match answer {
            Ok(result) => result,
            Err(error) => return Err(self.fail(DISCOVER, error).await),
        };
        let Some((supported, greet)) = greeting::discovered(&result) else {
            return Err(self.nonsense(DISCOVER));
        };
        match Revision::newest_of(supported.iter().map(String::as_str)) {
            Some(revision) if revision.era == Era::Modern => Ok(greet(revision)),
            Some(_) => {
                drop(greet);
                let answer = self.initialize().await;
                self.read_initialized(answer).await
            }
            None => Err(self.incompatible(&supported)),
        }
    }

    async fn read_initialized(&self, answer: Raw) -> Result<Greeting, Failure> {
        let result = match answer {
            Ok(result) => result,
            Err(CallError::Remote { code: -32022, ref data, .. }) => {
                return Err(self.refused(INITIALIZE, &answer, &supported(data.as_deref())));
            }
            Err(error) => return Err(self.fail(INITIALIZE, error).await),
        };
        let Some((version, greet)) = greeting::initialized(&result) else {
            return Err(self.nonsense(INITIALIZE));
        };
        match Revision::find(&version) {
            Some(revision) if revision.era == Era::Legacy => {
                // Room in the queue is all that is waited for; whether the server reads is seen with the first list.
                match self.life.session().notify("notifications/initialized", self.deadline).await {
                    Ok(()) => Ok(greet(revision)),
                    Err(error) => Err(self.fail(INITIALIZE, error).await),
                }
            }
            Some(_) | None => Err(self.incompatible(&[version])),
        }
    }

    async fn fail(&self, what: &'static str, error: CallError) -> Failure {
        failure(self.life, what, error, clock::now().saturating_duration_since(self.began)).await
    }

    fn nonsense(&self, what: &str) -> Failure {
        let why = CallError::Protocol { why: "its result lacks what the revision demands".to_owned() };
        Failure { fault: error::broken_start(FaultClass::Protocol, what, &why, self.life.words()), has_died: false }
    }

    /// A modern refusal: it names what it supports, or wants something else that we do not have.
    fn refused(&self, what: &str, answer: &Raw, supported: &[String]) -> Failure {
        match answer {
            Err(error) if supported.is_empty() => self.unusable(&format!("{what} was refused: {error}")),
            Err(_) | Ok(_) => self.incompatible(supported),
        }
    }

    fn incompatible(&self, theirs: &[String]) -> Failure {
        let ours: Vec<&str> = crate::revision::ALL.iter().map(|revision| revision.name).collect();
        let theirs = match line(&theirs.join(", "), error::QUOTE) {
            theirs if theirs.is_empty() => "names none".to_owned(),
            theirs => format!("speaks '{theirs}'"),
        };
        self.unusable(&format!("no common protocol revision: it {theirs}, we speak {}", ours.join(", ")))
    }

    fn unusable(&self, why: &str) -> Failure {
        let mut fault = Fault::new(FaultClass::Incompatible, line(why, error::MESSAGE))
            .with_hint("use another version of the server, or a newer one of ours");
        fault.stderr_tail = self.life.words().stderr_tail;
        Failure { fault, has_died: false }
    }
}

/// The failure of a start whose question `what` ended with `error`.
pub(crate) async fn failure(life: &Life, what: &'static str, error: CallError, after: Duration) -> Failure {
    match error {
        CallError::ServerLost { .. } => Failure { fault: life.fault().await, has_died: true },
        CallError::TimedOut { .. } => Failure { fault: error::too_slow(what, after, life.words()), has_died: false },
        error @ (CallError::UnknownTool { .. }
        | CallError::Denied { .. }
        | CallError::Overloaded { .. }
        | CallError::Unavailable { .. }
        | CallError::Cancelled
        | CallError::Protocol { .. }
        | CallError::Remote { .. }) => {
            Failure { fault: error::broken_start(FaultClass::Protocol, what, &error, life.words()), has_died: false }
        }
    }
}

/// Whether an answer refuses in the modern way, and names a modern revision that we share.
fn names_modern(answer: &Raw) -> bool {
    let Err(CallError::Remote { code, data, .. }) = answer else { return false };
    let supported = supported(data.as_deref());
    MODERN_ERRORS.contains(code)
        && Revision::newest_of(supported.iter().map(String::as_str)).is_some_and(|newest| newest.era == Era::Modern)
}

fn supported(data: Option<&RawValue>) -> Vec<String> {
    let members: Members<'_> = data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    greeting::versions(members.get("supported"))
}
