//! Chooses the executor of a task: the task's own shell line where the hub may send one, else the executor of its
//! routing target, or for a task without one that of the name `default`, else the wake command. It reads the configuration and the assignment, and starts nothing.

use crate::protocol::JsonFields;
use crate::sidecar::config::{Config, ExecutorMode};

/// The name of the executor for tasks that are routed nowhere.
pub(crate) const DEFAULT_TARGET: &str = "default";

/// The target of tasks for the agent that is woken.
pub(crate) const WAKE_TARGET: &str = "wake";

/// The executor of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Executor {
    /// A command that the sidecar runs.
    Command(Plan),
    /// An agent that finds its tasks by itself, as the legacy sidecar assumes it without a wake command: only its files
    /// show its progress.
    Agent,
}

/// The command that is run for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// A shell line.
    pub(crate) command: String,
    /// What the end of the command means.
    pub(crate) mode: ExecutorMode,
    /// The command's time limit, ms.
    pub(crate) timeout_ms: u64,
    /// Additional environment variables.
    pub(crate) env: Vec<(String, String)>,
    /// Whether the command runs in the agent's repository, where one is configured.
    pub(crate) in_repo: bool,
}

/// Chooses the executor of the assignment `task`, or returns why there is none.
pub(crate) fn choose_executor(config: &Config, task: &JsonFields) -> Result<Executor, String> {
    if let Some(plan) = shell_command(config, task) {
        return Ok(Executor::Command(plan));
    }
    let target = routing_target(task);
    let target = target.as_deref();
    let named = |name: &str| config.executors.iter().find(|executor| executor.target == name);
    // What is routed to a target that nobody serves goes to the wake command, as ever, where there is one.
    let takes_rest = is_unrouted(target) || config.wake_command.is_none();
    let executor = target.and_then(named).or_else(|| named(DEFAULT_TARGET).filter(|_| takes_rest));
    if let Some(executor) = executor {
        return Ok(Executor::Command(Plan {
            command: executor.command.clone(),
            mode: executor.mode,
            timeout_ms: executor.timeout_ms,
            env: executor.env.clone(),
            in_repo: false,
        }));
    }
    if let Some(command) = &config.wake_command {
        return Ok(Executor::Command(Plan {
            command: command.clone(),
            mode: ExecutorMode::Wake,
            timeout_ms: config.wake_timeout_ms,
            env: Vec::new(),
            in_repo: false,
        }));
    }
    match target.filter(|_| !is_unrouted(target)) {
        None => Ok(Executor::Agent),
        Some(target) => Err(no_executor_message(config, target)),
    }
}

/// Returns whether the hub leaves it to this machine who does a task.
fn is_unrouted(target: Option<&str>) -> bool {
    target.is_none_or(|target| target == WAKE_TARGET)
}

/// Returns the task's routing target, where it names one.
pub(crate) fn routing_target(task: &JsonFields) -> Option<String> {
    let decision: JsonFields = task.read("routing_decision")?;
    decision.string("target_type").filter(|target| !target.is_empty())
}

fn shell_command(config: &Config, task: &JsonFields) -> Option<Plan> {
    let metadata =
        JsonFields::of_unchecked(task.get("metadata")?.as_str(), |name| matches!(name, "shell_command" | "timeout_ms"));
    let command = metadata.string("shell_command").filter(|command| !command.trim().is_empty())?;
    if !config.shell_commands.enabled {
        tracing::warn!(
            "the task has a shell command, which is not run here (`shell_commands.enabled` in config.json): it goes its \
             usual way"
        );
        return None;
    }
    let limit = config.shell_commands.timeout_ms;
    // A task may ask for a shorter limit only.
    let asked = metadata.read::<u64>("timeout_ms").filter(|asked| *asked > 0);
    Some(Plan {
        command,
        mode: ExecutorMode::Run,
        timeout_ms: asked.map_or(limit, |asked| asked.min(limit)),
        env: Vec::new(),
        in_repo: true,
    })
}

