//! `agentcom-hub healing`: what the healing rules found and did, and whether a file of them can be used.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::common::cli::table::Table;
use crate::common::cli::terminal;
use crate::common::text::{count_of, on_one_line};
use crate::hub::cli::client::{self, Failure, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{NONE, ago, text};
use crate::hub::cli::show::output::{Output, note};
use crate::hub::healing_file;

#[derive(Debug, Subcommand)]
pub(in crate::hub::cli) enum HealingAction {
    /// Show the rules in force: which agents match each, and what it did last (as `healing` alone does)
    Status(StatusArgs),
    /// Check a file of rules; needs no hub
    Check {
        /// The file of rules
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct StatusArgs {
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(action: Option<HealingAction>, args: StatusArgs) -> ExitCode {
    match action {
        None => status(&args),
        Some(HealingAction::Status(args)) => status(&args),
        Some(HealingAction::Check { file }) => client::finish(check(&file)),
    }
}

fn check(file: &Path) -> Result<Output, Failure> {
    let rules = healing_file::read(file).map_err(|why| Failure::new(ExitCode::Unusable, why))?;
    let lines = rules.rules.iter().map(|rule| {
        let act = if rule.act { "acts" } else { "observes" };
        format!("{}: {act}, {} {}, for {} ms\n", rule.name, rule.action.name(), json!(rule.when), rule.for_ms)
    });
    Ok(Output::done(
        lines.collect::<String>() + &format!("{}, no problem\n", count_of(rules.rules.len() as u64, "rule")),
    ))
}

fn status(args: &StatusArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let answer = client.get("/api/v1/healing").await?;
        if args.json {
            return Ok(Output::done(format!("{}\n", answer.get())));
        }
        let healing = value(&answer);
        let error = &healing["last_error"];
        if !error.is_null() {
            note(format_args!("{} the file could not be used: {}", ago(&error["at"]), text(&error["detail"])));
        }
        if healing["file"].is_null() && !client.met_hub() {
            return Ok(Output::done(format!("no hub runs on {}, so no rule is in force\n", client.store())));
        }
        Ok(Output::done(words(&healing)))
    })
}

fn words(healing: &Value) -> String {
    let rules: Vec<&Value> = healing["rules"].as_array().into_iter().flatten().collect();
    if healing["file"].is_null() {
        return "no rules: the hub has no file of them (serve --healing FILE)\n".to_owned();
    }
    let mut table = Table::new(&["RULE", "DOES", "MATCHING", "LAST ACTION"]);
    for rule in &rules {
        let (name, action) = (text(&rule["rule"]["name"]), text(&rule["rule"]["action"]));
        let does = match (rule["off"] == true, rule["rule"]["act"] == true) {
            (true, _) => format!("nothing ({action}): too many match"),
            (false, true) => action,
            (false, false) => format!("observes ({action})"),
        };
        let last = &rule["last_actions"][0];
        let last = match last.is_null() {
            true => NONE.to_owned(),
            false => format!("{}, {}", text(&last["agent_id"]), ago(&last["at"])),
        };
        table.row([name, does, text(&rule["matching"]), last]);
    }
    let mut said = table.render(terminal::columns());
    for rule in &rules {
        for agent in rule["agents"].as_array().into_iter().flatten() {
            let held_back = agent["held_back"].as_str().map(|why| format!(" (held back: {why})")).unwrap_or_default();
            let (name, agent_id, why) = (text(&rule["rule"]["name"]), text(&agent["agent_id"]), text(&agent["why"]));
            let line = format!("{name}: {agent_id}, {}: {why}{held_back}", ago(&agent["since"]));
            said.push_str(&(on_one_line(&line) + "\n"));
        }
    }
    let number = count_of(rules.len() as u64, "rule");
    said.push_str(&format!("{}: {number}, read {}\n", text(&healing["file"]), ago(&healing["loaded_at"])));
    said
}
