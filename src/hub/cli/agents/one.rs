//! `agentcom-hub agent NAME`: everything that is known of one agent, in words.

use clap::Args;
use serde_json::Value;

use crate::common::http_client::percent_encoded;
use crate::common::text::last_chars;
use crate::common::wall_clock::utc;
use crate::hub::cli::agents::words;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::restarts::list::state;
use crate::hub::cli::show::fields::{NONE, age, ago, labels, list, text, took};
use crate::hub::cli::show::output::Output;
use crate::hub::cli::show::page::Page;

/// The number of commanded restarts that are looked at.
const RESTARTS: usize = 10;
/// The most that is shown of a task's output, in lines.
const OUTPUT_LINES: usize = 10;
/// The most that is shown of a line of it, in characters.
const OUTPUT_CHARS: usize = 200;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct AgentArgs {
    /// The agent (its agent_id)
    name: String,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &AgentArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let agent = client.get(&format!("/api/v1/agents/{}", percent_encoded(&args.name))).await;
        let agent = agent.map_err(|failure| match failure.status {
            Some(404) => {
                failure.saying(format!("no agent {:?} is known; agentcom-hub agents lists those that are", args.name))
            }
            Some(_) | None => failure,
        })?;
        if args.json {
            return Ok(Output::done(format!("{}\n", agent.get())));
        }
        let restarts = restarts(client, &args.name).await?;
        Ok(Output::done(page(&value(&agent), restarts.as_deref())))
    })
}

