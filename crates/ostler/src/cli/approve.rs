//! `ostler approve`.

use super::Done;
use super::args::{ApproveArgs, Global};
use super::client::{Client, socket_path};
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use super::remote::Remote;
use crate::http::dto::{Approval, LaunchDto};
use crate::render::text::clean;

pub(crate) async fn run(global: &Global, args: &ApproveArgs, house: &dyn House, console: &mut Console) -> Done {
    let remote = Remote::new(socket_path(global, house));
    let is_there = !global.standalone && Client::joinable(&remote, global).await?.is_ok();
    let daemon = is_there.then_some(remote);
    let launch = match &daemon {
        Some(daemon) => daemon.launch(&args.server).await?,
        None => house.launch(global.config.clone(), args.server.clone()).await?,
    };
    console.write(&shown(&launch))?;
    match launch.approval {
        Approval::NotNeeded => return Ok(console.line("it needs no approval: the file is your own")?),
        Approval::Given => return Ok(console.line("it is approved already")?),
        Approval::Missing => {}
        Approval::Changed => console.note("another launch line was approved before; this one is new"),
    }
    if !args.yes {
        // Nothing else runs in this command, so the answer may be waited for here.
        match console.confirm("may this be run as you?")? {
            Some(true) => {}
            Some(false) => {
                console.note("not approved");
                return Err(Failure::silent(Exit::Answer));
            }
            None => {
                return Err(Failure::usage("there is no terminal to ask on")
                    .with_hint("read the launch line above; if it is right, add --yes"));
            }
        }
    }
    // The digest of what was shown goes with it: what has changed meanwhile is not approved.
    if let Some(daemon) = &daemon {
        daemon.approve(&launch).await?;
        return Ok(console.line(&format!("{} is approved, and started if it was waiting for that", launch.server))?);
    }
    let line = format!("{} is approved", launch.server);
    house.approve(global.config.clone(), launch).await?;
    Ok(console.line(&line)?)
}

fn shown(launch: &LaunchDto) -> String {
    format!("{}\n  from  {}\n  runs  {}\n", launch.server, clean(&launch.origin), clean(&launch.line))
}
