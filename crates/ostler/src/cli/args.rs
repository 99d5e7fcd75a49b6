//! The arguments, as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps a stable of MCP servers: supervised, merged into one namespace, called by a model.
#[derive(Debug, Parser)]
#[command(name = "ostler", version, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration: our own TOML, or a JSON file with "mcpServers"
    #[arg(long, global = true, value_name = "FILE", env = "OSTLER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "OSTLER_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// Do not join a running daemon; start a fleet for this command
    #[arg(long, global = true)]
    pub(crate) standalone: bool,
    /// Say more; again for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log lines on standard error look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask the model; it may call the tools of the fleet
    Ask(AskArgs),
    /// Run the daemon: keep the fleet alive, serve the socket and the ops listener
    Up,
    /// Show at one glance how the daemon's fleet is
    Status(StatusArgs),
    /// Say why a server or a tool is as it is, and what to do about it
    Why(WhyArgs),
    /// Show the servers and how they are; -v for everything known
    Servers(ServersArgs),
    /// Show the tools of all servers
    Tools(ToolsArgs),
    /// Call one tool
    Call(CallArgs),
    /// End servers and start them again; several one after the other
    Restart(TargetArgs),
    /// End servers until they are started
    Stop(TargetArgs),
    /// Start servers now
    Start(TargetArgs),
    /// Show what a server writes to its standard error
    Logs(LogsArgs),
    /// Show the whole launch line of a server, and approve it
    Approve(ApproveArgs),
    /// Check the configuration and say everything that is wrong with it
    Check,
    /// Be one of the two demonstration servers, on standard input and output
    DemoServer(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// What to say, in order, in one conversation
    #[arg(required = true, value_name = "PROMPT")]
    pub(crate) prompts: Vec<String>,
    /// How long to wait for servers that are still coming up
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) wait: Duration,
    /// Print every event as one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServersArgs {
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ToolsArgs {
    /// Only tools whose names start so
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The tool, as `ostler tools` shows it
    pub(crate) name: String,
    /// Its arguments: a JSON object
    #[arg(default_value = "{}")]
    pub(crate) arguments: String,
    /// When to give up; without it the server's own limit holds
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print the raw result
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again every second, until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// A server, or a tool as `ostler tools` shows it
    #[arg(value_name = "TOOL_OR_SERVER")]
    pub(crate) name: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetArgs {
    /// Which servers
    #[arg(value_name = "SERVER")]
    pub(crate) servers: Vec<String>,
    /// All servers of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Which server
    pub(crate) server: String,
    /// Go on with what it writes from now on, also after a restart
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Which server
    pub(crate) server: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Which one
    #[arg(value_enum)]
    pub(crate) which: Demo,
}

/// The demonstration servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Demo {
    /// Adds and multiplies
    Math,
    /// Keeps notes while it lives
    Notes,
}

/// Reads `500ms`, `30s`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number with its unit, like 500ms, 30s, 2m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write a whole number before the unit, like 30s".to_owned())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_order_is_to_servers_or_to_a_group() {
        let targets = |line: &[&str]| {
            let cli = Cli::try_parse_from([&["ostler", "restart"], line].concat()).ok()?;
            let Command::Restart(TargetArgs { servers, group }) = cli.command else { return None };
            Some((servers.join(" "), group))
        };
        assert_eq!(targets(&["a", "b"]), Some(("a b".to_owned(), None)));
        assert_eq!(targets(&["--group", "g"]), Some((String::new(), Some("g".to_owned()))));
        assert_eq!(targets(&[]), None);
        assert_eq!(targets(&["a", "--group", "g"]), None);
    }

    #[test]
    fn a_duration_has_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("2m", Some(120_000));
        check("1h", Some(3_600_000));
        check("30", None);
        check("s", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("18446744073709551615h", None);
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [["ostler", "-v", "servers"], ["ostler", "servers", "-v"]] {
            assert_eq!(Cli::try_parse_from(line).expect("it parses").global.verbose, 1);
        }
    }
}
