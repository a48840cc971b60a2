//! Begins the work on a task: from the machine's order to the runner's. What the work is run by is `dispatch`'s to say.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::dispatch::{Plan, plan};
use super::runner::{WakeEvent, WakeOrder, WakeOutcome, WakeRunner, What};
use super::runs::{self, RunOrder};
use super::speak::object;
use crate::config::{Config, ExecutorMode};
use crate::machine::Task;

/// How long a supervisor may take to say that the command is under way: it waits for an earlier run to end.
const SUPERVISOR_MS: u64 = 30_000;

/// Orders what `config` says for the task; the runner answers with one event.
pub(super) fn begin(config: &Config, machine_boot: &str, runner: &WakeRunner, task: &Task, attempt: u8) {
    let payload = object(&task.payload);
    let order = |what: What, timeout_ms: u64, env: Vec<(String, String)>| WakeOrder {
        task_id: task.id.to_string(),
        generation: task.generation,
        attempt: u32::from(attempt),
        what,
        env,
        timeout_ms,
        cwd: folder_of(config),
    };
    let plan = match plan(config, &payload) {
        Ok(plan) => plan,
        Err(reason) => {
            return runner.answer(WakeEvent {
                task_id: task.id.to_string(),
                generation: task.generation,
                attempt: u32::from(attempt),
                outcome: WakeOutcome::Refused { reason },
            });
        }
    };
    let env = variables(task, &payload, plan.env.clone());
    match plan.mode {
        ExecutorMode::Wake => runner.start(order(What::Shell(plan.command), plan.timeout_ms, env)),
        ExecutorMode::Run => {
            let stdin = serde_json::to_vec(&run_order(config, machine_boot, runner, task, &plan)).unwrap_or_default();
            let arguments = runs::arguments().map(str::to_owned).into();
            runner.start(order(What::Program { program: runs::program(), arguments, stdin }, SUPERVISOR_MS, env));
        }
    }
}

fn run_order(config: &Config, machine_boot: &str, runner: &WakeRunner, task: &Task, plan: &Plan) -> RunOrder {
    let repo = config.repo_dir.clone().filter(|_| plan.in_repo);
    RunOrder {
        task_id: task.id.to_string(),
        generation: task.generation,
        command: plan.command.clone(),
        cwd: repo.unwrap_or_else(|| folder_of(config)),
        timeout_ms: plan.timeout_ms,
        results_dir: config.results_dir.clone(),
        scratch_dir: runner.scratch_dir().to_owned(),
        machine_boot: machine_boot.to_owned(),
        secrets: vec![config.token.expose().to_owned()],
    }
}

/// The executor's variables, and over them the task's.
fn variables(task: &Task, payload: &Map<String, Value>, more: Vec<(String, String)>) -> Vec<(String, String)> {
    let description = payload.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = [
        ("TASK_ID".to_owned(), task.id.to_string()),
        ("TASK_JSON".to_owned(), task.payload.to_string()),
        ("TASK_DESCRIPTION".to_owned(), description),
    ];
    more.into_iter().chain(own).collect()
}

/// Where commands run: beside the configuration.
fn folder_of(config: &Config) -> PathBuf {
    config.path.parent().map(Into::into).unwrap_or_default()
}
