//! What a server writes to its standard error, for somebody who reads along, also across its restarts.

use std::time::Duration;

use ostler_core::ServerId;
use ostler_core::port::BoxFuture;
use ostler_process::{Reaper, Stderr, StderrFollower, StderrLine};
use tokio::time::sleep;

use crate::http::backend::{Follow, Logs};
use crate::http::dto::LogDto;

/// How often is looked whether the server was started again, while somebody waits for it.
const LOOK: Duration = Duration::from_millis(200);

/// A reader of one server's standard error.
pub(super) struct ServerLogs {
    server: ServerId,
    reaper: Reaper,
    stays: bool,
    /// What is being read.
    current: Option<Current>,
}

struct Current {
    stderr: Stderr,
    /// `None` once it was read to its end, or if nobody waits for it.
    follower: Option<StderrFollower>,
}

impl ServerLogs {
    pub(super) fn new(server: &ServerId, follow: Follow, reaper: &Reaper) -> Self {
        Self { server: server.clone(), reaper: reaper.clone(), stays: follow == Follow::Yes, current: None }
    }

    /// What is kept now.
    fn kept(&mut self) -> Option<Vec<LogDto>> {
        if self.current.is_some() {
            return None;
        }
        let stderr = self.reaper.stderr(&self.server)?;
        // The last words of a process that has just ended may still be in the pipe.
        stderr.tail();
        let lines = lines(stderr.since(0));
        self.current = Some(Current { stderr, follower: None });
        (!lines.is_empty()).then_some(lines)
    }

    /// What comes next, of this incarnation or of one after it. Never ends.
    async fn follow(&mut self) -> Vec<LogDto> {
        loop {
            if let Some(Current { follower: reading @ Some(_), .. }) = &mut self.current
                && let Some(follower) = reading
            {
                if let Some(found) = follower.next().await {
                    return lines(found);
                }
                *reading = None;
            }
            let newest = self.reaper.stderr(&self.server);
            let newest =
                newest.filter(|newest| self.current.as_ref().is_none_or(|known| !known.stderr.is_same(newest)));
            let Some(stderr) = newest else {
                sleep(LOOK).await;
                continue;
            };
            let is_first = self.current.is_none();
            self.current = Some(Current { follower: Some(stderr.follow()), stderr });
            if !is_first {
                return vec![LogDto::Began];
            }
        }
    }
}

impl Logs for ServerLogs {
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<LogDto>>> {
        Box::pin(async move { if self.stays { Some(self.follow().await) } else { self.kept() } })
    }
}

fn lines(lines: Vec<StderrLine>) -> Vec<LogDto> {
    lines.into_iter().map(|line| LogDto::Line { number: line.number, text: line.text }).collect()
}

#[cfg(test)]
mod tests {
    use ostler_core::Incarnation;
    use ostler_core::port::Lease;
    use ostler_process::{Launch, ReaperOptions, ResourceLimits, Sandbox};

    use super::*;

    async fn speak(reaper: &Reaper, server: &ServerId, script: &str) {
        let launch = Launch {
            server: server.clone(),
            incarnation: Incarnation::FIRST,
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            cwd: None,
            limits: ResourceLimits::default(),
            sandbox: Sandbox::default(),
            redact: Vec::new(),
        };
        let child = reaper.spawn(launch, Lease::new(())).await.expect("it runs");
        child.released().await;
    }

    fn line(number: u64, text: &str) -> LogDto {
        LogDto::Line { number, text: text.to_owned() }
    }

    #[tokio::test]
    async fn what_a_server_said_is_there_after_its_death() {
        let reaper = Reaper::start(ReaperOptions::default());
        let server = ServerId::new("math").expect("an id");
        assert_eq!(ServerLogs::new(&server, Follow::No, &reaper).next().await, None);
        speak(&reaper, &server, "echo one >&2; printf two >&2").await;
        let mut logs = ServerLogs::new(&server, Follow::No, &reaper);
        assert_eq!(logs.next().await, Some(vec![line(1, "one"), line(2, "two")]));
        assert_eq!(logs.next().await, None);
    }

    #[tokio::test]
    async fn who_stays_reads_on_after_a_restart() {
        let reaper = Reaper::start(ReaperOptions::default());
        let server = ServerId::new("math").expect("an id");
        let mut logs = ServerLogs::new(&server, Follow::Yes, &reaper);
        speak(&reaper, &server, "echo one >&2").await;
        assert_eq!(logs.next().await, Some(vec![line(1, "one")]));
        speak(&reaper, &server, "echo again >&2").await;
        assert_eq!(logs.next().await, Some(vec![LogDto::Began]));
        assert_eq!(logs.next().await, Some(vec![line(1, "again")]));
    }
}
