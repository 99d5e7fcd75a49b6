//! The command line: reads the arguments, joins a daemon or starts a fleet for one command, prints, and ends with a code.
//!
//! What it shows is rendered in `render`; what it asks for goes through `client`, which speaks the same
//! words to a daemon and to a fleet of its own. What the product is made of, it knows by the [`house::House`] port.

mod approve;
mod args;
mod ask;
mod call;
mod client;
mod console;
mod failure;
pub mod house;
mod list;
mod log;
mod logs;
mod order;
mod remote;
mod status;
#[cfg(test)]
mod tests;
mod up;
mod why;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, Command};
use self::console::Console;
use self::failure::{Exit, Failure};
use self::house::House;
use crate::http::backend::Verb;

/// Runs the command of this process's arguments. Needs a tokio runtime.
pub async fn run(house: impl House) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is usage; a closed pipe does not matter to either.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            let _ = error.print();
            return exit.into();
        }
    };
    log::init(&cli.global, &cli.command);
    execute(cli, &house, &mut Console::of_process()).await.into()
}

/// Runs one command and says on the console what went wrong.
async fn execute(cli: Cli, house: &dyn House, console: &mut Console) -> Exit {
    let Cli { global, command } = cli;
    let done = match command {
        Command::Ask(args) => ask::run(&global, args, house, console).await,
        Command::Up => up::run(&global, house, console).await,
        Command::Status(args) => status::run(&global, &args, house, console).await,
        Command::Why(args) => why::run(&global, &args, house, console).await,
        Command::Servers(args) => list::servers(&global, args, house, console).await,
        Command::Tools(args) => list::tools(&global, args, house, console).await,
        Command::Call(args) => call::run(&global, args, house, console).await,
        Command::Restart(args) => order::run(&global, &args, Verb::Restart, house, console).await,
        Command::Stop(args) => order::run(&global, &args, Verb::Stop, house, console).await,
        Command::Start(args) => order::run(&global, &args, Verb::Start, house, console).await,
        Command::Logs(args) => logs::run(&global, &args, house, console).await,
        Command::Approve(args) => approve::run(&global, &args, house, console).await,
        Command::Check => up::check(&global, house, console),
        Command::DemoServer(args) => up::demo(args, house).await,
    };
    match done {
        Ok(()) => Exit::Success,
        Err(failure) => {
            console.complain(&failure);
            failure.exit
        }
    }
}

/// The result of a command.
type Done = Result<(), Failure>;
