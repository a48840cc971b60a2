//! The entry point of the sidecar. Each command is in its own file under `cli`.

use std::process::ExitCode as ProcessExit;
use std::time::Instant;

use agentcom::common::signals;
use agentcom::sidecar::cli;
use agentcom::sidecar::cli::{Cli, Command, Options};
use agentcom::sidecar::exit_code::ExitCode;

pub(crate) fn main() -> ProcessExit {
    let began = Instant::now();
    if let Some(end) = agentcom::sidecar::agent::supervised::main_if_asked(std::env::args_os().skip(1)) {
        return end;
    }
    signals::hold();
    let Cli { options, command } = cli::parse();
    let code = match command {
        None | Some(Command::Run) => cli::run(options, began),
        Some(command) => {
            signals::release();
            operate(options, command, began)
        }
    };
    code.into()
}

/// Carries out a command. Not inlined: `run` would carry the stack of all of them for as long as the process lives.
#[inline(never)]
fn operate(options: Options, command: Command, began: Instant) -> ExitCode {
    match command {
        Command::Run => cli::run(options, began),
        Command::Status(args) => cli::status(&options, &args),
        Command::Restart(args) => cli::restart(&options, args),
        Command::CancelRestart(args) => cli::cancel_restart(&options, args),
        Command::Drain(args) => cli::drain(&options, &args),
        Command::Resume(args) => cli::resume(&options, args),
        Command::Reload(args) => cli::reload(&options, args),
        Command::History(args) => cli::history(&options, &args),
        Command::Logs(args) => cli::logs(&options, &args),
        Command::Check(args) => cli::check(&options, &args),
        Command::Onboard(args) => cli::onboard(&options, &args),
        Command::Session(args) => cli::session(args),
        Command::Machine(args) => cli::machine(&args),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man(args) => cli::man(&args),
    }
}
