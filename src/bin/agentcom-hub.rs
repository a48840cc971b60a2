//! The entry point of the hub: see `agentcom-hub --help`.

use std::process::ExitCode;

use agentcom::common::signals;
use agentcom::hub::cli;

fn main() -> ExitCode {
    signals::hold();
    cli::run(cli::parse())
}
