//! The commands that need no running sidecar, as an operator types them: the real binary, what it prints and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::process::Command;
use std::time::Duration;

use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use agentcom::sidecar::exit_code::ExitCode;
use serde_json::Value;

/// The longest that a command may take: `machine` computes for a quarter of a minute where it is not optimized, and this has it
/// compute once.
const BOUND: Duration = Duration::from_secs(180);

/// Runs it in an empty folder, without anything of ours in the environment; answers its code and all it printed.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(SIDECAR);
    command.args(args).current_dir(folder.path()).env_remove("AGENTCOM_CONFIG").env_remove("AGENTCOM_TOKEN");
    let (status, text) = process::run(command, BOUND);
    (status.code(), text)
}

fn printed(args: &[&str]) -> String {
    let (code, text) = run(args);
    assert_eq!(code, Some(0), "{args:?}: {text}");
    text
}

#[test]
fn machine_gives_every_move_as_json() {
    let value: Value = serde_json::from_str(&printed(&["machine", "--format", "json"])).unwrap();
    let moves = value["moves"].as_array().unwrap();
    let from_working = |key: &str, name: &str| -> Vec<_> {
        let steps = moves.iter().filter(|step| step["from"] == "Working" && step[key] == name);
        steps.map(|step| step["to"].as_str().unwrap()).collect()
    };
    assert_eq!(from_working("said", "restart_commanded"), ["Working"]);
    assert_eq!(from_working("event", "NextRunChecked"), ["Working", "RestartPending", "Draining"]);
    let drawn = value["edges"].as_array().unwrap().iter().filter(|edge| !edge["why"].is_null());
    assert_eq!(drawn.count(), 8);
}

/// What bash offers for the last of `words`, the first of which is the program.
fn bash_offers(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completions");
    std::fs::write(&file, printed(&["completions", "bash"])).unwrap();
    let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
               $(complete -p agentcom-sidecar | grep -o '_[a-z_]*') \"$1\" \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; \
               echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", ask, "bash"]).arg(&file).args(words);
    let (status, text) = process::run(bash, wait::BOUND);
    assert!(status.success(), "{status}: {text}");
    text.trim().to_owned()
}

#[test]
fn bash_completes_a_command() {
    assert_eq!(bash_offers(&["agentcom-sidecar", "mac"]), "machine");
}

#[test]
fn bash_completes_what_follows_a_command() {
    assert_eq!(bash_offers(&["agentcom-sidecar", "status", "--w"]), "--watch");
    assert_eq!(bash_offers(&["agentcom-sidecar", "cancel-restart", "--conf"]), "--config");
    assert_eq!(bash_offers(&["agentcom-sidecar", "logs", "--fol"]), "--follow");
    assert_eq!(bash_offers(&["agentcom-sidecar", "history", "--li"]), "--limit");
    assert_eq!(bash_offers(&["agentcom-sidecar", "drain", "--time"]), "--timeout");
    assert_eq!(bash_offers(&["agentcom-sidecar", "machine", "--format", "m"]), "mermaid");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(printed(&["completions", shell]).contains("completions"), "{shell}");
    }
}

#[test]
fn the_manual_has_every_command_exit_code_file_and_variable() {
    // As troff reads it: `\-` is a hyphen.
    let page = printed(&["man"]).replace("\\-", "-").replace("\\*(Aq", "'");
    let help = printed(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for name in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(page.contains(&format!(".SS \"agentcom-sidecar {name}")), "no section for {name} in\n{page}");
    }
    for code in ExitCode::all() {
        assert!(page.contains(&format!("\\fB{}\\fR\n{}", code as u8, code.meaning())), "{code:?} in\n{page}");
    }
    for name in ["AGENTCOM_CONFIG", "AGENTCOM_TOKEN", "PM2_HOME", "queue.json", "results/"] {
        assert!(page.contains(&format!("\\fB{name}\\fR")), "{name} in\n{page}");
    }
}

#[test]
fn the_programs_name_does_not_stand_where_a_page_has_its_date() {
    let source = concat!("\"agentcom-sidecar ", env!("CARGO_PKG_VERSION"), "\"");
    for page in [printed(&["man"]), printed(&["man", "status"])] {
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(title.contains(&format!(" 1 \" \" {source}")), "{title}");
    }
}

#[test]
fn one_command_has_a_page_of_its_own() {
    let page = printed(&["man", "machine"]).replace("\\-", "-").replace("\\*(Aq", "'");
    assert!(page.contains(".SH OPTIONS") && page.contains("--format") && !page.contains("completions"), "{page}");
}

#[test]
fn every_command_has_examples_in_its_long_help() {
    let help = printed(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for name in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(printed(&[name, "--help"]).contains("Examples:\n  "), "{name}");
    }
}

#[test]
fn the_documented_exit_codes_are_those_of_the_code() {
    let doc = include_str!("../../docs/configuration.md");
    for code in ExitCode::all() {
        let row = format!("| {} | {} |", code as u8, code.meaning());
        assert!(doc.contains(&row), "docs/configuration.md lacks {row}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut shell = Command::new("bash");
    shell.args(["-c", "set -o pipefail; \"$0\" man | head -1 > /dev/null; \"$0\" man | true"]).arg(SIDECAR);
    let (status, text) = process::run(shell, wait::BOUND);
    assert!(status.success() && text.is_empty(), "{status}: {text}");
}
