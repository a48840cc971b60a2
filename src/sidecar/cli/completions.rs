//! `completions`: prints the completion script of a shell, which `clap_complete` writes from the clap tree. It installs
//! nothing.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::sidecar::cli::Cli;
use crate::sidecar::cli::out::print;
use crate::sidecar::exit_code::ExitCode;

/// Prints the completion script of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "agentcom-sidecar", &mut script);
    print(&fix_bash_script(shell, script))
}

/// Works around clap's issue 6421 (open as of 4.6.11): where the program's name has a hyphen, `clap_complete` names the
/// states of its bash script in two ways, and nothing is completed after a command. A script without the bug is
/// unchanged.
fn fix_bash_script(shell: Shell, script: Vec<u8>) -> Vec<u8> {
    if shell != Shell::Bash {
        return script;
    }
    let text = String::from_utf8_lossy(&script);
    text.replace("agentcom__subcmd__sidecar__subcmd__", "agentcom__sidecar__subcmd__").into_bytes()
}
