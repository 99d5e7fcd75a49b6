//! Two small MCP servers inside the program, for first steps and for tests: `ostler demo-server math` and `notes`.
//!
//! They are built with rmcp, not with our own wire, so that even the default configuration talks to a foreign
//! implementation. They know nothing of the rest of the program.

use anyhow::Context;
use rmcp::transport::stdio;
use rmcp::{ServerHandler, ServiceExt};

mod math;
mod notes;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DemoServer {
    /// Adds and multiplies.
    Math,
    /// Saves texts under keys, and recalls them.
    Notes,
}

/// Serves MCP on the standard streams until the input ends.
pub async fn serve(which: DemoServer) -> anyhow::Result<()> {
    match which {
        DemoServer::Math => run(math::Math).await,
        DemoServer::Notes => run(notes::Notes::default()).await,
    }
}

async fn run<S: ServerHandler>(server: S) -> anyhow::Result<()> {
    let running = match server.serve(stdio()).await {
        Ok(running) => running,
        // A client that leaves before it says hello has done nothing wrong.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).context("the client's first message was not understood"),
    };
    running.waiting().await.context("the server ended by a panic")?;
    Ok(())
}
