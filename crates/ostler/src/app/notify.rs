//! Notices, handed on to whom the configuration names: a command, a web address, or both.
//!
//! One at a time, each within its limits; a queue holds what comes meanwhile, and what it cannot hold is counted. The log
//! and the stream of events have every notice in any case. No secret is logged: neither arguments nor the address.

use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ostler_core::status::{Notice, What};
use ostler_core::{Secret, ServerEvent};
use ostler_runtime::{Entry, EventLog};
use ostler_telemetry::log;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{sleep, timeout};

use super::reload::Live;
use crate::config::{Notify, NotifyCommand};
use crate::http::event::EventDto;

/// How many notices may wait.
const QUEUE: usize = 64;

/// How long a command, or one try of a post, may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long is waited for the last words of a command that has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The pauses before a post is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How much of a command's standard error is kept, in bytes.
const HEARD: usize = 4096;

/// How much of it is logged if the command fails, in bytes.
const WORDS: usize = 300;

/// How many past events are looked through for notices when it begins.
const PAST: usize = 4096;

/// Hands notices on. Never ends by itself.
pub(super) async fn run(live: Arc<Live>, events: EventLog) {
    let (sink, queue) = mpsc::channel(QUEUE);
    // Together: a slow command must not keep the reader from its place in the log.
    tokio::join!(read(events, sink), hand_on(live, queue));
}

/// Reads the log and queues its notices, those of before we began too.
async fn read(events: EventLog, sink: mpsc::Sender<EventDto>) {
    let mut subscription = events.subscribe();
    let mut last = None;
    let mut dropped = Dropped::default();
    for event in events.recent(PAST) {
        last = Some(event.sequence);
        dropped.offer(&sink, &event);
    }
    loop {
        match subscription.next().await {
            Entry::Event(event) if last.is_some_and(|last| event.sequence <= last) => {}
            Entry::Event(event) => dropped.offer(&sink, &event),
            Entry::Gap { missed } => tracing::warn!(missed, "events went by unread; there may have been notices"),
        }
    }
}

/// How many notices found the queue full.
#[derive(Default)]
struct Dropped {
    total: u64,
    /// Since the last one that was taken.
    in_a_row: u64,
}

impl Dropped {
    fn offer(&mut self, sink: &mpsc::Sender<EventDto>, event: &ServerEvent) {
        if !is_for_people(&event.what) {
            return;
        }
        match sink.try_send(EventDto::from(event)) {
            Ok(()) => self.in_a_row = 0,
            Err(TrySendError::Full(_)) => {
                self.total += 1;
                self.in_a_row += 1;
                // Once a jam: whoever floods us must not flood the log.
                if self.in_a_row == 1 {
                    tracing::warn!(dropped = self.total, "notices come faster than they can be handed on");
                }
            }
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// Whether somebody may have to act, or no longer has to. What is odd about a tool is for the log.
fn is_for_people(what: &What) -> bool {
    match what {
        What::Notice(
            Notice::FailingRepeatedly { .. }
            | Notice::Recovered
            | Notice::NeedsAction(_)
            | Notice::Quarantined { .. }
            | Notice::Together(_)
            | Notice::HostProblem,
        ) => true,
        What::Notice(Notice::Catalogue(_)) | What::State { .. } | What::Published { .. } | What::Log { .. } => false,
    }
}

async fn hand_on(live: Arc<Live>, mut queue: mpsc::Receiver<EventDto>) {
    let mut post = Post { client: None, pauses: PAUSES };
    while let Some(notice) = queue.recv().await {
        // Of the day: a reload may have named another one.
        let Notify { command, webhook } = live.config().notify.clone();
        let Ok(mut line) = serde_json::to_vec(&notice) else { continue };
        line.push(b'\n');
        let server = notice.server.as_deref().unwrap_or_default();
        if let Some(command) = command
            && let Err(error) = execute(&command, &line, LIMIT).await
        {
            tracing::warn!(server.id = server, error, "the command for notices failed");
        }
        if let Some(webhook) = webhook
            && let Err(error) = post.send(webhook.expose(), &line).await
        {
            tracing::warn!(server.id = server, error, "a notice could not be posted");
        }
    }
}

/// Runs the command with `line` on its standard input. Dropping the future kills it. Errors: how it failed.
async fn execute(command: &NotifyCommand, line: &[u8], limit: Duration) -> Result<(), String> {
    let mut child = Command::new(&command.program)
        .args(command.args.iter().map(Secret::expose))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let group = child.id();
    match timeout(limit, talk(&mut child, line)).await {
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), words)) => Err(format!("{status}: {}", log::line(&String::from_utf8_lossy(&words), WORDS))),
        Ok((Err(error), _)) => Err(error.to_string()),
        Err(_) => {
            // With whatever it has started. Its number is still its own: nobody has waited for it.
            if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                let _ = timeout(LAST_WORDS, child.wait()).await;
            }
            Err(format!("it did not end within {} s and was killed", limit.as_secs()))
        }
    }
}

/// Tells a child its line and waits for its end. Returns how it ended, and its first words on standard error.
async fn talk(child: &mut Child, line: &[u8]) -> (std::io::Result<ExitStatus>, Vec<u8>) {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut words = Vec::new();
    let status = {
        let mut tell = pin!(async {
            if let Some(mut stdin) = stdin {
                // One that does not read what it is told may have no need to.
                let _ = stdin.write_all(line).await;
            }
        });
        let mut hear = pin!(hear(stderr, &mut words));
        let (mut is_told, mut is_heard) = (false, false);
        let status = loop {
            tokio::select! {
                biased;
                () = &mut tell, if !is_told => is_told = true,
                () = &mut hear, if !is_heard => is_heard = true,
                status = child.wait() => break status,
            }
        };
        if !is_heard {
            // Something that it left behind may hold the pipe for long.
            let _ = timeout(LAST_WORDS, hear).await;
        }
        status
    };
    (status, words)
}

/// Keeps the first words. What follows is read too and thrown away, so that nobody is stuck in writing it.
async fn hear(stderr: Option<ChildStderr>, words: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let room = HEARD.saturating_sub(words.len()).min(length);
        words.extend_from_slice(&chunk[..room]);
    }
}

/// Posts notices. Its client is made for the first one: most houses have no such address.
struct Post {
    client: Option<reqwest::Client>,
    pauses: [Duration; 2],
}

impl Post {
    /// Errors: why the last of all tries failed, without the address.
    async fn send(&mut self, url: &str, body: &[u8]) -> Result<(), String> {
        if self.client.is_none() {
            let builder = reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none());
            self.client = Some(builder.build().map_err(plain)?);
        }
        let Some(client) = &self.client else { return Ok(()) };
        let mut pauses = self.pauses.into_iter();
        loop {
            let failure = match attempt(client, url, body).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            match pauses.next() {
                Some(pause) if failure.may_pass => sleep(pause).await,
                Some(_) | None => return Err(failure.why),
            }
        }
    }
}

struct Failure {
    why: String,
    /// Whether another try can have another end.
    may_pass: bool,
}

async fn attempt(client: &reqwest::Client, url: &str, body: &[u8]) -> Result<(), Failure> {
    let request = client.post(url).header("content-type", "application/json").body(body.to_vec());
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
            Err(Failure { why: format!("the answer was status {status}"), may_pass })
        }
        Err(error) => Err(Failure { may_pass: !error.is_builder(), why: plain(error) }),
    }
}

/// The error with its causes, without the address.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.extend([": ", &cause.to_string()]);
        source = cause.source();
    }
    log::line(&text, WORDS)
}

#[cfg(test)]
mod tests;
