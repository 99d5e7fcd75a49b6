//! `ostler why`.

use tokio::signal::ctrl_c;

use super::Done;
use super::args::{Global, WhyArgs};
use super::call::owner;
use super::client::Client;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use crate::http::dto::{Subject, WhyDto};
use crate::render::why;

pub(crate) async fn run(global: &Global, args: &WhyArgs, house: &dyn House, console: &mut Console) -> Done {
    if args.name.is_empty() {
        return Err(Failure::usage("write the name of a server or of a tool"));
    }
    let client = Client::open(global, house, console).await?;
    let answer = tokio::select! {
        biased;
        _ = ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
        answer = ask(&client, &args.name, console) => answer,
    };
    client.close(&answer, console).await;
    let answer = answer?;
    if args.json {
        console.foreign(&serde_json::to_string_pretty(&answer).unwrap_or_default())?;
    } else {
        console.write(&why::answer(&answer, console.style))?;
    }
    match answer.subject {
        Subject::Server | Subject::Tool => Ok(()),
        Subject::Nothing => Err(Failure::silent(Exit::Answer)),
    }
}

async fn ask(client: &Client, name: &str, console: &mut Console) -> Result<WhyDto, Failure> {
    let is_server = client.servers().await?.iter().any(|server| server.server.eq_ignore_ascii_case(name));
    let owner = if is_server { Some(name.to_lowercase()) } else { owner(client, name).await? };
    client.settle(owner.as_deref(), console).await;
    client.why(name).await
}
