//! `docs/api.md`: its requests are typed at a real hub with real sidecars, and the answers are compared with those it shows.
//! Its stage directions say what is waited for. `UPDATE_CALLS=1 cargo test --test sidecar calls` writes the answers anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::hub::Hub;
use crate::support::{process, wait};
use crate::week::{Machine, form};

/// The most that stands in a line of an answer, in characters.
const WIDTH: usize = 110;

/// What a request for the events prints at most, in lines: those of the first events, which come in one order.
const EVENT_LINES: usize = 18;

/// Does what a stage direction says.
fn direct(hub: &Hub, machines: &mut [Machine; 2], direction: &str) {
    let is = |path: &str, field: &'static str, value: &'static str| {
        let newest = || hub.get(path).1["items"][0][field] == value;
        wait::until_true(&format!("{field} of {path} to be {value}"), newest);
    };
    match direction {
        "two machines are set up" => machines.iter_mut().for_each(|machine| machine.switch_on(hub)),
        "the task is done" => is("/api/v1/tasks", "status", "completed"),
        "all restarts are over" => {
            wait::until_true("no open restart", || {
                hub.get("/api/v1/restarts?open=true").1["items"] == serde_json::json!([])
            });
            machines.iter().for_each(|machine| machine.wait(hub, "healthy"));
        }
        "the canary is through" => {
            let through = || hub.get("/api/v1/rollouts").1["items"][0]["awaits_promote"] == true;
            wait::until_true("the canary to be through", through);
        }
        "the rollout has ended" => is("/api/v1/rollouts", "state", "succeeded"),
        other => panic!("docs/api.md: no such stage direction: {other:?}"),
    }
}

/// The line with the newest ids among `played` in place of those that it names.
fn with_ids(line: &str, played: &str) -> String {
    let mut line = line.to_owned();
    for kind in ["task-", "rollout-"] {
        let id = |text: &str| {
            let found = text.rfind(kind).map(|at| &text[at..])?;
            let end =
                found[kind.len()..].find(|c: char| !c.is_ascii_hexdigit()).map_or(found.len(), |end| kind.len() + end);
            Some(found[..end].to_owned())
        };
        if let (Some(old), Some(new)) = (id(&line), id(played)) {
            line = line.replace(&old, &new);
        }
    }
    line
}

/// Types a request into a shell in which `api` is what the document says, and returns what it prints.
fn type_in(hub: &Hub, token_file: &Path, api: &str, line: &str) -> String {
    assert!(line.starts_with("api "), "docs/api.md: {line}");
    // The events go on for ever.
    let until =
        if line.contains("/events") { format!("--max-time 1 2>&- | head -n {EVENT_LINES}") } else { String::new() };
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{api}\n{line} {until}"));
    command.env("HUB", format!("http://{}", hub.address())).env("TOKEN_FILE", token_file);
    let (_, printed) = process::run(command, wait::BOUND);
    match printed.strip_prefix(['{', '[']) {
        Some(_) => laid_out(&printed, 0) + "\n",
        None => printed,
    }
}

/// The key of an object's member with its colon, and the value; a list's member has no key.
fn split(member: &str, open: &str) -> (String, String) {
    let at = member.find(':').filter(|_| open == "{").map_or(0, |at| at + 1);
    (member[..at].to_owned(), member[at..].to_owned())
}

/// JSON text, which is one line without spaces, with spaces and in lines that can be read.
fn laid_out(json: &str, indent: usize) -> String {
    let members = members(json);
    if members.is_empty() {
        return json.to_owned();
    }
    let (open, close) = (&json[..1], &json[json.len() - 1..]);
    let in_one_line: Vec<String> =
        members.iter().map(|member| split(member, open)).map(|(key, value)| key + &laid_out(&value, 0)).collect();
    let whole = format!("{open}{}{close}", in_one_line.join(", "));
    if indent + whole.len() <= WIDTH && !whole.contains('\n') {
        return whole;
    }
    let mut lines = vec![String::new()];
    for member in members {
        let (key, value) = split(member, open);
        let member = format!("{key}{}", laid_out(&value, indent + 2));
        let line = lines.last_mut().unwrap();
        if line.is_empty() {
            *line = member;
        } else if member.contains('\n') || line.contains('\n') || indent + line.len() + member.len() + 4 > WIDTH {
            line.push(',');
            lines.push(member);
        } else {
            *line += &format!(", {member}");
        }
    }
    let margin = " ".repeat(indent);
    format!("{open}\n{margin}  {}\n{margin}{close}", lines.join(&format!("\n{margin}  ")))
}

/// The members of a JSON object or list, as they are written.
fn members(json: &str) -> Vec<&str> {
    if !json.starts_with(['{', '[']) || json.len() == 2 {
        return Vec::new();
    }
    let (mut depth, mut in_text, mut escaped, mut from, mut found) = (0, false, false, 1, Vec::new());
    for (at, c) in json.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            _ if in_text => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 1 => {
                found.push(&json[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&json[from..json.len() - 1]);
    found
}

#[test]
fn the_calls_of_docs_api_are_answered_as_it_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let api = document.split("```sh\n").find(|block| block.starts_with("api()")).unwrap().split("```").next().unwrap();
    let hub = Hub::start();
    let mut machines = ["gpu-1", "gpu-2"].map(|name| Machine::new(&hub, name, &[("pool", "gpu")]));
    let token_file = hub.data().join("admin-token");
    std::fs::write(&token_file, hub.admin_token()).unwrap();

    let (mut played, mut in_answer) = (String::new(), false);
    for line in document.lines() {
        if let Some(direction) = line.strip_prefix("<!-- stage: ").and_then(|rest| rest.strip_suffix(" -->")) {
            direct(&hub, &mut machines, direction);
        }
        in_answer &= line != "```";
        if let Some(typed) = line.strip_prefix("$ ") {
            let typed = with_ids(typed, &played);
            played += &format!("$ {typed}\n{}", type_in(&hub, &token_file, api, &typed));
            in_answer = true;
        } else if !in_answer {
            played += &format!("{line}\n");
        }
    }
    if std::env::var_os("UPDATE_CALLS").is_some() {
        std::fs::write(&path, played).unwrap();
        return;
    }
    // Where a line ends depends on how long the numbers in it are.
    let form = |text: &str| form(text).split_whitespace().collect::<Vec<_>>().join("\n");
    assert_eq!(form(&document), form(&played), "the whole of what came of it:\n{played}");
}
