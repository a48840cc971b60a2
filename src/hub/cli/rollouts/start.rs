//! `agentcom-hub rollout start`: starts a rollout, or tells in words what it would do.

use clap::Args;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::text::{count_of, on_one_line};
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::records::{RolloutRecord, not_done, read};
use crate::hub::cli::rollouts::watch::{Watched, watch};
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, print};
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::target::SkipReason;

/// A time in ms, such as `90s`; `0s` is none at all.
fn parse_soak(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { parse_duration(text) }
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct StartArgs {
    /// The agents: NAME, NAME,NAME, `label.pool=gpu,status=healthy`, or all (an agent of that name is `id=all`). They are found once, at the start
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// The reason, as agents, `restarts` and the audit show it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Change nothing; print which agents would be restarted in which wave, and which would not
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// How many may be restarting or not yet proven at once: a number, or a share such as 5% [default: 1]
    #[arg(long, value_name = "N|P%")]
    max_unavailable: Option<Amount>,
    /// How many go first and alone; the others follow after `rollout promote`
    #[arg(long, value_name = "N|P%")]
    canary: Option<Amount>,
    /// Halt if the canary takes longer [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "canary")]
    canary_deadline: Option<u64>,
    /// Continue with the others without `rollout promote` once the canary has succeeded
    #[arg(long, requires = "canary")]
    auto_promote: bool,
    /// How many may have restarted in all by the end of each wave after the canary, such as 1,5%,25%; a last wave has the rest
    #[arg(long, value_name = "N|P%", value_delimiter = ',')]
    step: Vec<Amount>,
    /// How long an agent must stay back until it has succeeded; may be 0s [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_soak)]
    soak: Option<u64>,
    /// Halt if more agents than this fail; any failure of the canary halts [default: 0]
    #[arg(long, value_name = "N|P%")]
    max_failures: Option<Amount>,
    /// Halt if no agent makes progress for this long [default: 10 minutes more than one agent may take]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    progress_deadline: Option<u64>,
    /// Skip agents that are not connected, or wait for them [default: skip]
    #[arg(long, value_name = "skip|wait", value_parser = ["skip", "wait"])]
    offline: Option<String>,
    /// With --offline wait: skip them this long after the start [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "offline")]
    wait_for: Option<u64>,
    /// The version that each must have once it is back; an agent that names no version is skipped
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    /// How long a running task may delay each restart, such as 90s or 10m [default: the hub's --restart-deadline-ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<u64>,
    /// Do not wait for running tasks: they go on after the restart
    #[arg(long)]
    force: bool,
    /// Watch it, as `rollout watch` does
    #[arg(long)]
    watch: bool,
    /// With --watch: stop after this time, such as 90s or 2h, and exit with 124; the rollout goes on
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "watch")]
    timeout: Option<u64>,
    /// A key of your own (1 to 128 visible ASCII characters): a second start with the same key starts nothing, and
    /// answers as the first one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the JSON of the API; with --watch one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// What the hub answers to a start.
#[derive(Debug, Deserialize)]
struct Started {
    matched: usize,
    skipped: Vec<Value>,
    rollout: Option<RolloutRecord>,
    would: Option<Would>,
}

/// What a rollout would do.
#[derive(Debug, Deserialize)]
struct Would {
    waves: Vec<Vec<String>>,
    /// The reasons in their order, each with the agents.
    skipped: serde_json::Map<String, Value>,
    waiting: Vec<String>,
    max_unavailable: u32,
    max_failures: u32,
}

