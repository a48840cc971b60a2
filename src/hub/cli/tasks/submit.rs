//! `agentcom-hub submit`: submits a task.

use std::io::Read as _;
use std::path::Path;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::fs::regular_file;
use crate::hub::cli::client::{self, Failure, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, print};
use crate::hub::cli::tasks::follow::follow;

/// The most that is read of a file with metadata, in bytes: as much as the hub takes.
const MAX_METADATA_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct SubmitArgs {
    /// What is to be done, for the agent to read
    #[arg(value_name = "DESCRIPTION")]
    description: String,
    /// urgent, high, normal or low [default: normal]
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// A capability that the agent must have; may be repeated
    #[arg(long = "capability", value_name = "WORD")]
    capabilities: Vec<String>,
    /// Only this agent may do it
    #[arg(long, value_name = "NAME")]
    assign_to: Option<String>,
    /// More for the agent, as a JSON object; @FILE reads it from a file, @- from stdin
    #[arg(long, value_name = "JSON|@FILE", value_parser = read_metadata)]
    metadata: Option<Value>,
    /// The number of failures that make it a dead letter [default: 3]
    #[arg(long, value_name = "N")]
    max_retries: Option<u64>,
    /// How long its agent may take, such as 30m; after that it has failed
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    time_limit: Option<u64>,
    /// A goal, by which `tasks --goal ID` finds it
    #[arg(long, value_name = "ID")]
    goal: Option<String>,
    /// A key of your own (1 to 128 visible ASCII characters): a second submit with the same key submits nothing, and
    /// answers as the first one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print what happens to it until it has ended; exits with 0 if it was completed, else with 1
    #[arg(long)]
    follow: bool,
    /// With --follow: stop after this time, such as 90s or 2h, and exit with 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "follow")]
    timeout: Option<u64>,
    /// Print the JSON of the API; with --follow one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

fn read_metadata(typed: &str) -> Result<Value, String> {
    let text = match typed.strip_prefix('@') {
        None => typed.to_owned(),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_METADATA_BYTES).read_to_string(&mut text);
            read.map_err(|error| format!("stdin cannot be read: {error}"))?;
            text
        }
        Some(file) => {
            let bytes = regular_file::read(Path::new(file), MAX_METADATA_BYTES);
            let bytes = bytes.map_err(|error| format!("{file} cannot be read: {error}"))?;
            String::from_utf8(bytes).map_err(|_| format!("{file} is not UTF-8"))?
        }
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("it is not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("expected a JSON object, such as {\"key\": \"value\"}".to_owned()) }
}

impl SubmitArgs {
    /// Returns the body of the request.
    fn task(&self) -> Value {
        let mut task = json!({"description": self.description});
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                task[field] = value;
            }
        };
        set("priority", self.priority.as_ref().map(|it| json!(it)));
        set("needed_capabilities", (!self.capabilities.is_empty()).then(|| json!(self.capabilities)));
        set("assign_to", self.assign_to.as_ref().map(|it| json!(it)));
        set("metadata", self.metadata.clone());
        set("max_retries", self.max_retries.map(|it| json!(it)));
        set("timeout_ms", self.time_limit.map(|it| json!(it)));
        set("goal_id", self.goal.as_ref().map(|it| json!(it)));
        task
    }
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &SubmitArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let key = args.idempotency_key.clone();
        let answer = client.act(Method::POST, "/api/v1/tasks", Some(args.task()), key).await?;
        let id = text(&value(&answer)["id"]);
        let said = if args.json { format!("{}\n", answer.get()) } else { format!("{id}\n") };
        if !args.follow {
            return Ok(Output::done(said));
        }
        if !args.json {
            print(said.as_bytes()).map_err(Failure::silent)?;
        }
        follow(client, &id, args.timeout, args.json).await
    })
}
