//! What needs no hub: help, the manual, completions.

use std::process::Command;

use crate::cli::said;
use crate::support::{folder, hub_command};

fn printed(args: &[&str]) -> String {
    let output = hub_command().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const COMMANDS: [&str; 25] = [
    "serve",
    "agents",
    "agent",
    "tasks",
    "task",
    "submit",
    "cancel",
    "retry",
    "restart",
    "restarts",
    "rollout",
    "drain",
    "resume",
    "healing",
    "events",
    "label",
    "token",
    "invite",
    "audit",
    "store",
    "backup",
    "restore",
    "check",
    "completions",
    "man",
];

#[test]
fn the_help_names_every_command_and_every_exit_code() {
    let help = printed(&["--help"]);
    for command in COMMANDS {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(command)), "{command}: {help}");
        printed(&[command, "--help"]);
    }
    for code in ["0", "1", "2", "65", "69", "70", "71", "74", "75", "77", "78", "124"] {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(code)), "{code}: {help}");
    }
    assert!(help.contains("AGENTCOM_HUB_URL") && printed(&["-h"]).contains("Exit codes:"));
}

#[test]
fn every_client_command_takes_the_same_hubs() {
    for command in &COMMANDS[1..23] {
        let args: Vec<&str> = match *command {
            "store" => vec!["store", "check", "--help"],
            "rollout" => vec!["rollout", "retry-failed", "--help"],
            _ => vec![command, "--help"],
        };
        let help = printed(&args);
        for option in ["--hub <URL>", "--token-file <FILE>", "--data <DIR>", "AGENTCOM_HUB_DATA"] {
            assert!(help.contains(option), "{command} has no {option}: {help}");
        }
    }
}

#[test]
fn the_manual_has_every_command_and_a_page_for_each() {
    let manual = printed(&["man"]);
    for word in [
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "agentcom-hub token list",
        "agentcom-hub restart [OPTIONS]",
        "agentcom-hub rollout retry-failed",
    ] {
        assert!(manual.contains(word), "{word}");
    }
    assert!(printed(&["man", "token", "revoke"]).contains(".TH"));
    let unknown = hub_command().args(["man", "dance"]).output().unwrap();
    assert_eq!((unknown.status.code(), said(&unknown).contains("the commands are: serve")), (Some(2), true));
}

#[test]
fn packages_get_a_page_for_each_command_and_one_below_another() {
    let folder = folder();
    let said = printed(&["man", "-o", folder.path().to_str().unwrap()]);
    let page = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
    assert!(page("agentcom-hub").contains("agentcom-hub token list"), "{said}");
    for name in
        ["agentcom-hub-serve", "agentcom-hub-token", "agentcom-hub-token-list", "agentcom-hub-rollout-retry-failed"]
    {
        assert!(page(name).contains(&format!(".TH {name} 1")), "{name}: {}", page(name));
    }
    let count = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(count > COMMANDS.len() && said.starts_with(&format!("{count} pages written to ")), "{said}");
}

#[test]
fn the_help_of_a_command_ends_with_what_it_uses() {
    let help = printed(&["token", "list", "--help"]);
    let (_, uses) = help.split_once("\nEnvironment:\n").unwrap();
    assert!(uses.contains("AGENTCOM_HUB_DATA") && uses.contains("hub.sock") && uses.contains("\n   77  "), "{help}");
    assert!(!uses.contains("COLUMNS") && !uses.contains("\n    1  ") && !uses.contains("\n  124  "), "{help}");
}

#[test]
fn in_a_terminal_the_manual_is_no_troff_source() {
    let line = format!("PATH= PAGER= exec {} man token revoke", env!("CARGO_BIN_EXE_agentcom-hub"));
    let output = Command::new("script").args(["-qefc", &line, "/dev/null"]).env("SHELL", "/bin/sh").output().unwrap();
    let shown = said(&output);
    assert!(shown.contains("Usage: agentcom-hub token revoke") && !shown.contains(".TH"), "{shown}");
}

#[test]
fn bash_completes_a_command_and_its_options() {
    let folder = folder();
    let file = folder.path().join("completions");
    std::fs::write(&file, printed(&["completions", "bash"])).unwrap();
    let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
               $(complete -p agentcom-hub | grep -o '_[a-z_]*') \"$1\" \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; \
               echo \"${COMPREPLY[@]}\"";
    for (words, offered) in [
        (&["agentcom-hub", "resta"][..], "restart restarts"),
        (&["agentcom-hub", "restart", "--wa"], "--wait"),
        (&["agentcom-hub", "token", "re"], "revoke"),
        (&["agentcom-hub", "rollout", "re"], "resume recall retry-failed"),
        (&["agentcom-hub", "rollout", "start", "--can"], "--canary --canary-deadline"),
    ] {
        let output = Command::new("bash").args(["-c", ask, "bash"]).arg(&file).args(words).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), offered, "{words:?}: {output:?}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("restarts"), "{shell}");
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (args, word) in [
        (&["agent"][..], "<NAME>"),
        (&["agents", "--colour"], "--colour"),
        (&["restrat", "a"], "restart"),
        (&["audit", "--action", "none"], "token_issued"),
        (&["token", "a", "--role", "king"], "viewer"),
        (&["restart", "a", "--deadline", "soon"], "24h"),
    ] {
        let output = hub_command().args(args).output().unwrap();
        assert_eq!((output.status.code(), said(&output).contains(word)), (Some(2), true), "{args:?}: {output:?}");
    }
}