/// Returns the agent's last restarts; `None` if the caller may not see them.
async fn restarts(client: &mut Client, name: &str) -> Result<Option<Vec<Value>>, Failure> {
    let only = [("agent_id", Some(name.to_owned()))];
    match client.list("/api/v1/restarts", &only, Some(RESTARTS)).await {
        Ok(found) => Ok(Some(found.values().collect())),
        Err(failure) if failure.status == Some(403) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn page(agent: &Value, restarts: Option<&[Value]>) -> String {
    let mut page = Page::default();
    let since =
        agent["since"].as_u64().map_or_else(|| NONE.to_owned(), |at| format!("{} (since {})", age(at), utc(at)));
    page.row(&text(&agent["agent_id"]), &format!("{} for {since}: {}", text(&agent["status"]), why(agent)));
    if agent["connected"] == true {
        page.row("connected", &format!("{} from {}", ago(&agent["connected_at"]), text(&agent["address"])));
        page.row("does", &doing(agent));
    } else if agent["last_seen"].is_u64() {
        page.row("last seen", &format!("{} from {}", ago(&agent["last_seen"]), text(&agent["address"])));
    }
    if let Some(close) = close(&agent["last_close"]) {
        page.row("last closed", &close);
    }
    task(&mut page, &agent["task"]);
    page.row("restarts", &counts(&agent["restarts"]));
    past_restarts(&mut page, &agent["past_restarts"], restarts);
    page.rows("draining", drains(&agent["drain"]));
    if let Some(conflict) = agent["identity_conflict"].as_object().filter(|conflict| !conflict.is_empty()) {
        page.row("conflict", &format!("two sidecars use its identity: {}", Value::from(conflict.clone())));
    }
    page.row("labels", &labels(&agent["labels"]));
    page.rows("", operator_labels(&agent["operator_labels"]));
    page.row("capabilities", &list(&agent["capabilities"]));
    page.row("version", &format!("{} ({})", text(&agent["version"]), text(&agent["client_type"])));
    page.row("boot", &text(&agent["boot_id"]));
    page.text
}

/// Returns the status' reason in words.
fn why(agent: &Value) -> String {
    let code = agent["why"].as_str().unwrap_or_default();
    words::why(code).map_or_else(|| code.to_owned(), |words| format!("{words} ({code})"))
}

/// Returns how its last connection that has ended did so.
fn close(close: &Value) -> Option<String> {
    let at = close["at"].as_u64()?;
    let code = close["code"].as_u64().map(|code| format!(" with code {code}")).unwrap_or_default();
    let reason = close["reason"].as_str().filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason:?}")).unwrap_or_default();
    Some(format!("{} ago ({}) by {}, {}{code}{reason}", age(at), utc(at), text(&close["by"]), text(&close["why"])))
}

fn doing(agent: &Value) -> String {
    let said = agent["status_text"].as_str().filter(|said| !said.is_empty());
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    format!("{}{said}", text(&agent["fsm_state"]))
}

/// Adds the task that it holds, or the last one that it told of, with the end of its output.
fn task(page: &mut Page, task: &Value) {
    if task["task_id"].is_null() {
        return;
    }
    let held = match (task["held"] == true, task["accepted"] == true) {
        (false, _) => "ended",
        (true, true) => "in hand",
        (true, false) => "assigned, not accepted yet",
    };
    let progress = task["progress"].as_i64().map(|progress| format!(", {progress} % done")).unwrap_or_default();
    let life = match task["last_sign_of_life_at"].as_u64() {
        Some(at) => format!(", last sign of life {} ago", age(at)),
        None => String::new(),
    };
    page.row("task", &format!("{} {held}{progress}{life}", text(&task["task_id"])));
    if task["last_progress_at"].is_u64() {
        page.row("", &format!("last progress {}", ago(&task["last_progress_at"])));
    }
    if let Some(since) = task["silent_since"].as_u64() {
        page.row("", &format!("its session is silent for {}", age(since)));
    }
    let lines: Vec<&str> = task["output"].as_str().unwrap_or_default().lines().collect();
    let last = &lines[lines.len().saturating_sub(OUTPUT_LINES)..];
    page.rows("output", last.iter().map(|line| format!("| {}", last_chars(line, OUTPUT_CHARS))));
}

/// Returns who wants it to take no task, in words.
fn drains(drain: &Value) -> Vec<String> {
    let own = "an operator on its machine wants it to take no task (agentcom-sidecar resume)";
    let mut said: Vec<String> = (drain["own"] == true).then(|| own.to_owned()).into_iter().collect();
    let hub = &drain["hub"];
    if !hub.is_null() {
        let reason = hub["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        let until = hub["until"]
            .as_u64()
            .map_or_else(|| ", until agentcom-hub resume".to_owned(), |at| format!(", until {}", utc(at)));
        let deadline = hub["deadline"].as_u64().map(|at| format!(", deadline {}", utc(at))).unwrap_or_default();
        let overdue = if hub["overdue"] == true { " has passed, and it still holds a task" } else { "" };
        said.push(format!("by {}, {}{until}{deadline}{overdue}{reason}", text(&hub["by"]), ago(&hub["since"])));
    }
    said
}

fn counts(counts: &Value) -> String {
    let one = |count: &str, last: &str| {
        let number = counts[count].as_u64().unwrap_or(0);
        let last = counts[last].as_u64().map(|at| format!(", the last {} ago", age(at))).unwrap_or_default();
        format!("{number} {count}{last}")
    };
    format!("{}; {}", one("planned", "last_planned_at"), one("unplanned", "last_unplanned_at"))
}

/// Adds the restarts that are over, whether or not somebody wanted them, and the commands that led to none.
fn past_restarts(page: &mut Page, past: &Value, commanded: Option<&[Value]>) {
    let past = past.as_array().map_or(&[][..], Vec::as_slice);
    let commanded = commanded.unwrap_or_default();
    page.rows(
        "",
        past.iter().map(|one| {
            let command =
                commanded.iter().find(|it| it["command_id"] == one["command_id"] && it["command_id"].is_string());
            past_restart(one, command)
        }),
    );
    let led_to_none = |command: &&Value| past.iter().all(|one| one["command_id"] != command["command_id"]);
    page.rows("commands", commanded.iter().filter(led_to_none).map(restart));
}

/// Returns a restart that is over, in words, with the command that led to it.
fn past_restart(past: &Value, command: Option<&Value>) -> String {
    let planned = if past["planned"] == true { "planned" } else { "unplanned" };
    let at = past["at"].as_u64().map_or_else(|| NONE.to_owned(), |at| format!("{} ago ({})", age(at), utc(at)));
    let mut said = format!("{at} {planned}, {}", text(&past["why"]));
    // Of a restart that was commanded the rest says so.
    if let Some(end) = past["end"].as_str().filter(|end| *end != "restarted") {
        said.push_str(&format!(", {}", end.replace('_', " ")));
    }
    if past["away_ms"].is_u64() {
        said.push_str(&format!(", away for {}", took(&past["away_ms"])));
    }
    if let Some(command) = command {
        said.push_str(&format!(", commanded by {}", text(&command["by"])));
    }
    if !past["reason"].is_null() {
        said.push_str(&format!(": {}", text(&past["reason"])));
    }
    said
}

/// Returns one commanded restart, in words.
fn restart(restart: &Value) -> String {
    let forced = if restart["force"] == true { ", forced" } else { "" };
    let [by, reason, id] = ["by", "reason", "command_id"].map(|field| text(&restart[field]));
    format!("{} by {by}: {} ({id}){forced}: {reason}", ago(&restart["commanded_at"]), state(restart))
}

fn operator_labels(given: &Value) -> Vec<String> {
    let all = given.as_object().into_iter().flatten();
    let one = |(key, label): (&String, &Value)| {
        format!("{key}={} by {}, {}", text(&label["value"]), text(&label["by"]), ago(&label["at"]))
    };
    all.map(one).collect()
}
