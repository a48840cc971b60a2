//! The sidecar's main: one line a command. What each does is in its own file under `cli`.

use std::process::ExitCode as ProcessExit;

use agentcom::cli::{self, Cli, Command};
use clap::Parser;

pub(crate) fn main() -> ProcessExit {
    let Cli { options, command } = Cli::parse();
    let code = match command.unwrap_or(Command::Run) {
        Command::Run => cli::run(options),
        Command::Check(args) => cli::check(&options, &args),
        Command::Onboard(args) => cli::onboard(&options, &args),
        Command::Machine(args) => cli::machine(&args),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man { command } => cli::man(command.as_deref()),
    };
    code.into()
}
