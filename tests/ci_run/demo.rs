//! What the demo says before it begins: of tools that are missing, of a build that takes its time, and of one that is stopped.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::stand_in;

/// A `cargo` that builds until it is ended.
const BUILDS: &str = r#"case "$*" in
  build*) [ -t 2 ] && echo "on a terminal"; printf '    Building [=>   ] 3/152: redb\r' >&2; exec /bin/sleep 600 ;;
esac"#;

/// A folder with stand-ins for the tools, which is all that the demo finds on its PATH.
fn tools(rustc: &str) -> TempDir {
    let tools = tempfile::tempdir().unwrap();
    stand_in(tools.path(), "cargo", BUILDS);
    stand_in(tools.path(), "rustc", &format!("echo 'rustc {rustc} (0 2026-01-01)'"));
    stand_in(tools.path(), "cc", "exit 0");
    tools
}

/// The command line of the demo.
fn line() -> String {
    let node = Command::new("sh").args(["-c", "command -v node"]).output().unwrap();
    let node = PathBuf::from(String::from_utf8(node.stdout).unwrap().trim());
    assert!(node.is_absolute(), "node is not on the PATH");
    format!("'{}' '{}'", node.display(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/demo.js").display())
}

fn demo(tools: &TempDir) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec {}", line())]).env("PATH", tools.path());
    command.env_remove("AGENTCOM_DEMO_BIN").env_remove("CC").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads what a process prints until this is there.
fn read_until(child: &mut Child, wanted: &str) -> String {
    let stdout = child.stdout.as_mut().unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(wanted) {
        let mut part = [0; 1_024];
        let length = stdout.read(&mut part).unwrap();
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&part[..length]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_tool_that_is_missing_or_too_old_is_named_with_what_to_do() {
    let nothing = tempfile::tempdir().unwrap();
    let output = demo(&nothing).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("Rust (cargo and rustc) is not installed"), "{output:?}");
    assert!(said(&output).contains("-> Install Rust 1."), "{output:?}");

    let output = demo(&tools("1.63.0")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("Rust 1.63 is too old.\n  -> This needs 1."), "{output:?}");

    let without = tools("9.0.0");
    std::fs::remove_file(without.path().join("cc")).unwrap();
    assert!(said(&demo(&without).output().unwrap()).contains("There is no C compiler (cc)"));
}

#[test]
fn a_build_tells_how_far_it_is_and_ends_when_it_is_told_to() {
    let tools = tools("9.0.0");
    let mut child = demo(&tools).spawn().unwrap();
    let begun = read_until(&mut child, "crates\n");
    assert!(begun.starts_with("The demo starts a hub and a sidecar"), "{begun}");
    assert!(begun.contains("3 of 152 crates\n"), "{begun}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(said(&output).contains("Stopped. What is built so far is kept"), "{output:?}");
}

#[test]
fn in_a_terminal_cargo_tells_itself_and_control_c_ends_both() {
    let tools = tools("9.0.0");
    // `script` gives it a terminal, and passes on what is typed.
    let mut child = Command::new("script");
    child.args(["-qefc", &format!("export PATH='{}'; {}", tools.path().display(), line()), "/dev/null"]);
    child.env_remove("AGENTCOM_DEMO_BIN").env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let begun = read_until(&mut child, "Building [=>   ] 3/152");
    assert!(begun.contains("on a terminal"), "{begun}");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let mut shown = read_until(&mut child, "Stopped. What is built so far is kept");
    child.stdout.as_mut().unwrap().read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
}
