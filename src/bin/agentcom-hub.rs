//! The entry point of the hub: see `agentcom-hub --help`.

use std::process::ExitCode;

use agentcom::common::signals;
use agentcom::hub::cli;
use clap::Parser as _;

fn main() -> ExitCode {
    signals::hold();
    cli::run(cli::Cli::parse())
}
