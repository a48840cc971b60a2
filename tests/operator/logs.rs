//! `logs`: the real command on the real sidecar's log, and on files that a test writes and rotates.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::support::process::{self, Running, Signal};
use crate::support::scene::Scene;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::wait;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

/// An agent whose sidecar does not run, and its log.
struct Written {
    agent: Agent,
    log: PathBuf,
}

impl Written {
    fn new() -> Self {
        let agent = Agent::new("alice", "ws://127.0.0.1:1/ws", "token");
        let log = agent.path("sidecar.log");
        Self { agent, log }
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).create(true).open(&self.log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Renames the log as the sidecar does.
    fn rotate(&self) {
        for age in (1..5).rev() {
            let name =
                |age: u32| if age == 0 { self.log.clone() } else { self.agent.path(&format!("sidecar.log.{age}")) };
            if name(age - 1).exists() {
                fs::rename(name(age - 1), name(age)).unwrap();
            }
        }
    }

    /// What it prints: the messages of the lines.
    fn messages(&self, args: &[&str]) -> Vec<String> {
        let (code, text) = self.agent.operate(&[&["logs", "--json"], args].concat());
        assert_eq!(code, 0, "{text}");
        messages(&text)
    }
}

fn line(second: u32, level: &str, message: &str) -> String {
    format!(
        "{{\"timestamp\":\"2026-11-24T07:46:{second:02}.000001Z\",\"level\":\"{level}\",\"message\":\"{message}\"}}\n"
    )
}

fn messages(text: &str) -> Vec<String> {
    let message = |line: &str| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().map(str::to_owned);
    text.lines().filter_map(message).collect()
}

#[test]
fn the_predecessors_come_first() {
    let written = Written::new();
    for (second, word) in ["one", "two", "three"].iter().enumerate() {
        written.append(&line(u32::try_from(second).unwrap(), "INFO", word));
        written.rotate();
    }
    written.append(&(line(3, "WARN", "four") + &line(4, "ERROR", "five")));
    assert_eq!(written.messages(&[]), ["one", "two", "three", "four", "five"]);
    assert_eq!(written.messages(&["-n", "2"]), ["four", "five"]);
    assert_eq!(written.messages(&["-n", "0"]), [""; 0]);
    assert_eq!(written.messages(&["--level", "warning", "-n", "1"]), ["five"]);
    assert_eq!(written.messages(&["--level", "notice"]), ["four", "five"]);
    assert_eq!(written.messages(&["--since", "2026-11-24 07:46:02"]), ["three", "four", "five"]);
    assert_eq!(written.messages(&["--since", "1s"]), [""; 0]);
}

#[test]
fn what_agents_and_crashes_wrote_cannot_steer_a_terminal() {
    let written = Written::new();
    written.append("{\"torn \u{1b}[2J\n");
    written.append(&line(1, "INFO", "a\\u001b[2Jb\u{202e}c"));
    let (_, text) = written.agent.operate(&["logs"]);
    assert_eq!(text, "{\"torn  [2J\n2026-11-24T07:46:01.000001Z INFO  a [2Jb c\n");
    let (_, text) = written.agent.operate(&["logs", "--json"]);
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["unreadable"], "{\"torn \u{1b}[2J");
    assert_eq!(lines[1]["message"], "a\u{1b}[2Jb\u{202e}c");
}

#[test]
fn following_goes_on_across_rotation() {
    let written = Written::new();
    written.append(&line(0, "INFO", "old"));
    let command = written.agent.operator(&["logs", "--follow", "--json", "-n", "1", "--level", "info"]);
    let follow = Running::start(command, written.agent.folder(), "follow");
    let sees = |wanted: &[&str]| {
        let probe = || (messages(&follow.stdout()) == wanted).then_some(());
        wait::until_or(&format!("{wanted:?}"), wait::BOUND, probe, || follow.output());
    };
    sees(&["old"]);
    // A line in two parts, and one that does not match.
    let whole = line(1, "INFO", "one");
    let (first, second) = whole.split_at(30);
    written.append(first);
    written.append(&format!("{second}{}", line(2, "DEBUG", "not this")));
    sees(&["old", "one"]);
    // Several rotations between two looks.
    follow.signal(Signal::STOP);
    written.append(&line(3, "INFO", "two"));
    written.rotate();
    written.append(&line(4, "INFO", "three"));
    written.rotate();
    written.append(&line(5, "INFO", "four"));
    follow.signal(Signal::CONT);
    sees(&["old", "one", "two", "three", "four"]);
    // Emptied in place, as some programs rotate.
    File::options().write(true).open(&written.log).unwrap().set_len(0).unwrap();
    wait::until_true("the next look", || {
        written.append(&line(6, "INFO", "five"));
        messages(&follow.stdout()).last().is_some_and(|last| last == "five")
    });
}

#[test]
fn a_log_that_is_not_there_yet_is_an_error_and_is_waited_for() {
    let written = Written::new();
    let (code, text) = written.agent.operate(&["logs"]);
    assert!(
        code == 74 && text.contains("there is no log yet: `log_file` is ") && text.contains("sidecar.log"),
        "{text}"
    );
    let command = written.agent.operator(&["logs", "--follow"]);
    let follow = Running::start(command, written.agent.folder(), "follow");
    wait::until_true("the remark", || follow.output().contains("waiting for it"));
    written.append(&line(0, "INFO", "first"));
    wait::until_true("the line", || follow.stdout().contains("INFO  first"));
}

#[test]
fn what_is_no_file_is_named_and_not_waited_for() {
    let written = Written::new();
    mknodat(CWD, &written.log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for args in [&["logs"][..], &["logs", "--follow"]] {
        let (code, text) = written.agent.operate(args);
        assert!(code == 74 && text.contains("a named pipe stands where the file should be"), "{text}");
    }
    written.agent.configure("log_file", json!("/dev/null"));
    let (code, text) = written.agent.operate(&["logs", "--json"]);
    assert!(
        code == 74 && text.contains("a device stands") && text.contains("\"outcome\":\"state_unusable\""),
        "{text}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let written = Written::new();
    written.append(&(line(0, "INFO", "one") + &line(1, "INFO", "two").repeat(5_000)));
    for words in ["-n all", "--follow", "--follow -n 1"] {
        let mut shell = Command::new("bash");
        // `head` is gone, and no further line is written.
        let script = format!("set -o pipefail; {SIDECAR} logs {words} --config \"$0\" | head -n 1 > /dev/null");
        shell.args(["-c", &script]).arg(written.agent.config_file()).env_remove("AGENTCOM_CONFIG");
        let (status, text) = process::run(shell, wait::BOUND);
        assert!(status.success() && text.is_empty(), "{words}: {status}: {text}");
    }
}

#[test]
fn the_sidecars_own_log_is_followed_across_a_restart() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let command = scene.agent.operator(&["logs", "--follow", "--json", "--level", "info"]);
    let follow = Running::start(command, scene.agent.folder(), "follow");
    assert_eq!(scene.agent.operate(&["restart", "--wait"]).0, 0);
    let starts = || messages(&follow.stdout()).iter().filter(|message| *message == "the sidecar starts").count();
    wait::until_or("both starts", wait::BOUND, || (starts() == 2).then_some(()), || follow.output());
    let (code, text) = scene.agent.operate(&["logs", "--since", "1h"]);
    assert!(code == 0 && text.contains(" INFO  the sidecar starts  ") && text.contains("agent_id=alice"), "{text}");
    assert_eq!(text.lines().count(), scene.agent.log_lines().len(), "{text}");
}
