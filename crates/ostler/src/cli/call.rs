//! `ostler call`.

use serde_json::value::RawValue;
use tokio::signal::ctrl_c;

use super::Done;
use super::args::{CallArgs, Global};
use super::client::Client;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::house::House;
use crate::http::dto::{CallDto, CallRequest, millis};
use crate::http::error::ErrorBody;
use crate::http::near::suggestion;
use crate::render::result;

pub(crate) async fn run(global: &Global, args: CallArgs, house: &dyn House, console: &mut Console) -> Done {
    let arguments = object(&args.name, &args.arguments)?;
    let client = Client::open(global, house, console).await?;
    let request = CallRequest { name: args.name, arguments, timeout_ms: args.timeout.map(millis) };
    let answer = tokio::select! {
        biased;
        _ = ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
        answer = call(&client, request, console) => answer,
    };
    let done = show(answer, args.json, console);
    client.close(&done, console).await;
    done
}

async fn call(client: &Client, request: CallRequest, console: &mut Console) -> Result<CallDto, Failure> {
    let name = request.name.clone();
    client.settle(owner(client, &name).await?.as_deref(), console).await;
    let mut answer = client.call(request).await;
    if let Err(Failure { error: Some(error), .. }) = &mut answer
        && error.code == "unknown_tool"
    {
        // The one-shot fleet waited for one server only; a suggestion may come from any.
        client.settle(None, console).await;
        let tools = client.tools().await.unwrap_or_default();
        error.hint = suggestion(&name, tools.iter().map(|tool| tool.name.as_str()))
            .or_else(|| error.hint.take())
            .or_else(|| Some("'ostler tools' shows all of them".to_owned()));
    }
    answer
}

/// The server that a tool's name seems to belong to; `None` to wait for all.
pub(super) async fn owner(client: &Client, name: &str) -> Result<Option<String>, Failure> {
    let servers = client.servers().await?.into_iter().map(|server| server.server);
    Ok(servers.filter(|server| name.strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with("__"))).max())
}

fn show(answer: Result<CallDto, Failure>, as_json: bool, console: &mut Console) -> Done {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            if let (true, Some(error)) = (as_json, &failure.error) {
                let body = ErrorBody { error: (**error).clone() };
                console.foreign(&serde_json::to_string(&body).unwrap_or_default())?;
            }
            return Err(failure);
        }
    };
    if as_json {
        console.foreign(answer.result.get())?;
    } else {
        console.foreign(&result::plain(&answer.result))?;
    }
    if answer.is_error {
        console.note("the tool says that it failed");
        return Err(Failure::silent(Exit::Answer));
    }
    Ok(())
}

/// Reads the arguments of a call. Errors: what is wrong, with an example.
fn object(name: &str, text: &str) -> Result<Box<RawValue>, Failure> {
    let example = || format!("write one JSON object in quotes: ostler call {name} '{{\"key\": \"value\"}}'");
    let raw: Box<RawValue> = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("the arguments are not JSON: {error}")).with_hint(example()))?;
    if !raw.get().starts_with('{') {
        return Err(Failure::usage("the arguments are JSON, but not an object").with_hint(example()));
    }
    Ok(raw)
}
