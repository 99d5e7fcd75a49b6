//! `ostler servers` and `ostler tools`.

use tokio::signal::ctrl_c;

use super::Done;
use super::args::{Global, ServersArgs, ToolsArgs};
use super::client::Client;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use crate::http::dto::{ServerDto, ToolDto};
use crate::render::{servers as table, tools as tool_table};

pub(crate) async fn servers(global: &Global, args: ServersArgs, house: &dyn House, console: &mut Console) -> Done {
    let (servers, _) = look(global, house, console).await?;
    if args.json {
        return Ok(console.foreign(&serde_json::to_string_pretty(&servers).unwrap_or_default())?);
    }
    if servers.is_empty() {
        console.note("no server is configured");
        return Ok(());
    }
    console.write(&table::table(&servers, console.style))?;
    if global.verbose > 0 {
        for server in &servers {
            console.write(&format!("\n{}", table::details(server)))?;
        }
    }
    Ok(())
}

pub(crate) async fn tools(global: &Global, args: ToolsArgs, house: &dyn House, console: &mut Console) -> Done {
    let (servers, mut tools) = look(global, house, console).await?;
    tools.retain(|tool| tool.name.starts_with(&args.prefix));
    if args.json {
        console.foreign(&serde_json::to_string_pretty(&tools).unwrap_or_default())?;
    } else {
        console.write(&tool_table::table(&tools, console.style))?;
    }
    if tools.is_empty() {
        console.note(&if args.prefix.is_empty() {
            "there are no tools".to_owned()
        } else {
            format!("no tool's name starts with '{}'", args.prefix)
        });
    }
    let down: Vec<_> = servers.iter().filter(|server| !table::is_up(server)).map(|server| &*server.server).collect();
    if !down.is_empty() {
        console.note(&format!("not up: {}; 'ostler servers' says why", down.join(", ")));
    }
    Ok(())
}

/// Takes one look at a fleet that has settled.
async fn look(
    global: &Global,
    house: &dyn House,
    console: &mut Console,
) -> Result<(Vec<ServerDto>, Vec<ToolDto>), Failure> {
    let client = Client::open(global, house, console).await?;
    let seen = tokio::select! {
        biased;
        _ = ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
        seen = async {
            client.settle(None, console).await;
            Ok((client.servers().await?, client.tools().await?))
        } => seen,
    };
    client.close(&seen, console).await;
    seen
}
