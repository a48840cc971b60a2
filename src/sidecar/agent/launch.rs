//! Starts the work on a task: turns the machine's order into an order to the wake runner. `executor` chooses the
//! command.

use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::CANNOT_START_KEY;
use crate::common::fs::regular_file;
use crate::machine::Task;
use crate::protocol::{JsonFields, Limit, clip, stored_fields};
use crate::sidecar::agent::executor::{Executor, Plan, choose_executor};
use crate::sidecar::agent::hooks::{Hooks, StartAnswer};
use crate::sidecar::agent::side::Wakes;
use crate::sidecar::agent::supervised::{self, RunRequest, SessionRequest};
use crate::sidecar::agent::wake::{WakeEvent, WakeOrder, WakeOutcome, What};
use crate::sidecar::config::{Config, ExecutorMode};

/// How long the run's supervisor may take to confirm that the command runs, ms: it waits for an earlier run to end.
const SUPERVISOR_TIMEOUT_MS: u64 = 30_000;

/// Starts the work on tasks.
pub(crate) struct Launcher<'a> {
    pub(crate) config: &'a Arc<Config>,
    pub(crate) hooks: &'a Hooks,
    pub(crate) runner: &'a Arc<dyn Wakes>,
    /// The id of this boot of the machine.
    pub(crate) machine_boot: &'a str,
}

impl Launcher<'_> {
    /// Starts the task as the configuration says; the runner reports exactly one event.
    pub(crate) fn begin(&self, task: &Task, attempt: u8) {
        let work = Work {
            config: self.config.clone(),
            runner: self.runner.clone(),
            machine_boot: self.machine_boot.to_owned(),
            task: task.clone(),
            attempt,
        };
        let payload = stored_fields(&task.payload);
        if let Some(why) = payload.string(CANNOT_START_KEY) {
            return work.refuse(why);
        }
        let plan = match choose_executor(self.config, &payload) {
            Ok(Executor::Command(plan)) => plan,
            Ok(Executor::Agent) => return work.leave_to_the_agent(),
            Err(reason) => return work.refuse(reason),
        };
        if !self.hooks.has_start() {
            return work.start(plan, payload);
        }
        let hooks = self.hooks.clone();
        tokio::spawn(async move {
            let answer = hooks.before_start(&payload, work.task.generation, attempt).await;
            let StartAnswer { refuse, env, task } = match answer {
                Ok(answer) => answer,
                // Nothing was started: as a wake that failed, it is tried again.
                Err(error) => return work.answer(WakeOutcome::Failed { error }),
            };
            if let Some(reason) = refuse {
                return work.refuse(format!("refused by on_task_start: {reason}"));
            }
            let (mut plan, mut payload) = (plan, payload);
            plan.env.extend(env);
            payload.extend(task);
            work.start(plan, payload);
        });
    }
}

/// One task that is about to be started.
struct Work {
    config: Arc<Config>,
    runner: Arc<dyn Wakes>,
    machine_boot: String,
    task: Task,
    attempt: u8,
}

impl Work {
    fn refuse(&self, reason: String) {
        // A hook may give a whole book as its reason.
        self.answer(WakeOutcome::Refused { reason: clip(&reason, Limit::Reason) });
    }

    fn answer(&self, outcome: WakeOutcome) {
        self.runner.answer(WakeEvent {
            task_id: self.task.id.to_string(),
            generation: self.task.generation,
            attempt: u32::from(self.attempt),
            outcome,
        });
    }

    /// Writes the task's `.started` file in place of the agent, so that the sidecar's next process finds it too.
    fn leave_to_the_agent(self) {
        tokio::task::spawn_blocking(move || {
            let folder = &self.config.results_dir;
            let started_file = folder.join(format!("{}.started", self.task.id));
            let created = std::fs::create_dir_all(folder).and_then(|()| regular_file::make_empty(&started_file));
            self.answer(match created {
                Ok(()) => WakeOutcome::Succeeded,
                Err(error) => {
                    WakeOutcome::Failed { error: format!("cannot write {}: {error}", started_file.display()) }
                }
            });
        });
    }

