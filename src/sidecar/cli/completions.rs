//! `completions`: what a shell needs to complete our command line, written by `clap_complete` from the same tree. It
//! installs nothing.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::sidecar::cli::Cli;
use crate::sidecar::cli::out::print;
use crate::sidecar::exit_code::ExitCode;

/// Prints the completions of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "agentcom-sidecar", &mut script);
    print(&mended(shell, script))
}

/// `clap_complete` names the states of its bash script in two ways where the program's name has a hyphen, so that nothing
/// is offered after a command (clap's issue 6421, open as of 4.6.11); this makes the two one, and is nothing without it.
fn mended(shell: Shell, script: Vec<u8>) -> Vec<u8> {
    if shell != Shell::Bash {
        return script;
    }
    let text = String::from_utf8_lossy(&script);
    text.replace("agentcom__subcmd__sidecar__subcmd__", "agentcom__sidecar__subcmd__").into_bytes()
}
