//! `ostler restart`, `stop` and `start`: orders to a daemon's server.

use super::Done;
use super::args::{Global, ServerArgs};
use super::client;
use super::console::Console;
use super::failure::Failure;
use super::house::House;
use crate::http::backend::Verb;

pub(crate) async fn run(
    global: &Global,
    args: &ServerArgs,
    verb: Verb,
    house: &dyn House,
    console: &mut Console,
) -> Done {
    if global.standalone {
        return Err(Failure::usage(format!("'{}' needs a daemon; leave --standalone out", verb.as_str())));
    }
    let server = client::order(client::socket_path(global, house), &args.server, verb).await?;
    let word = match verb {
        Verb::Restart => "is being restarted",
        Verb::Stop => "is being stopped",
        Verb::Start => "is being started",
    };
    Ok(console.line(&format!("{} {word}", server.server))?)
}
