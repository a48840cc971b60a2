//! Commands around a task, for git workflows and the like: JSON on stdin, JSON back on stdout. The failure of a hook is
//! reported and never loses a task. The callers decide when hooks run and what their answers mean for a task.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::common::logging::Redactor;
use crate::common::text::last_bytes;
use crate::protocol::{JsonError, MAX_JSON_DEPTH, read_object};
use crate::sidecar::agent::wake::{Scrub, process_group};
use crate::sidecar::config::Config;

/// The longest answer that is read from a hook, bytes.
const ANSWER_BYTES: u64 = 2 * 1024 * 1024;

/// How much of a hook's stderr is quoted, bytes.
const QUOTED_BYTES: usize = 1_000;

/// The configured hooks and what they run with.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    start: Option<String>,
    result: Option<String>,
    limit: Duration,
    cwd: PathBuf,
    /// The folder for the files that a hook reads and writes.
    scratch_dir: PathBuf,
    scrub: Scrub,
    redactor: Redactor,
}

/// The answer of `on_task_start`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StartAnswer {
    /// Why the task must not be started, if so.
    pub(crate) refuse: Option<String>,
    /// Additional environment variables.
    pub(crate) env: Vec<(String, String)>,
    /// New or changed fields of the task.
    pub(crate) task: Map<String, Value>,
}

impl Hooks {
    pub(crate) fn new(config: &Config, scratch_dir: PathBuf, scrub: Scrub, redactor: Redactor) -> Self {
        let (start, result) = (config.hooks.on_task_start.clone(), config.hooks.on_task_result.clone());
        let config_dir = config.path.parent().unwrap_or(Path::new("/"));
        let cwd = config.repo_dir.clone().unwrap_or_else(|| config_dir.to_owned());
        Self { start, result, limit: Duration::from_millis(config.hooks.timeout_ms), cwd, scratch_dir, scrub, redactor }
    }

    /// Returns the hooks of a configuration that was read again. Hooks that already run are not affected.
    pub(crate) fn with_config(&self, config: &Config) -> Self {
        Self::new(config, self.scratch_dir.clone(), self.scrub, self.redactor.clone())
    }

    /// Returns whether `on_task_start` is configured.
    pub(crate) fn has_start(&self) -> bool {
        self.start.is_some()
    }

    /// Runs `on_task_start`. If it fails, a warning is added to the task (`hook_warning`), where the agent sees it.
    pub(crate) async fn before_start(&self, task: &Map<String, Value>, generation: u64, attempt: u8) -> StartAnswer {
        let Some(line) = &self.start else { return StartAnswer::default() };
        let input = json!({
            "hook": "on_task_start", "task_id": task.get("task_id"), "generation": generation, "attempt": attempt,
            "task": task,
        });
        match self.run(line, &input).await.and_then(|answer| parse_start_answer(&answer)) {
            Ok(begin) => begin,
            Err(error) => {
                tracing::warn!(hook = "on_task_start", error, "a hook failed; the task is begun without it");
                let mut task = Map::new();
                task.insert("hook_warning".into(), format!("on_task_start: {error}").into());
                StartAnswer { task, ..StartAnswer::default() }
            }
        }
    }

    /// Runs `on_task_result`; returns the changed result, or `None` if the hook changed nothing. A hook that fails
    /// changes nothing.
    pub(crate) async fn review(
        &self,
        task: Map<String, Value>,
        generation: u64,
        mut result: Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let line = self.result.as_ref()?;
        let input = json!({
            "hook": "on_task_result", "task_id": task.get("task_id"), "generation": generation, "task": task,
            "result": result,
        });
        match self.run(line, &input).await.and_then(|mut answer| take_object(&mut answer, "result")) {
            Ok(changes) if changes.is_empty() => None,
            Ok(changes) => {
                result.extend(changes);
                Some(result)
            }
            Err(error) => {
                tracing::warn!(hook = "on_task_result", error, "a hook failed; the result stays as it is");
                None
            }
        }
    }

