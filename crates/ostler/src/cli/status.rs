//! `ostler status`.

use std::time::Duration;

use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};

use super::Done;
use super::args::{Global, StatusArgs};
use super::client::socket_path;
use super::console::Console;
use super::failure::Failure;
use super::house::House;
use super::remote::Remote;
use crate::http::dto::{ServerDto, StatusDto};
use crate::render::{servers as table, status};

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    status: StatusDto,
    servers: Vec<ServerDto>,
}

pub(crate) async fn run(global: &Global, args: &StatusArgs, house: &dyn House, console: &mut Console) -> Done {
    if global.standalone {
        return Err(Failure::usage("'status' is of a daemon; leave --standalone out, or use 'ostler servers'"));
    }
    let remote = Remote::new(socket_path(global, house));
    if !args.watch {
        let report = look(&remote).await?;
        if args.json {
            return Ok(console.foreign(&serde_json::to_string_pretty(&report).unwrap_or_default())?);
        }
        return Ok(console.write(&text(&report, console))?);
    }
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_first = true;
    loop {
        let report = tokio::select! {
            biased;
            // Nobody ends a watch in another way.
            _ = ctrl_c() => return Ok(()),
            report = async { ticks.tick().await; look(&remote).await } => report?,
        };
        if args.json {
            console.line(&serde_json::to_string(&report).unwrap_or_default())?;
        } else if console.style.is_terminal() {
            console.write(&status::redraw(&text(&report, console)))?;
        } else {
            let gap = if is_first { "" } else { "\n" };
            console.write(&format!("{gap}{}", text(&report, console)))?;
        }
        is_first = false;
    }
}

async fn look(remote: &Remote) -> Result<Report, Failure> {
    Ok(Report { status: remote.status().await?, servers: remote.servers().await? })
}

fn text(report: &Report, console: &Console) -> String {
    let head = status::head(&report.status, &report.servers, console.style);
    let table = if report.servers.is_empty() { String::new() } else { table::table(&report.servers, console.style) };
    head + &table
}
