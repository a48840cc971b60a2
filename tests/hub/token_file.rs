//! `agentcom-hub token --out FILE`: the token is in a new private file and nowhere else, and there is none where the file
//! cannot be.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Hub, folder, hub_command, token};
use serde_json::Value;

fn out(mut command: Command, data: &Path, file: &Path, more: &[&str]) -> Output {
    command.args(["token", "ops", "--admin", "--data"]).arg(data).arg("--out").arg(file).args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn status_of(hub: &Hub, token: &str) -> u16 {
    hub.request("GET", "/api/tasks", Some(token.trim()), Value::Null).await.0
}

#[tokio::test]
async fn the_token_is_in_a_private_file_and_not_on_stdout() {
    let dir = folder();
    // The data folder is made for it, before a hub ever ran.
    let (data, before) = (dir.path().join("data"), dir.path().join("data/before"));
    let output = out(hub_command(), &data, &before, &["--init"]);
    assert!(output.status.success(), "{output:?}");
    let hub_dir = folder();
    let hub = Hub::start(&hub_dir, &[]);
    let file = dir.path().join("during");
    let output = out(hub_command(), hub_dir.path(), &file, &[]);
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.len() == 65 && text.ends_with('\n'), "{text:?}");
    assert!(said(&output).contains(file.to_str().unwrap()) && !said(&output).contains(text.trim()), "{output:?}");
    for file in [&before, &file] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(status_of(&hub, &text).await, 200);
}

#[tokio::test]
async fn replace_leaves_the_one_in_the_file() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = token(dir.path(), "ops", true);
    let file = dir.path().join("token");
    assert!(out(hub_command(), dir.path(), &file, &["--replace"]).status.success());
    let new = std::fs::read_to_string(&file).unwrap();
    assert_eq!((status_of(&hub, &old).await, status_of(&hub, &new).await), (401, 200));
}

#[tokio::test]
async fn what_is_there_stays_and_no_token_is_made_or_replaced() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = token(dir.path(), "ops", true);
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "mine").unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    for name in ["file", "link", "dangling", "folder", "hub.sock", "missing/file", "-"] {
        let file = if name == "-" { name.into() } else { at(name) };
        let output = out(hub_command(), dir.path(), &file, &["--replace"]);
        let code = if name == "-" { 2 } else { 78 };
        assert_eq!((output.status.code(), said(&output).contains("--out")), (Some(code), true), "{name}: {output:?}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "mine");
    assert!(!at("nowhere").exists() && !at("missing").exists());
    assert_eq!(status_of(&hub, &old).await, 200);
}

#[tokio::test]
async fn a_disk_that_takes_no_token_costs_none() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = token(dir.path(), "ops", true);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(hub_command().get_program());
    let file = dir.path().join("token");
    let output = out(command, dir.path(), &file, &["--replace"]);
    assert_eq!((output.status.code(), said(&output).contains("no token was made")), (Some(74), true), "{output:?}");
    assert!(!file.exists());
    assert_eq!(status_of(&hub, &old).await, 200);
}

#[test]
fn a_hub_that_makes_none_leaves_no_file() {
    let dir = folder();
    std::fs::write(dir.path().join("hub.redb"), "no store").unwrap();
    let file = dir.path().join("token");
    let output = out(hub_command(), dir.path(), &file, &[]);
    assert_eq!((output.status.code(), file.exists()), (Some(78), false), "{output:?}");

    // One that is older makes a token of its own.
    let dir = folder();
    assert!(out(hub_command(), dir.path(), &dir.path().join("first"), &["--init"]).status.success());
    // The command's own, from before.
    let _ = std::fs::remove_file(dir.path().join("hub.sock"));
    let door = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
    let older = std::thread::spawn(move || {
        let (mut stream, _) = door.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        stream.write_all(b"{\"token\":\"another\"}\n").unwrap();
    });
    let file = dir.path().join("token");
    let output = out(hub_command(), dir.path(), &file, &[]);
    older.join().unwrap();
    assert_eq!((output.status.code(), file.exists()), (Some(70), false), "{output:?}");
    assert!(said(&output).contains("restart the hub"), "{output:?}");
}

/// Sends the hub a signal by name.
fn signal(hub: &Hub, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &hub.pid().to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_hub_that_answers_too_late_makes_the_token_in_the_file_or_none() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let old = token(dir.path(), "ops", true);
    signal(&hub, "STOP");
    let file = dir.path().join("token");
    let output = out(hub_command(), dir.path(), &file, &["--replace"]);
    signal(&hub, "CONT");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(said(&output).contains("token list") && said(&output).contains("stays"), "{output:?}");
    let new = std::fs::read_to_string(&file).unwrap();
    for _ in 0..200 {
        if status_of(&hub, &new).await == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    // The hub may see that nobody waits for its answer any more before it begins.
    let statuses = (status_of(&hub, &old).await, status_of(&hub, &new).await);
    assert!(matches!(statuses, (401, 200) | (200, 401)), "{statuses:?}");
    let list = hub_command().args(["token", "list", "--data"]).arg(dir.path()).output().unwrap();
    // Made once, it took the place of the two that there were.
    let tokens = if statuses.1 == 200 { 1 } else { 2 };
    assert_eq!(String::from_utf8(list.stdout).unwrap().lines().count(), tokens, "asked once, made at most once");
}