    /// Runs one hook and returns its answer. The hook must exit with code 0 and print nothing or one JSON object.
    async fn run(&self, line: &str, input: &Value) -> Result<Map<String, Value>, String> {
        let file_error =
            |error: io::Error| format!("its files cannot be made in {}: {error}", self.scratch_dir.display());
        // Files, not pipes: a daemon that the hook leaves behind may hold them open forever, and delays nothing.
        let mut stdin = self.file().map_err(file_error)?;
        let (stdout, stderr) = (self.file().map_err(file_error)?, self.file().map_err(file_error)?);
        stdin.write_all(input.to_string().as_bytes()).map_err(file_error)?;
        stdin.seek(SeekFrom::Start(0)).map_err(file_error)?;
        let handle = |file: &File| file.try_clone().map(Stdio::from).map_err(file_error);
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.cwd);
        (self.scrub)(&mut command);
        command.stdin(stdin).stdout(handle(&stdout)?).stderr(handle(&stderr)?);
        process_group::lead(&mut command);
        let mut child = command.spawn().map_err(|e| format!("it did not start in {}: {e}", self.cwd.display()))?;
        let mut guard = child.id().map(KillOnDrop);
        let limit = self.limit.as_millis();
        let ended = tokio::time::timeout(self.limit, child.wait()).await;
        let status = ended.map_err(|_| format!("it took longer than {limit} ms and was ended"))?;
        let status = status.map_err(|e| format!("it was lost: {e}"))?;
        // Processes that a finished hook leaves running belong to the operator.
        if let Some(guard) = guard.take() {
            std::mem::forget(guard);
        }
        if !status.success() {
            let quoted = self.redactor.clean(tail(stderr));
            return Err(format!(
                "it {}{}{quoted}",
                process_group::describe_exit(status),
                if quoted.is_empty() { "" } else { ": " }
            ));
        }
        let text = read_text(stdout).map_err(|e| format!("its answer cannot be read: {e}"))?;
        parse_answer(&text)
    }

    fn file(&self) -> io::Result<File> {
        std::fs::create_dir_all(&self.scratch_dir)?;
        tempfile::tempfile_in(&self.scratch_dir)
    }
}

/// Kills a hook's process group when dropped: the hook took too long, or its answer is no longer wanted.
struct KillOnDrop(u32);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        process_group::kill(self.0);
    }
}

fn read_text(mut file: File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(ANSWER_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(file: File) -> String {
    let text = read_text(file).unwrap_or_default();
    last_bytes(text.trim(), QUOTED_BYTES).to_owned()
}

/// Parses an answer: one JSON object, or nothing.
fn parse_answer(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let wanted = "it must print one JSON object, or nothing";
    read_object(text.as_bytes(), MAX_JSON_DEPTH).map_err(|unread| match unread {
        JsonError::NotJson(error) => format!("its answer is no JSON object ({error}); {wanted}"),
        JsonError::NotAnObject => format!("its answer is JSON but no object; {wanted}"),
        JsonError::Refused(refusal) => format!("its answer is not taken: {refusal}"),
    })
}

/// Removes and returns a member that must be an object; an absent one or `null` is an empty object.
fn take_object(answer: &mut Map<String, Value>, key: &str) -> Result<Map<String, Value>, String> {
    match answer.remove(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(part)) => Ok(part),
        Some(other) => Err(format!("its answer has \"{key}\": {other}, which is no object")),
    }
}

fn parse_start_answer(answer: &Map<String, Value>) -> Result<StartAnswer, String> {
    let mut answer = answer.clone();
    let refuse = match answer.remove("refuse") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::String(reason)) => Some(reason),
        Some(other) => return Err(format!("its answer has \"refuse\": {other}, which is no text")),
    };
    let (env, task) = (take_object(&mut answer, "env")?, take_object(&mut answer, "task")?);
    let variable = |(name, value): (String, Value)| {
        let plain = !name.is_empty() && !name.contains(['=', '\0']);
        match value.as_str().filter(|_| plain) {
            Some(text) => Ok((name, text.to_owned())),
            None => Err(format!("its answer has the variable {name:?}: {value}, which is no text with a plain name")),
        }
    };
    let env = env.into_iter().map(variable).collect::<Result<_, _>>()?;
    Ok(StartAnswer { refuse, env, task })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(answer: Value) -> Result<StartAnswer, String> {
        parse_start_answer(answer.as_object().unwrap())
    }

    #[test]
    fn an_answer_may_add_and_refuse() {
        assert_eq!(begin(json!({})).unwrap(), StartAnswer::default());
        let begun = begin(json!({"env": {"K": "v"}, "task": {"branch": "b"}, "refuse": null})).unwrap();
        assert_eq!(begun.env, [("K".to_owned(), "v".to_owned())]);
        assert_eq!(begun.task["branch"], "b");
        assert_eq!(begin(json!({"refuse": "why"})).unwrap().refuse.as_deref(), Some("why"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_of_an_answer_is_a_result_that_is_taken(value in crate::protocol::tests::any_text::value()) {
            let answer = parse_answer(&format!(r#"{{"result":{{"deep":{value}}}}}"#));
            if let Ok(changes) = answer.and_then(|mut answer| take_object(&mut answer, "result")) {
                let result = Value::Object(changes).to_string();
                assert!(read_object(result.as_bytes(), crate::protocol::MAX_RESULT_DEPTH).is_ok(), "{result}");
            }
        }
    }

    #[test]
    fn an_answer_of_the_wrong_shape_says_what_is_wrong() {
        assert!(begin(json!({"env": {"K": 1}})).unwrap_err().contains("\"K\": 1"));
        assert!(begin(json!({"task": []})).unwrap_err().contains("\"task\": []"));
        assert!(begin(json!({"refuse": 7})).unwrap_err().contains("\"refuse\": 7"));
    }
}
