//! The commands as clients of a hub: real binaries, over its own socket, over HTTP, and where no hub runs.

mod agents;
mod doctor;
mod drains;
mod places;
mod restarts;
mod rollouts;
mod shells;
mod tasks;
mod unfinished;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::hub_command;

/// The command with these arguments, for the hub of this data folder.
fn command(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = hub_command();
    command.args(args).arg("--data").arg(dir.path()).stdin(Stdio::null());
    command
}

fn run(dir: &TempDir, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// What a command printed that must succeed.
fn printed(dir: &TempDir, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON document that a command printed that must succeed.
fn json_of(dir: &TempDir, args: &[&str]) -> Value {
    serde_json::from_str(&printed(dir, args)).unwrap()
}

/// What a command said on both streams.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Starts a command, and returns what it comes to.
fn started(mut command: Command) -> tokio::task::JoinHandle<Output> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
}

/// Writes a token to a private file of this name.
fn token_file(dir: &Path, name: &str, token: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, format!("{token}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}