fn no_executor_message(config: &Config, target: &str) -> String {
    let known: Vec<&str> = config.executors.iter().map(|executor| executor.target.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!(
        "no_executor: the task is routed to \"{target}\"; set `executors.{target}`, `executors.default` or `wake_command` in the sidecar's \
         config.json (executors there: {known})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::fields;
    use serde_json::{Value, json};

    fn config(more: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, format!(r#"{{"agent_id": "a", "token": "tttt", "hub_url": "ws://h/ws", {more}}}"#))
            .unwrap();
        Config::load(&path).unwrap().config
    }

    fn planned(more: &str, task: Value) -> Result<Plan, String> {
        match choose_executor(&config(more), &fields(&task))? {
            Executor::Command(plan) => Ok(plan),
            Executor::Agent => Err("left to the agent".into()),
        }
    }

    const EXECUTORS: &str = r#""executors": {"claude": {"command": "run-it", "mode": "run", "timeout_ms": 5000,
        "env": {"K": "v"}}, "wake": {"command": "wake-it"}}"#;

    fn routed(target: &str) -> Value {
        json!({"routing_decision": {"target_type": target}})
    }

    #[test]
    fn the_executor_of_the_routing_target_is_chosen() {
        let plan = planned(EXECUTORS, routed("claude")).unwrap();
        assert_eq!((plan.command.as_str(), plan.mode, plan.timeout_ms), ("run-it", ExecutorMode::Run, 5_000));
        assert_eq!(plan.env, [("K".to_owned(), "v".to_owned())]);
        let plan = planned(EXECUTORS, routed("wake")).unwrap();
        assert_eq!((plan.command.as_str(), plan.mode, plan.timeout_ms), ("wake-it", ExecutorMode::Wake, 60_000));
    }

    #[test]
    fn a_target_without_an_executor_goes_to_the_wake_command() {
        let more = format!(r#""wake_command": "wake-all", {EXECUTORS}"#);
        assert_eq!(planned(&more, routed("ollama")).unwrap().command, "wake-all");
        assert_eq!(planned(&more, json!({"routing_decision": null})).unwrap().command, "wake-all");
    }

    #[test]
    fn a_task_that_is_routed_nowhere_goes_to_the_default_executor() {
        let executors = r#""executors": {"claude": {"command": "run-it"}, "default": {"command": "any"}}"#;
        let chosen = |more: &str, task| planned(&format!("{more}{executors}"), task).unwrap().command;
        for task in [json!({}), json!({"routing_decision": null}), routed("wake")] {
            assert_eq!(chosen("", task.clone()), "any");
            assert_eq!(chosen(r#""wake_command": "wake-all", "#, task), "any");
        }
        assert_eq!(chosen("", routed("claude")), "run-it");
        assert_eq!(chosen("", routed("ollama")), "any", "there is nobody else");
        assert_eq!(chosen(r#""wake_command": "wake-all", "#, routed("ollama")), "wake-all");
    }

    #[test]
    fn a_target_that_nobody_serves_names_the_key_to_set() {
        let why = planned(EXECUTORS, routed("ollama")).unwrap_err();
        assert!(why.starts_with("no_executor: ") && why.contains("`executors.ollama`"), "{why}");
        assert!(why.contains("executors there: claude, wake"), "{why}");
    }

    #[test]
    fn without_a_wake_command_a_task_that_is_routed_nowhere_is_left_to_the_agent() {
        for task in [json!({}), json!({"routing_decision": null})] {
            assert_eq!(choose_executor(&config(EXECUTORS), &fields(&task)), Ok(Executor::Agent));
        }
        assert_eq!(choose_executor(&config(r#""executors": {}"#), &fields(&routed("wake"))), Ok(Executor::Agent));
    }

    #[test]
    fn a_shell_command_is_run_only_where_that_is_on() {
        let task = json!({"metadata": {"shell_command": "ls"}});
        let off = r#""wake_command": "wake-all""#;
        assert_eq!(planned(off, task.clone()).unwrap().command, "wake-all");
        let on = r#""wake_command": "wake-all", "shell_commands": {"enabled": true}"#;
        let plan = planned(on, task).unwrap();
        assert_eq!((plan.command.as_str(), plan.mode, plan.timeout_ms), ("ls", ExecutorMode::Run, 60_000));
        // A description is never run as a command, unlike in the legacy sidecar.
        assert_eq!(planned(on, json!({"description": "rm -rf /"})).unwrap().command, "wake-all");
    }

    #[test]
    fn a_task_may_ask_for_less_time_and_not_for_more() {
        let on = r#""shell_commands": {"enabled": true, "timeout_ms": 5000}"#;
        let limit = |asked: Value| {
            let task = json!({"metadata": {"shell_command": "ls", "timeout_ms": asked}});
            planned(on, task).unwrap().timeout_ms
        };
        assert_eq!((limit(json!(100)), limit(json!(9_000)), limit(json!("x"))), (100, 5_000, 5_000));
    }
}
