//! What the command line is the front of: the real configuration, the real house, the demo servers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::port::{BoxFuture, Journal};

use crate::app::{self, App, AppBackend, AppOptions, BackendFacts, Consents, StartError, up};
use crate::cli::house::{Announce, Complaint, Demo, House, Started, Up, UpOrder};
use crate::config::{Config, ConfigErrors, Program, Server, Source, Transport};
use crate::demo::{self, DemoServer};
use crate::http::dto::LaunchDto;
use crate::http::near::suggestion;

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
        let missing = config.servers.iter().filter_map(not_found);
        let notices: Vec<String> = config.notices.iter().cloned().chain(missing).collect();
        let verdict = match notices.len() {
            0 => "all well".to_owned(),
            notices => format!("no mistakes, {}", counted(notices, "notice")),
        };
        let mut report = format!("{}: {}, {verdict}\n", config.source, counted(config.servers.len(), "server"));
        for notice in &notices {
            report.extend(["notice: ", notice, "\n"]);
        }
        Ok(report)
    }

    fn start(&self, config: Option<PathBuf>) -> BoxFuture<'_, Result<Started, Complaint>> {
        Box::pin(async move {
            let config = load_aside(config).await?;
            let patience = patience(&config);
            let options = AppOptions { store: approvals(&config).await, ..AppOptions::default() };
            let app = App::start(&config, options).await.map_err(|error| unfounded(&error))?;
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
            let config = load_aside(order.config).await?;
            for notice in &config.notices {
                tracing::warn!(notice, "the configuration has something to note");
            }
            let servers = config.servers.iter().filter(|server| server.enabled).count();
            let announce = |listening: &crate::app::Listening| {
                announce(Up { socket: listening.socket.clone(), ops: listening.ops, servers });
            };
            let options = AppOptions { socket: Some(order.socket), ..AppOptions::default() };
            up(config, options, announce).await.map_err(|error| Complaint::Failed(error.to_string()))
        })
    }

    fn launch(&self, config: Option<PathBuf>, server: String) -> BoxFuture<'_, Result<LaunchDto, Complaint>> {
        Box::pin(async move {
            let config = load_aside(config).await?;
            aside(move || {
                let server = named(&config, &server)?;
                if !server.needs_consent() {
                    return Ok(app::launch_of(server, &Consents::default()));
                }
                let store = app::store(&config.daemon.state).map_err(Complaint::Failed)?;
                Ok(app::launch_of(server, &Consents::new(Some(store))))
            })
            .await
        })
    }

    fn approve(&self, config: Option<PathBuf>, launch: LaunchDto) -> BoxFuture<'_, Result<(), Complaint>> {
        Box::pin(async move {
            let config = load_aside(config).await?;
            aside(move || {
                let server = named(&config, &launch.server)?;
                let store = app::store(&config.daemon.state).map_err(Complaint::Failed)?;
                let consents = Consents::new(Some(store));
                consents.approve(server, &launch.digest).map_err(|error| Complaint::Failed(error.to_string()))
            })
            .await
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
    aside(move || load(path.as_deref())).await
}

/// Does what waits for disks away from the runtime's threads.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Complaint> + Send + 'static,
) -> Result<T, Complaint> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Complaint::Failed(format!("reading the configuration failed: {error}; this is a bug in ostler")))
        }
    }
}

/// The server with this name. Errors: there is none, with the nearest names.
fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Server, Complaint> {
    let found = config.servers.iter().find(|server| server.id.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names = config.servers.iter().map(|server| server.id.as_str());
        let hint = suggestion(name, names).map_or(String::new(), |hint| format!("; {hint}"));
        Complaint::Config(format!("no server is called '{name}'{hint}"))
    })
}

/// What was approved, for a fleet of one command. `None`: nothing of it needs an approval, or it cannot be had now.
async fn approvals(config: &Config) -> Option<Arc<dyn Journal>> {
    if !config.servers.iter().any(|server| server.enabled && server.needs_consent()) {
        return None;
    }
    let (folder, servers) = (config.daemon.state.clone(), config.servers.clone());
    let opened = aside(move || {
        let store = app::store(&folder).map_err(Complaint::Failed)?;
        Ok(app::noted(&*store, &servers))
    })
    .await;
    if let Err(Complaint::Failed(error) | Complaint::Config(error)) = &opened {
        tracing::warn!(error, "what was approved cannot be read");
    }
    opened.ok()
}

/// What is said of a server whose program is nowhere to be found. It is no error: it may be installed later.
fn not_found(server: &Server) -> Option<String> {
    let Transport::Stdio { program: Program::Named(program), .. } = &server.transport else { return None };
    if !server.enabled || server.binary().is_some() {
        return None;
    }
    let (name, program) = (&server.configured_name, program.to_string_lossy());
    Some(if program.contains('/') {
        format!("servers.{name}.command: {program:?} is no file that can be run; correct the path, or install it")
    } else {
        format!("servers.{name}.command: {program:?} is not found in PATH; install it, or write its whole path")
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("ostler.toml");
        std::fs::write(&path, text).expect("written");
        let report = Product.check(Some(&path)).expect("no mistakes");
        report.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn a_check_says_which_commands_are_not_there() {
        let well = "[servers.a]\ncommand = \"sh\"\n[servers.b]\ncommand = \"ostler\"\n";
        assert_eq!(check(well), "FILE: 2 servers, all well\n");
        let off = "[servers.a]\ncommand = \"no-such-program\"\nenabled = false\n";
        assert_eq!(check(off), "FILE: 1 server, all well\n");
        let missing = "[servers.a]\ncommand = \"no-such-program\"\n[servers.b]\ncommand = \"/no/such/file\"\n";
        insta::assert_snapshot!(check(missing), @r#"
FILE: 2 servers, no mistakes, 2 notices
notice: servers.a.command: "no-such-program" is not found in PATH; install it, or write its whole path
notice: servers.b.command: "/no/such/file" is no file that can be run; correct the path, or install it
"#);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_nearest() {
        let config = Config::load(None).expect("the built-in one is sound");
        assert_eq!(named(&config, "MATH").map(|server| server.id.as_str()), Ok("math"));
        let complaint = Complaint::Config("no server is called 'mth'; did you mean 'math'?".to_owned());
        assert_eq!(named(&config, "mth").err(), Some(complaint));
    }
}
