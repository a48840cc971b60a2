//! `agentcom-hub label`: sets and removes labels of agents.

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::common::text::on_one_line;
use crate::hub::cli::client::{self, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::Output;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct LabelArgs {
    /// The agents: NAME, NAME,NAME, `label.pool=gpu,status=offline`, or all (an agent of that name is `id=all`)
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// `key=value` sets an operator's label, which wins over the agent's own; `key-` removes it
    #[arg(value_name = "KEY=VALUE|KEY-", required = true, value_parser = parse)]
    labels: Vec<(String, Option<String>)>,
    /// The reason, as the audit shows it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse(typed: &str) -> Result<(String, Option<String>), String> {
    if let Some((key, value)) = typed.split_once('=') {
        return Ok((key.to_owned(), Some(value.to_owned())));
    }
    match typed.strip_suffix('-') {
        Some(key) => Ok((key.to_owned(), None)),
        None => Err("expected key=value, or key- to remove it".to_owned()),
    }
}

/// Runs the command and returns the exit code: 1 where no agent is meant, or one was passed over.
pub(in crate::hub::cli) fn run(args: &LabelArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let labels: Map<String, Value> = args.labels.iter().map(|(key, to)| (key.clone(), json!(to))).collect();
        let mut body = json!({"selector": client.selector_to_act(&args.selector).await?, "labels": labels});
        if let Some(reason) = &args.reason {
            body["reason"] = json!(reason);
        }
        let answer = client.act(Method::POST, "/api/v1/labels", Some(body), None).await?;
        let changed = value(&answer);
        let skipped = changed["skipped"].as_array().is_some_and(|skipped| !skipped.is_empty());
        let code = if skipped || changed["matched"] == 0 { ExitCode::No } else { ExitCode::Done };
        let shown = if args.json { format!("{}\n", answer.get()) } else { words(&changed) };
        Ok(Output::done(shown).ending(code))
    })
}

fn words(answer: &Value) -> String {
    let mut lines = Vec::new();
    for agent in answer["changed"].as_array().into_iter().flatten() {
        for change in agent["changes"].as_array().into_iter().flatten() {
            let (key, old, new) = (text(&change["key"]), text(&change["old"]), text(&change["new"]));
            lines.push(format!("{}: {key} was {old}, is {new}", text(&agent["agent_id"])));
        }
    }
    for agent in answer["skipped"].as_array().into_iter().flatten() {
        lines.push(format!("{}: skipped, {}", text(&agent["agent_id"]), text(&agent["detail"])));
    }
    let changed = answer["changed"].as_array().map_or(0, Vec::len);
    lines.push(format!("{changed} of {} changed", text(&answer["matched"])));
    lines.iter().map(|line| on_one_line(line) + "\n").collect()
}
