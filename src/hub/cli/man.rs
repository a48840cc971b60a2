//! `man` and `completions`, written from the tree of commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::common::cli::completions::script;
use crate::common::cli::man::{self, ManArgs, NoPage};
use crate::hub::cli::Cli;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::{fail, print};
use crate::hub::cli::uses::REFERENCE;

/// Shows or prints the manual, or writes its pages.
pub(super) fn man(args: &ManArgs) -> ExitCode {
    match man::run(Cli::command(), &REFERENCE, args) {
        Ok(text) => print(&text).map_or_else(|code| code, |()| ExitCode::Done),
        Err(error @ NoPage::Unknown { .. }) => fail(ExitCode::Usage, error),
        Err(error @ NoPage::Out { .. }) => fail(ExitCode::Unusable, error),
        // Writing to a `Vec` does not fail.
        Err(error @ NoPage::Write(_)) => fail(ExitCode::Internal, error),
    }
}

/// Prints the completion script of `shell`.
pub(super) fn completions(shell: Shell) -> ExitCode {
    print(&script(shell, Cli::command())).map_or_else(|code| code, |()| ExitCode::Done)
}
