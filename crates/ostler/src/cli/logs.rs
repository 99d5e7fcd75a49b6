//! `ostler logs`.

use tokio::signal::ctrl_c;

use super::Done;
use super::args::{Global, LogsArgs};
use super::client::socket_path;
use super::console::Console;
use super::failure::Failure;
use super::house::House;
use super::remote::Remote;
use crate::http::backend::Follow;
use crate::http::dto::LogDto;

pub(crate) async fn run(global: &Global, args: &LogsArgs, house: &dyn House, console: &mut Console) -> Done {
    if global.standalone {
        return Err(Failure::usage("'logs' needs a daemon; leave --standalone out"));
    }
    let follow = if args.follow { Follow::Yes } else { Follow::No };
    let mut logs = Remote::new(socket_path(global, house)).logs(&args.server, follow).await?;
    let mut last = None;
    loop {
        let piece = tokio::select! {
            biased;
            // Nobody ends a `-f` in another way.
            _ = ctrl_c(), if args.follow => return Ok(()),
            piece = logs.next() => piece?,
        };
        let Some(piece) = piece else { break };
        if args.json {
            console.line(&serde_json::to_string(&piece).unwrap_or_default())?;
        }
        match piece {
            LogDto::Line { number, text } => {
                let missing = last.map_or(0, |last: u64| number.saturating_sub(last + 1));
                last = Some(number);
                if !args.json {
                    if missing > 0 {
                        console.note(&format!("({missing} lines of a flood were dropped here)"));
                    }
                    console.foreign(&text)?;
                }
            }
            LogDto::Began => {
                last = Some(0);
                if !args.json {
                    console.note(&format!("({} was started again)", args.server));
                }
            }
        }
    }
    if last.is_none() && !args.json {
        console.note(&format!("{} has written nothing to its standard error since the daemon runs", args.server));
    }
    Ok(())
}
