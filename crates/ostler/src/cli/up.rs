//! `ostler up`, `check` and `demo-server`: what is the product's own to do.

use super::Done;
use super::args::{DemoArgs, Global};
use super::client::socket_path;
use super::console::Console;
use super::failure::Failure;
use super::house::{House, Up, UpOrder};

pub(crate) async fn run(global: &Global, house: &dyn House, console: &mut Console) -> Done {
    if global.standalone {
        return Err(Failure::usage("'up' is the daemon; leave --standalone out"));
    }
    let order = UpOrder { config: global.config.clone(), socket: socket_path(global, house) };
    let (announce, announced) = tokio::sync::oneshot::channel();
    let mut daemon = house.up(order, Box::new(move |up| drop(announce.send(up))));
    // Both are waited for together: the daemon runs while its word is printed.
    tokio::select! {
        biased;
        up = announced => if let Ok(up) = up {
            // A daemon does not end because nobody reads what it says.
            let _ = console.write(&announcement(&up));
        },
        ended = &mut daemon => return Ok(ended?),
    }
    Ok(daemon.await?)
}

fn announcement(up: &Up) -> String {
    let servers = if up.servers == 1 { "1 server".to_owned() } else { format!("{} servers", up.servers) };
    let ops = up.ops.map_or(String::new(), |ops| format!("metrics http://{ops}/metrics\n"));
    format!("ostler {} is up with {servers}\nsocket  {}\n{ops}", env!("CARGO_PKG_VERSION"), up.socket.display())
}

pub(crate) fn check(global: &Global, house: &dyn House, console: &mut Console) -> Done {
    let report = house.check(global.config.as_deref())?;
    Ok(console.foreign(&report)?)
}

pub(crate) async fn demo(args: DemoArgs, house: &dyn House) -> Done {
    Ok(house.demo(args.which).await?)
}
