//! What the command line is the front of: the real configuration, the real house, the demo servers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ostler_core::port::BoxFuture;

use crate::app::{App, AppBackend, AppOptions, BackendFacts, StartError, up};
use crate::cli::house::{Announce, Complaint, Demo, House, Started, Up, UpOrder};
use crate::config::{Config, ConfigErrors, Source};
use crate::demo::{self, DemoServer};

/// Runs the command line of this process to its end.
pub(crate) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("ostler: this machine gives no threads: {error}\n"),
            );
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(crate::cli::run(Product));
    // Nothing that blocks, like a read of the terminal, may hold the process back.
    runtime.shutdown_background();
    exit
}

/// The product.
struct Product;

impl House for Product {
    fn socket(&self, config: Option<&Path>) -> Option<PathBuf> {
        Config::daemon(config).map(|daemon| daemon.socket)
    }

    fn check(&self, config: Option<&Path>) -> Result<String, Complaint> {
        let config = load(config)?;
        let mut report = format!("{}: {}, all well\n", config.source, counted(config.servers.len(), "server"));
        for notice in &config.notices {
            report.extend(["notice: ", notice, "\n"]);
        }
        Ok(report)
    }

    fn start(&self, config: Option<PathBuf>) -> BoxFuture<'_, Result<Started, Complaint>> {
        Box::pin(async move {
            let config = load_aside(config).await?;
            let patience = patience(&config);
            let app = App::start(&config, AppOptions::default()).await.map_err(|error| unfounded(&error))?;
            let backend = AppBackend::new(&app, BackendFacts { config: path(&config), ..BackendFacts::default() });
            let stop = Box::new(move || -> BoxFuture<'static, ()> {
                Box::pin(async move {
                    app.shutdown().await;
                })
            });
            Ok(Started { backend, patience, stop })
        })
    }

    fn up(&self, order: UpOrder, announce: Announce) -> BoxFuture<'_, Result<(), Complaint>> {
        Box::pin(async move {
            let mut config = load_aside(order.config).await?;
            config.daemon.socket = order.socket;
            for notice in &config.notices {
                tracing::warn!(notice, "the configuration has something to note");
            }
            let servers = config.servers.iter().filter(|server| server.enabled).count();
            let announce = |listening: &crate::app::Listening| {
                announce(Up { socket: listening.socket.clone(), ops: listening.ops, servers });
            };
            up(config, AppOptions::default(), announce).await.map_err(|error| Complaint::Failed(error.to_string()))
        })
    }

    fn demo(&self, which: Demo) -> BoxFuture<'_, Result<(), Complaint>> {
        let which = match which {
            Demo::Math => DemoServer::Math,
            Demo::Notes => DemoServer::Notes,
        };
        Box::pin(async move { demo::serve(which).await.map_err(|error| Complaint::Failed(format!("{error:#}"))) })
    }
}

/// Loads a configuration away from the runtime's threads: it reads files and may run commands.
async fn load_aside(path: Option<PathBuf>) -> Result<Config, Complaint> {
    match tokio::task::spawn_blocking(move || load(path.as_deref())).await {
        Ok(result) => result,
        Err(error) => {
            Err(Complaint::Failed(format!("reading the configuration failed: {error}; this is a bug in ostler")))
        }
    }
}

fn load(path: Option<&Path>) -> Result<Config, Complaint> {
    Config::load(path).map_err(|errors: ConfigErrors| Complaint::Config(errors.to_string()))
}

fn unfounded(error: &StartError) -> Complaint {
    match error {
        StartError::Script { .. } | StartError::Model(_) => Complaint::Config(error.to_string()),
        StartError::Tree(_) => Complaint::Failed(error.to_string()),
    }
}

/// How long the slowest server may take to come up.
fn patience(config: &Config) -> Duration {
    let enabled = config.servers.iter().filter(|server| server.enabled);
    enabled.map(|server| server.policy.start_timeout).max().unwrap_or_default()
}

fn path(config: &Config) -> Option<PathBuf> {
    match &config.source {
        Source::File(path) => Some(path.clone()),
        Source::BuiltIn => None,
    }
}

/// `1 server`, `2 servers`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
