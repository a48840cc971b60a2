//! `man` and `completions`, written from the tree of commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::common::cli::completions::script;
use crate::common::cli::man::{self, ManArgs, NoPage};
use crate::sidecar::cli::Cli;
use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::cli::uses::REFERENCE;
use crate::sidecar::exit_code::ExitCode;

/// Shows or prints the manual, or writes its pages.
pub fn man(args: &ManArgs) -> ExitCode {
    match man::run(Cli::command(), &REFERENCE, args) {
        Ok(text) => print(&text),
        Err(error @ NoPage::Unknown { .. }) => print_error(&error, ExitCode::Usage),
        Err(error @ NoPage::Out { .. }) => print_error(&error, ExitCode::StateUnusable),
        // Writing to a `Vec` does not fail.
        Err(error @ NoPage::Write(_)) => print_error(&error, ExitCode::Internal),
    }
}

/// Prints the completion script of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    print(&script(shell, Cli::command()))
}
