//! The model emulator: a foreign program that speaks the Messages API from fixtures and keeps a journal.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::foreign::Foreign;

/// A running emulator. Killed when dropped.
pub(crate) struct Emulator {
    base: String,
    _child: Child,
}

impl Emulator {
    /// Starts it on a port of its choice and waits until it listens.
    pub(crate) async fn start(foreign: &Foreign) -> Self {
        let mut child = Command::new("node")
            .arg(foreign.emulator())
            .args(["--port", "0", "--strict", "--validate-on-load", "--fixtures"])
            .arg(Foreign::file("aimock.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs the emulator");
        let stdout = child.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = async {
            loop {
                let line = lines.next_line().await.expect("its output is text").expect("it listens before it ends");
                if let Some((_, base)) = line.split_once("listening on ") {
                    return base.trim().to_owned();
                }
            }
        };
        let base = timeout(Duration::from_secs(20), address).await.expect("the emulator listens in time");
        // What it says later is read and thrown away, lest it stop on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { base, _child: child }
    }

    /// What `ANTHROPIC_BASE_URL` must be.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Every request so far, in order, in the emulator's own form.
    pub(crate) async fn journal(&self) -> Vec<Value> {
        let text = reqwest::get(format!("{}/__aimock/journal", self.base))
            .await
            .expect("the emulator answers")
            .text()
            .await
            .expect("its journal is text");
        serde_json::from_str(&text).expect("the journal is a list")
    }
}
