//! The completion scripts of shells, which `clap_complete` writes from a clap tree. It installs nothing.

use clap_complete::{Shell, generate};

/// Returns the completion script of `shell` for a program.
pub fn script(shell: Shell, mut program: clap::Command) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut program, &name, &mut script);
    fix_bash_script(shell, &name, script)
}

/// Works around clap's issue 6421 (open as of 4.6.11): where the program's name has a hyphen, `clap_complete` names the
/// states of its bash script in two ways, and nothing is completed after a command. A script without the bug is
/// unchanged.
fn fix_bash_script(shell: Shell, name: &str, script: Vec<u8>) -> Vec<u8> {
    if shell != Shell::Bash {
        return script;
    }
    let (found, used) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    let text = String::from_utf8_lossy(&script);
    text.replace(&format!("{found}__subcmd__"), &format!("{used}__subcmd__")).into_bytes()
}
