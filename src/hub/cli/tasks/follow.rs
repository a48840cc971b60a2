//! Follows a task until it has ended.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::common::text::on_one_line;
use crate::hub::cli::client::{Client, Event, Failure, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, print};
use crate::hub::cli::tasks::parts::{get, happened, state};

/// Tells what happens to the task until it has ended: `Done` if it was completed, else `No`.
///
/// # Errors
/// The time limit has passed, there is no such task, or no hub runs.
pub(super) async fn follow(
    client: &mut Client,
    id: &str,
    timeout_ms: Option<u64>,
    json: bool,
) -> Result<Output, Failure> {
    let followed = until_it_ends(client, id, json);
    match timeout_ms {
        None => followed.await,
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), followed).await.unwrap_or_else(|_| {
            Err(Failure::new(ExitCode::TimedOut, format!("{id} has not ended in this time; it goes on")))
        }),
    }
}

async fn until_it_ends(client: &mut Client, id: &str, json: bool) -> Result<Output, Failure> {
    // One that has ended needs no hub that runs. Else: first the events, then the task again, so that nothing is missed.
    let mut teller = Teller { json, told: Value::Null };
    let task = get(client, id).await?;
    if let Some(output) = teller.tell(&task)? {
        return Ok(output);
    }
    let mut events = client.follow(None).await?;
    loop {
        let task = get(client, id).await?;
        if let Some(output) = teller.tell(&task)? {
            return Ok(output);
        }
        while !concerns(&client.next_event(&mut events).await?, id) {}
    }
}

/// Returns whether the task may have changed.
fn concerns(event: &Event, id: &str) -> bool {
    match event.kind.as_str() {
        "missed" => true,
        "task" => serde_json::from_str::<Value>(&event.data).is_ok_and(|data| data["task_id"] == id),
        _ => false,
    }
}

/// Tells each entry of a task's history once.
struct Teller {
    json: bool,
    /// The newest entry that was told.
    told: Value,
}

impl Teller {
    /// Tells what is new, and returns how the task ended, if it has.
    fn tell(&mut self, raw: &RawValue) -> Result<Option<Output>, Failure> {
        let task = value(raw);
        let history: Vec<&Value> = task["history"].as_array().into_iter().flatten().collect();
        let new: Vec<&Value> = history.iter().copied().take_while(|entry| **entry != self.told).collect();
        if !new.is_empty() {
            let lines: String = match self.json {
                true => format!("{}\n", raw.get()),
                false => new.iter().rev().map(|entry| on_one_line(&happened(entry)) + "\n").collect(),
            };
            print(lines.as_bytes()).map_err(Failure::silent)?;
        }
        self.told = history.first().map_or(Value::Null, |newest| (*newest).clone());
        let code = match task["status"].as_str() {
            Some("completed") => ExitCode::Done,
            Some("dead_letter" | "cancelled") => ExitCode::No,
            Some(_) | None => return Ok(None),
        };
        let result = if task["result"].is_null() { &task["last_error"] } else { &task["result"] };
        let end = match self.json {
            true => String::new(),
            false => on_one_line(&format!("{} {}: {}", text(&task["id"]), state(&task), text(result))) + "\n",
        };
        Ok(Some(Output::done(end).ending(code)))
    }
}
