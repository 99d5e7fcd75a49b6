//! `ostler ask`.

use tokio::signal::ctrl_c;

use super::Done;
use super::args::{AskArgs, Global};
use super::client::Client;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use crate::http::dto::{AskRequest, millis};
use crate::http::event::AskEvent;
use crate::render::ask::Teller;

/// Why a model stops when it is done with an answer; any other reason leaves one that nobody should rely on.
const DONE: [&str; 2] = ["end_turn", "stop_sequence"];

pub(crate) async fn run(global: &Global, args: AskArgs, house: &dyn House, console: &mut Console) -> Done {
    let client = Client::open(global, house, console).await?;
    let done = tokio::select! {
        biased;
        _ = ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
        done = tell(&client, args, console) => done,
    };
    client.close(&done, console).await;
    done
}

async fn tell(client: &Client, args: AskArgs, console: &mut Console) -> Done {
    let mut teller = Teller::new(console.style, args.prompts.len());
    let request = AskRequest { prompts: args.prompts, wait_ms: millis(args.wait), replay: false };
    let mut asking = client.ask(request).await?;
    let mut done = Ok(());
    while let Some(event) = asking.events.recv().await {
        if args.json {
            console.line(&serde_json::to_string(&event).unwrap_or_default())?;
        } else {
            console.write(&teller.tell(&event))?;
        }
        match event {
            AskEvent::Done => return done,
            AskEvent::Failed { error } => done = Err(error.into()),
            AskEvent::Answer(answer) if !DONE.contains(&answer.stop.as_str()) => {
                console.note(&format!("the answer is not complete: the model stopped with {}", answer.stop));
                done = Err(Failure::silent(Exit::Answer));
            }
            AskEvent::ServerUp { .. }
            | AskEvent::ServerDown { .. }
            | AskEvent::Notice { .. }
            | AskEvent::GoingAhead { .. }
            | AskEvent::Model(_)
            | AskEvent::Prompt { .. }
            | AskEvent::Asking { .. }
            | AskEvent::Text { .. }
            | AskEvent::Retrying { .. }
            | AskEvent::ToolStarted { .. }
            | AskEvent::ToolEnded { .. }
            | AskEvent::Answer(_) => {}
        }
    }
    Err(asking.broken().await)
}
