//! The real binary where the system gives it less than it is used to: variables that are no text, few open files, no file
//! of any size, a full stdout. It says so, and ends or goes on as its pages say.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![allow(unreachable_pub, reason = "the parts of one test")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::support::process::{self, Running, Signal};
use crate::support::scene::Scene;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;
use serde_json::{Value, json};

const NO_TEXT: &[u8] = b"/no-\xff-text";
const GOOD: &str = r#"{"agent_id": "a", "token": "t0ken", "hub_url": "ws://127.0.0.1:1/ws", "wake_command": "true"}"#;

/// The sidecar with these words below this shell line, in a folder with a good configuration.
fn below(limit: &str, words: &str, variable: Option<&str>) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), GOOD).unwrap();
    let mut command = Command::new("sh");
    let line = if words.is_empty() { format!("{limit}cat") } else { format!("{limit}exec {SIDECAR} {words}") };
    command.args(["-c", &line]).current_dir(folder.path());
    command.env("PM2_HOME", folder.path().join("no-pm2")).env_remove("AGENTCOM_CONFIG").env_remove("AGENTCOM_TOKEN");
    if let Some(variable) = variable {
        command.env(variable, OsStr::from_bytes(NO_TEXT));
    }
    let (status, text) = process::run(command, wait::BOUND);
    (status.code(), text)
}

#[test]
fn a_variable_that_is_no_text_is_not_taken_for_an_absent_one() {
    let (code, text) = below("", "status", Some("AGENTCOM_CONFIG"));
    assert_eq!((code, text.contains("cannot read the configuration /no-")), (Some(78), true), "{text}");
    let (code, text) = below("", "status", Some("AGENTCOM_TOKEN"));
    assert_eq!((code, text.contains("`AGENTCOM_TOKEN`: found bytes that are no UTF-8")), (Some(78), true), "{text}");
    let (code, text) = below("", "status", Some("AGENTCOM_HTTP_LISTEN"));
    assert_eq!((code, text.contains("`AGENTCOM_HTTP_LISTEN`: found")), (Some(78), true), "{text}");
    let words = "onboard --hub http://127.0.0.1:1 --name a --config new.json";
    let (code, text) = below("", words, Some("AGENTCOM_INVITATION"));
    assert_eq!((code, text.contains("AGENTCOM_INVITATION: it is not UTF-8")), (Some(2), true), "{text}");
    let (code, text) = below("", words, Some("AGENTCOM_ADMIN_TOKEN"));
    assert_eq!((code, text.contains("AGENTCOM_ADMIN_TOKEN: it is not UTF-8")), (Some(2), true), "{text}");
}

#[test]
fn too_few_open_files_are_said_and_no_panic() {
    for words in ["run", "check", "check --preflight", "onboard --hub http://127.0.0.1:1 --name a --config new.json"] {
        let (code, text) = below("ulimit -n 8; ", words, None);
        assert_eq!((code, text.contains("only 8 files may be open at once")), (Some(74), true), "{words}: {text}");
    }
    let (code, text) = below("ulimit -n 20; ", "status", None);
    assert_eq!((code, text.contains("a: not running")), (Some(69), true), "{text}");
}

#[test]
fn check_says_that_no_file_may_be_written() {
    // What it says goes to a pipe, for which the limit does not count.
    let (_, text) = below(&format!("(ulimit -f 0; {SIDECAR} check --preflight; echo ended with $?) 2>&1 | "), "", None);
    assert!(text.contains("File too large") && text.contains("ended with 74"), "{text}");
}

/// Every write fails, and the sidecar is there to say so.
#[test]
fn a_sidecar_that_may_write_no_file_lives_and_takes_no_task() {
    let scene = Scene::new();
    let mut command = Command::new("sh");
    let config = scene.agent.config_file();
    command.args(["-c", &format!("(ulimit -f 0; exec {SIDECAR} run --config \"$0\") | cat")]).arg(config);
    for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD"] {
        command.env_remove(inherited);
    }
    let mut running = Running::start(command, scene.agent.folder(), "limited");
    scene.wait_online(1);
    let task = scene.hub.submit("");
    let failed = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_of_the_journal = line["message"] == "the journal was not written";
        line["error"].as_str().filter(|error| is_of_the_journal && error.contains("File too large")).map(|_| ())
    };
    let said = || running.stdout().lines().find_map(failed);
    wait::until_or("the failed write", wait::BOUND, said, || running.output());
    assert_eq!(scene.agent.count(&task, "woken"), 0);
    let status = scene.agent.status();
    assert_eq!(status["journal"]["writable"], json!(false));
    let pid = status["process"]["pid"].as_u64().unwrap();
    process::send(u32::try_from(pid).unwrap(), Signal::TERM);
    running.wait_exit();
}

#[test]
fn a_full_stdout_is_said_and_does_not_stop_a_sidecar() {
    let (code, text) = below("", "man > /dev/full", None);
    assert_eq!((code, text.contains("cannot write to stdout: No space left on device")), (Some(74), true), "{text}");
    let scene = Scene::new();
    let mut command = Command::new("sh");
    let line = format!("exec {SIDECAR} run --config \"$0\" > /dev/full 2> /dev/full");
    command.args(["-c", &line]).arg(scene.agent.config_file());
    let _running = Running::start(command, scene.agent.folder(), "full");
    scene.wait_online(1);
    let task = scene.hub.submit("");
    scene.done_once(&task);
}

#[test]
fn a_results_folder_that_is_none_is_said() {
    let scene = Scene::new();
    fs::write(scene.agent.path("no-folder"), "").unwrap();
    scene.agent.configure("results_dir", json!("no-folder"));
    let _sidecar = scene.start();
    scene.hub.submit("run=hold");
    scene.agent.wait_log("the folder", |line| {
        line["message"].as_str().filter(|said| said.contains("cannot use the results folder")).map(|_| ())
    });
}