    fn start(&self, plan: Plan, payload: JsonFields) {
        let (what, timeout_ms, session) = match plan.mode {
            ExecutorMode::Wake => (What::Shell(plan.command.clone()), plan.timeout_ms, self.session_request()),
            ExecutorMode::Run => {
                let stdin = match encode_request(&self.run_request(&plan)) {
                    Ok(stdin) => stdin,
                    Err(why) => return self.refuse(why),
                };
                let arguments = supervised::arguments().map(str::to_owned).into();
                (What::Program { program: supervised::program(), arguments, stdin }, SUPERVISOR_TIMEOUT_MS, None)
            }
        };
        self.runner.start(WakeOrder {
            task_id: self.task.id.to_string(),
            generation: self.task.generation,
            attempt: u32::from(self.attempt),
            what,
            env: self.variables(payload, plan.env),
            session,
            timeout_ms,
            cwd: config_dir(&self.config),
        });
    }

    /// Returns what `agentcom-sidecar session` needs to know, as JSON; `None` where a folder has no name in UTF-8: the wake
    /// command itself may do without.
    fn session_request(&self) -> Option<String> {
        let request = SessionRequest {
            task_id: self.task.id.to_string(),
            generation: self.task.generation,
            results_dir: self.config.results_dir.clone(),
            scratch_dir: self.runner.scratch_dir().to_owned(),
            machine_boot: self.machine_boot.clone(),
            config_file: self.config.path.clone(),
        };
        serde_json::to_string(&request).ok()
    }

    fn run_request(&self, plan: &Plan) -> RunRequest {
        let repo = self.config.repo_dir.clone().filter(|_| plan.in_repo);
        RunRequest {
            task_id: self.task.id.to_string(),
            generation: self.task.generation,
            command: RunRequest::shell(&plan.command),
            cwd: repo.unwrap_or_else(|| config_dir(&self.config)),
            timeout_ms: Some(plan.timeout_ms),
            results_dir: self.config.results_dir.clone(),
            scratch_dir: self.runner.scratch_dir().to_owned(),
            machine_boot: self.machine_boot.clone(),
            secrets: vec![self.config.token.expose().to_owned()],
        }
    }

    /// Returns the executor's variables, followed by the task's, which override them.
    fn variables(&self, payload: JsonFields, more: Vec<(String, String)>) -> Vec<(String, String)> {
        let description = payload.string("description").unwrap_or_default();
        let own = [
            ("TASK_ID".to_owned(), self.task.id.to_string()),
            ("TASK_JSON".to_owned(), payload.to_text().to_string()),
            ("TASK_DESCRIPTION".to_owned(), description),
        ];
        more.into_iter().chain(own).collect()
    }
}

fn encode_request(order: &RunRequest) -> Result<Vec<u8>, String> {
    serde_json::to_vec(order).map_err(|error| {
        let (beside, results) = (order.scratch_dir.display(), order.results_dir.display());
        format!(
            "a command cannot be run from {beside}, or with its result in {results}: {error}; give them UTF-8 names"
        )
    })
}

/// Returns the folder in which commands run: the one of the configuration file.
fn config_dir(config: &Config) -> PathBuf {
    config.path.parent().map(Into::into).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_name_in_utf_8_is_told_before_a_command_is_run() {
        use std::os::unix::ffi::OsStrExt as _;
        let order = RunRequest {
            task_id: "t".into(),
            generation: 1,
            command: RunRequest::shell("true"),
            cwd: "/".into(),
            timeout_ms: Some(1),
            results_dir: std::ffi::OsStr::from_bytes(b"/r\xff").into(),
            scratch_dir: "/s".into(),
            machine_boot: "b".into(),
            secrets: Vec::new(),
        };
        let why = encode_request(&order).unwrap_err();
        assert!(why.contains("UTF-8") && why.contains("/r"), "{why}");
    }
}
