//! The manual as a person meets it, in a real terminal, and as packages take it; and the end of each command's help.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use tempfile::TempDir;

/// A folder with these programs, shell scripts all, beside the shell itself.
fn programs(scripts: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", folder.path().join("sh")).unwrap();
    for (name, script) in scripts {
        let written = folder.path().join(format!("{name}.written"));
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
        process::install(&written, &folder.path().join(name));
    }
    folder
}

/// What a terminal shows of a command that finds only these programs.
fn in_a_terminal(programs: &TempDir, words: &str, pager: Option<&str>) -> String {
    let pager = pager.map(|pager| format!("export PAGER='{pager}'; ")).unwrap_or_default();
    let line = format!("unset PAGER; {pager}export PATH='{}'; exec '{SIDECAR}' {words}", programs.path().display());
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
    let (status, shown) = process::run(command, wait::BOUND);
    assert!(status.success(), "{status}: {shown}");
    shown.replace('\r', "")
}

fn printed(args: &[&str]) -> String {
    let mut command = Command::new(SIDECAR);
    command.args(args);
    let (status, text) = process::run(command, wait::BOUND);
    assert!(status.success(), "{args:?}: {text}");
    text
}

const MAN: (&str, &str) = ("man", r#"[ "$1" = --version ] && echo "man 2.11.2" || { echo "man $*"; exec /bin/cat; }"#);
const PAGER: (&str, &str) = ("pager", "echo paged; exec /bin/cat");

#[test]
fn in_a_terminal_man_shows_the_page() {
    let shown = in_a_terminal(&programs(&[MAN, PAGER]), "man status", Some("pager"));
    assert!(shown.starts_with("man -l -\n") && shown.contains(".TH agentcom-sidecar-status 1"), "{shown}");
}

#[test]
fn without_man_the_pager_shows_it_as_text_and_without_a_pager_the_terminal() {
    let shown = in_a_terminal(&programs(&[PAGER]), "man status", Some("pager"));
    assert!(shown.starts_with("paged\nShow the state of the running sidecar"), "{shown}");
    assert!(shown.contains("Usage: agentcom-sidecar status") && !shown.contains(".TH"), "{shown}");
    let less = ("less", r#"echo "less $*"; exec /bin/cat"#);
    let shown = in_a_terminal(&programs(&[less]), "man", None);
    assert!(shown.starts_with("less -F -X\n") && shown.contains("\nAGENTCOM-SIDECAR STATUS\n"), "{shown}");
    let shown = in_a_terminal(&programs(&[]), "man status", None);
    assert!(shown.starts_with("Show the state of the running sidecar"), "{shown}");
}

#[test]
fn a_man_that_formats_nothing_is_passed_over() {
    let stub = ("man", "echo 'This system has been minimized'");
    let shown = in_a_terminal(&programs(&[stub, PAGER]), "man", Some("pager"));
    assert!(shown.starts_with("paged\n") && !shown.contains("minimized"), "{shown}");
}

#[test]
fn packages_get_a_page_for_the_program_and_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("share/man1");
    let said = printed(&["man", "--out", out.to_str().unwrap()]);
    let help = printed(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut pages = vec!["agentcom-sidecar".to_owned()];
    let names = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    pages.extend(names.map(|name| format!("agentcom-sidecar-{name}")));
    assert_eq!(said, format!("{} pages written to {}\n", pages.len(), out.display()));
    for page in &pages {
        let text = fs::read_to_string(out.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")) && text.contains("\n.SH \"EXIT STATUS\"\n"), "{page}: {text}");
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), pages.len());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut command = Command::new(SIDECAR);
    command.args(["man", "--out"]).arg(Path::new(SIDECAR).join("man1"));
    let (status, said) = process::run(command, wait::BOUND);
    assert_eq!(status.code(), Some(74), "{said}");
    assert!(said.contains("agentcom-sidecar/man1: ") && said.contains("with --out"), "{said}");
}

#[test]
fn a_commands_help_ends_with_what_it_uses_and_no_more() {
    let help = printed(&["status", "--help"]);
    let (_, uses) = help.split_once("\nEnvironment:\n").unwrap();
    let names = uses.lines().filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| !name.ends_with(':') && *name != "Exit").collect();
    let wanted = [
        "AGENTCOM_CONFIG",
        "AGENTCOM_TOKEN",
        "AGENTCOM_HTTP_LISTEN",
        "config.json",
        "queue.json",
        "queue.json.lock",
        "queue.json.sock",
        "results/",
        "0",
        "2",
        "69",
        "74",
        "77",
        "78",
        "124",
    ];
    assert_eq!(names, wanted, "{help}");
    let page = printed(&["man", "status"]).replace("\\-", "-");
    for section in [".SH EXAMPLES", ".SH ENVIRONMENT", ".SH FILES", ".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\""] {
        assert!(page.contains(section), "{section} in\n{page}");
    }
    assert!(!page.contains("AGENTCOM_INVITATION") && !page.contains("Exit codes"), "{page}");
}
