//! `agentcom-hub drain` and `agentcom-hub resume`: whether a selection of agents takes new tasks; where asked to, waits until
//! none of them holds one.

use clap::Args;
use hyper::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::text::on_one_line;
use crate::hub::cli::client::{self, Failure, Folder, HubArgs, value};
use crate::hub::cli::drains::wait::wait;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, print};

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct DrainArgs {
    /// The agents: NAME, NAME,NAME, `label.pool=gpu,status=degraded`, or all (an agent of that name is `id=all`)
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// The reason, as `agent NAME` and the audit show it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the drain after this time, such as 90m or 2h; without it, the drain lasts until `resume`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until: Option<u64>,
    /// Report agents that still hold a task after this time, such as 30m; the task stays with them
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<u64>,
    /// Wait until none of them holds a task; exits with 1 if one still does at the deadline, is resumed, or was skipped
    #[arg(long)]
    wait: bool,
    /// With --wait: stop after this time, such as 90s or 2h, and exit with 124; the drain goes on
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "wait")]
    timeout: Option<u64>,
    /// Print the JSON of the API; with --wait one object a line: what changed, then each agent as its task ends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct ResumeArgs {
    /// The agents: NAME, NAME,NAME, `label.pool=gpu,status=degraded`, or all (an agent of that name is `id=all`)
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// The reason, as the audit shows it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the JSON of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs `drain` and returns the exit code.
pub(in crate::hub::cli) fn drain(args: &DrainArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let mut body = json!({"selector": client.selector_to_act(&args.selector).await?});
        if let Some(reason) = &args.reason {
            body["reason"] = json!(reason);
        }
        for (field, time) in [("until_ms", args.until), ("deadline_ms", args.deadline)] {
            if let Some(ms) = time {
                body[field] = json!(ms);
            }
        }
        let answer = client.act(Method::POST, "/api/v1/drain", Some(body), None).await?;
        let changed = value(&answer);
        let (said, code) = (said(&answer, args.json, ["drained", "drained already"]), code(&changed));
        let meant =
            ["changed", "unchanged"].into_iter().flat_map(|list| changed[list].as_array().into_iter().flatten());
        let meant: Vec<String> = meant.map(text).collect();
        if !args.wait || meant.is_empty() {
            return Ok(Output::done(said).ending(code));
        }
        print(said.as_bytes()).map_err(Failure::silent)?;
        let waited = wait(client, meant.into_iter().collect(), args.timeout, args.json).await?;
        Ok(Output::done("").ending(if waited == ExitCode::Done { code } else { waited }))
    })
}

/// Runs `resume` and returns the exit code.
pub(in crate::hub::cli) fn resume(args: &ResumeArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let mut body = json!({"selector": client.selector_to_act(&args.selector).await?});
        if let Some(reason) = &args.reason {
            body["reason"] = json!(reason);
        }
        let answer = client.act(Method::POST, "/api/v1/resume", Some(body), None).await?;
        let said = said(&answer, args.json, ["takes tasks again", "was not drained from the hub"]);
        Ok(Output::done(said).ending(code(&value(&answer))))
    })
}

/// Returns the exit code: 1 where no agent is meant, or one was passed over.
fn code(answer: &Value) -> ExitCode {
    let skipped = answer["skipped"].as_array().is_some_and(|skipped| !skipped.is_empty());
    if skipped || answer["matched"] == 0 { ExitCode::No } else { ExitCode::Done }
}

/// Returns what is printed of the answer; `words` are those for an agent that changed, and for one that did not.
fn said(raw: &RawValue, as_json: bool, words: [&str; 2]) -> String {
    if as_json {
        return format!("{}\n", raw.get());
    }
    let answer = value(raw);
    let listed = |list: &str| answer[list].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for (list, word) in ["changed", "unchanged"].into_iter().zip(words) {
        lines.extend(listed(list).iter().map(|agent_id| format!("{}: {word}", text(agent_id))));
    }
    let skipped = |agent: &Value| format!("{}: skipped, {}", text(&agent["agent_id"]), text(&agent["detail"]));
    lines.extend(listed("skipped").iter().map(skipped));
    lines.push(format!("{} of {} changed", listed("changed").len(), text(&answer["matched"])));
    lines.iter().map(|line| on_one_line(line) + "\n").collect()
}
