//! `completions`: what a shell needs to complete our command line, written by `clap_complete` from the same tree. It
//! installs nothing.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Cli;
use super::out::print;
use crate::shell::exit_code::ExitCode;

/// Prints the completions of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "agentcom-sidecar", &mut script);
    print(&script)
}
