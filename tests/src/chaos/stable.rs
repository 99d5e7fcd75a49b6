//! The servers of a chaotic run: which there are, how each is called, what can be done to each.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use ostler::config::Config;
use ostler_core::ServerId;
use serde_json::{Value, json};

use super::daemon::{Home, quoted, sibling};

/// The largest message of a server. What is larger breaks a bound of the wire.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// How often a silent server is probed, in seconds.
pub(super) const PROBE: u64 = 10;

/// The servers, and the folder for everything of them.
pub(super) struct Stable {
    home: Home,
    pub(super) members: Vec<Member>,
    /// How long a run counts as healthy.
    pub(super) healthy_after: Duration,
}

/// One server.
pub(super) struct Member {
    pub(super) id: ServerId,
    pub(super) kind: Kind,
}

/// Who wrote it, and with that what can be done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours: obeys orders, names itself, logs what it executed.
    Fake,
    /// server-everything on node: can be killed and stopped from outside.
    Node,
}

impl Stable {
    /// `count` servers, `node` of them on node.
    pub(super) fn new(count: usize, node: usize, healthy_after: Duration) -> anyhow::Result<Self> {
        ensure!(count > 0, "there must be a server");
        let home = Home::new()?;
        let member = |number: usize| {
            // Spread, so that they are not all started at the end.
            let kind = if number * node / count < (number + 1) * node / count { Kind::Node } else { Kind::Fake };
            let id = ServerId::new(&format!("s{number}")).expect("this is an id");
            Member { id, kind }
        };
        let members = (0..count).map(member).collect();
        Ok(Self { home, members, healthy_after })
    }

    /// Writes their configuration and reads it as the product does.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut text = self.home.head();
        writeln!(text, "max_frame = \"{}KiB\"\nstable_after = \"{}s\"", MAX_FRAME >> 10, self.healthy_after.as_secs())?;
        writeln!(text, "probe = \"{PROBE}s\"")?;
        let everything = everything();
        for member in &self.members {
            let (command, arguments) = match member.kind {
                Kind::Fake => (sibling("fake_server")?, self.fake_arguments(member)),
                Kind::Node => {
                    ensure!(
                        everything.exists(),
                        "{} is not there; run tests/foreign/install.sh, or go without: --node 0",
                        everything.display()
                    );
                    (PathBuf::from("node"), vec![everything.clone(), "stdio".into()])
                }
            };
            let arguments: Vec<String> = arguments.iter().map(quoted).collect();
            writeln!(
                text,
                "\n[servers.{}]\ncommand = {}\nargs = [{}]",
                member.id,
                quoted(&command),
                arguments.join(", ")
            )?;
        }
        let file = self.path("ostler.toml");
        std::fs::write(&file, text).context("the configuration cannot be written")?;
        let config = Config::load(Some(&file));
        config.map_err(|errors| anyhow::anyhow!("the configuration of this run is wrong: {errors}"))
    }

    fn fake_arguments(&self, member: &Member) -> Vec<PathBuf> {
        vec![
            "--nonce".into(),
            "--name".into(),
            member.id.as_str().into(),
            "--executed".into(),
            self.executed(),
            "--orders".into(),
            self.orders(member),
            "--slow-once".into(),
            self.slow_once(member),
        ]
    }

    /// Where fakes log the nonce of each call that reached them.
    pub(super) fn executed(&self) -> PathBuf {
        self.path("executed")
    }

    /// Where a fake takes orders.
    pub(super) fn orders(&self, member: &Member) -> PathBuf {
        self.path(&format!("{}.orders", member.id))
    }

    /// The file that makes the next start of a fake slow.
    pub(super) fn slow_once(&self, member: &Member) -> PathBuf {
        self.path(&format!("{}.slow", member.id))
    }

    /// Where daemons that hide note their pids.
    pub(super) fn hidden(&self) -> PathBuf {
        self.path("hidden")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }
}

impl Member {
    /// The offered name of a tool and its arguments: an answer that carries `nonce`, after `wait_ms` where that is known.
    pub(super) fn call(&self, nonce: &str, wait_ms: Option<u64>) -> (String, Value) {
        match (self.kind, wait_ms) {
            (Kind::Fake, None) => (format!("{}__echo", self.id), json!({"text": nonce, "nonce": nonce})),
            (Kind::Fake, Some(ms)) => (format!("{}__slow", self.id), json!({"ms": ms, "nonce": nonce})),
            (Kind::Node, _) => (format!("{}__echo", self.id), json!({"message": nonce})),
        }
    }

    /// Whether `result` is this server's own answer to the call with `nonce`.
    pub(super) fn has_answered(&self, result: &Value, nonce: &str) -> bool {
        match self.kind {
            Kind::Fake => result["structuredContent"] == json!({"nonce": nonce, "server": self.id.as_str()}),
            Kind::Node => result["content"][0]["text"] == format!("Echo: {nonce}"),
        }
    }
}

/// Where `tests/foreign/install.sh` puts things.
pub(super) fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live one folder below the root").join(".foreign")
}

/// server-everything.
pub(super) fn everything() -> PathBuf {
    foreign().join("node_modules/@modelcontextprotocol/server-everything/dist/index.js")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_node_servers_as_asked_for() {
        for (count, node) in [(100, 10), (20, 0), (7, 7), (13, 5)] {
            let stable = Stable::new(count, node, Duration::ZERO).unwrap();
            let found = stable.members.iter().filter(|member| member.kind == Kind::Node).count();
            assert_eq!((stable.members.len(), found), (count, node));
        }
    }

    #[test]
    fn an_answer_counts_only_with_the_nonce_and_from_the_server_that_was_asked() {
        let stable = Stable::new(2, 1, Duration::ZERO).unwrap();
        let [fake, node] = &stable.members[..] else { panic!("two servers") };
        let answer = |nonce: &str, server: &str| json!({"structuredContent": {"nonce": nonce, "server": server}});
        assert!(fake.has_answered(&answer("n1", "s0"), "n1"));
        assert!(!fake.has_answered(&answer("n2", "s0"), "n1"));
        assert!(!fake.has_answered(&answer("n1", "s1"), "n1"));
        assert!(node.has_answered(&json!({"content": [{"type": "text", "text": "Echo: n1"}]}), "n1"));
        assert!(!node.has_answered(&json!({"content": [{"type": "text", "text": "Echo: n2"}]}), "n1"));
    }
}