impl StartArgs {
    /// Returns the body of the request for these agents. What is not given is left to the hub.
    fn request(&self, selector: &str) -> Value {
        let mut body = json!({"selector": selector});
        let given = [
            ("reason", self.reason.as_ref().map(|it| json!(it))),
            ("dry_run", self.dry_run.then_some(json!(true))),
            ("max_unavailable", self.max_unavailable.map(|it| json!(it))),
            ("canary", self.canary.map(|it| json!(it))),
            ("canary_deadline_ms", self.canary_deadline.map(|it| json!(it))),
            ("auto_promote", self.auto_promote.then_some(json!(true))),
            ("steps", (!self.step.is_empty()).then(|| json!(self.step))),
            ("soak_ms", self.soak.map(|it| json!(it))),
            ("max_failures", self.max_failures.map(|it| json!(it))),
            ("progress_deadline_ms", self.progress_deadline.map(|it| json!(it))),
            ("offline", self.offline.as_ref().map(|it| json!(it))),
            ("wait_for_ms", self.wait_for.map(|it| json!(it))),
            ("expect_version", self.expect_version.as_ref().map(|it| json!(it))),
            ("deadline_ms", self.deadline.map(|it| json!(it))),
            ("force", self.force.then_some(json!(true))),
        ];
        for (field, value) in given {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        body
    }

    /// Returns what is printed of the answer.
    fn said(&self, started: &Started) -> String {
        let skipped = |agent: &Value| format!("{}: skipped, {}", text(&agent["agent_id"]), text(&agent["detail"]));
        let mut lines: Vec<String> = started.skipped.iter().map(skipped).collect();
        if let Some(would) = &started.would {
            lines.extend(would.lines(started.matched, self.canary.is_some()));
            lines.push("nothing was done: leave out --dry-run to start it".to_owned());
        }
        let mut steps = String::new();
        if let Some(rollout) = &started.rollout {
            let (size, wave) = (rollout.size, rollout.wave_name());
            lines.push(format!("{}: started; targets: {size}; {wave}", rollout.rollout_id));
            steps = if self.watch { String::new() } else { rollout.next_steps(&self.hub.typed()) };
        }
        lines.iter().map(|line| on_one_line(line) + "\n").collect::<String>() + &steps
    }
}

impl Would {
    fn lines(&self, matched: usize, has_canary: bool) -> Vec<String> {
        let restarted: usize = self.waves.iter().map(Vec::len).sum();
        let bears = match self.max_failures {
            0 => "the first failure halts it".to_owned(),
            1 => "the second failure halts it".to_owned(),
            most => format!("more than {most} failures halt it"),
        };
        let most = self.max_unavailable;
        let of = count_of(matched as u64, "agent");
        let mut lines = vec![format!("would restart {restarted} of {of}, {most} at once at most; {bears}")];
        for (number, agents) in self.waves.iter().enumerate().filter(|(_, agents)| !agents.is_empty()) {
            let name = match has_canary && number == 0 {
                true => "canary".to_owned(),
                false => format!("wave {} of {}", number + 1, self.waves.len()),
            };
            lines.push(format!("{name}: {} ({})", agents.join(", "), agents.len()));
        }
        for (reason, agents) in &self.skipped {
            let why = Value::from(reason.as_str());
            let why = SkipReason::deserialize(&why).map_or_else(|_| text(&why), |why| words::skip(why).to_owned());
            let each = |agent: &Value| format!("{}: would be skipped: {why}", text(agent));
            lines.extend(agents.as_array().into_iter().flatten().map(each));
        }
        let waits = |agent: &String| format!("{agent}: would be waited for: it is not connected");
        lines.extend(self.waiting.iter().map(waits));
        lines
    }
}

/// Runs the command and returns the exit code.
pub(super) fn run(args: &StartArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let request = args.request(&client.selector_to_act(&args.selector).await?);
        let answer = client.act(Method::POST, "/api/v1/rollouts", Some(request), args.idempotency_key.clone()).await;
        let answer = answer.map_err(|failure| not_done(failure, "", &args.hub.typed()))?;
        let started: Started = read(client, answer.get())?;
        let said = if args.json { format!("{}\n", answer.get()) } else { args.said(&started) };
        match started.rollout.filter(|_| args.watch) {
            None => Ok(Output::done(said)),
            Some(rollout) => {
                print(said.as_bytes()).map_err(Failure::silent)?;
                watched(client, args, rollout.rollout_id, !started.skipped.is_empty()).await
            }
        }
    })
}

/// Watches what was started. A name that no agent has is told by the exit code.
async fn watched(client: &mut Client, args: &StartArgs, id: String, skipped: bool) -> Result<Output, Failure> {
    let (hub, json, timeout_ms) = (args.hub.typed(), args.json, args.timeout);
    let output = watch(client, Watched { id, hub, json, is_new: true, timeout_ms }).await?;
    Ok(if skipped && output.code == ExitCode::Done { output.ending(ExitCode::No) } else { output })
}
