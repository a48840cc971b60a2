//! The entry point of the hub: see `agentcom-hub --help`.

use std::process::ExitCode;

use agentcom::hub::cli;
use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
