//! Commands around a task, for git workflows and the like: JSON on stdin, JSON back on stdout. The failure of a hook is
//! reported and never loses a task; an answer that makes no sense is the caller's. The callers decide when hooks run and
//! what their answers mean for a task.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;

use crate::common::logging::Redactor;
use crate::common::text::first_chars;
use crate::protocol::{Document, JsonError, JsonFields, JsonText, JsonType, MAX_JSON_DEPTH, repair};
use crate::sidecar::agent::wake::output_file::{self, OutputFile};
use crate::sidecar::agent::wake::{Scrub, process_group};
use crate::sidecar::config::Config;

/// The longest answer that is read from a hook, bytes.
const ANSWER_BYTES: u64 = 2 * 1024 * 1024;

/// How much of a hook's stderr is quoted, characters.
const STDERR_CHARS: usize = 1_000;

/// The longest error that may quote an answer, characters.
const QUOTED_CHARS: usize = 1_500;

/// The longest value of a variable of `on_message`, characters: it fits the kernel's 128 KiB in any script.
const VARIABLE_CHARS: usize = 30_000;

/// The configured hooks and what they run with.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    start: Option<String>,
    result: Option<String>,
    message: Option<String>,
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
    pub(crate) task: JsonFields,
}

/// Why a hook gave no answer.
#[derive(Debug)]
enum HookError {
    /// It did not start, took too long, or ended otherwise than with code 0: it changes nothing.
    Failed(String),
    /// It ended well, and what it printed is no answer.
    Rubbish(String),
}

impl Hooks {
    pub(crate) fn new(config: &Config, scratch_dir: PathBuf, scrub: Scrub, redactor: Redactor) -> Self {
        let (start, result) = (config.hooks.on_task_start.clone(), config.hooks.on_task_result.clone());
        let message = config.hooks.on_message.clone();
        let config_dir = config.path.parent().unwrap_or(Path::new("/"));
        let cwd = config.repo_dir.clone().unwrap_or_else(|| config_dir.to_owned());
        let limit = Duration::from_millis(config.hooks.timeout_ms);
        Self { start, result, message, limit, cwd, scratch_dir, scrub, redactor }
    }

    /// Returns the hooks of a configuration that was read again. Hooks that already run are not affected.
    pub(crate) fn with_config(&self, config: &Config) -> Self {
        Self::new(config, self.scratch_dir.clone(), self.scrub, self.redactor.clone())
    }

    /// Returns whether `on_task_start` is configured.
    pub(crate) fn has_start(&self) -> bool {
        self.start.is_some()
    }

    /// Returns whether `on_message` is configured.
    pub(crate) fn has_message(&self) -> bool {
        self.message.is_some()
    }

    /// Runs `on_message`. What it prints is not read.
    pub(crate) async fn on_message(&self, message: &JsonFields) {
        let Some(line) = &self.message else { return };
        let text = |name: &str| {
            let text: String = message.string(name).unwrap_or_default().replace('\0', "");
            first_chars(&text, VARIABLE_CHARS).to_owned()
        };
        let env = [("MESSAGE_FROM", text("from")), ("MESSAGE_TEXT", text("text"))];
        match self.run(line, "on_message", &JsonText::of(&MessageInput { hook: "on_message", message }), &env).await {
            Ok(_) | Err(HookError::Rubbish(_)) => {}
            Err(HookError::Failed(error)) => {
                tracing::warn!(hook = "on_message", error = self.quotable(error), "a hook failed; the message is lost");
            }
        }
    }

    /// Runs `on_task_start`. If it fails, a warning is added to the task (`hook_warning`), where the agent sees it.
    ///
    /// # Errors
    /// What it printed is no answer, so that nobody knows what it wanted.
    pub(crate) async fn before_start(
        &self,
        task: &JsonFields,
        generation: u64,
        attempt: u8,
    ) -> Result<StartAnswer, String> {
        let Some(line) = &self.start else { return Ok(StartAnswer::default()) };
        let input = Input {
            hook: "on_task_start",
            task_id: task.get("task_id"),
            generation,
            attempt: Some(attempt),
            task,
            result: None,
        };
        match self
            .run_for_task(line, &input)
            .await
            .and_then(|answer| parse_start_answer(answer).map_err(HookError::Rubbish))
        {
            Ok(begin) => Ok(StartAnswer { refuse: begin.refuse.map(|reason| self.redactor.clean(reason)), ..begin }),
            Err(HookError::Rubbish(error)) => Err(format!("on_task_start: {}", self.quotable(error))),
            Err(HookError::Failed(error)) => {
                let error = self.quotable(error);
                tracing::warn!(hook = "on_task_start", error, "a hook failed; the task is begun without it");
                let mut task = JsonFields::default();
                task.set("hook_warning", &format!("on_task_start: {error}"));
                Ok(StartAnswer { task, ..StartAnswer::default() })
            }
        }
    }

    /// Runs `on_task_result`; returns the changed result, or `None` if the hook changed nothing. A hook that fails
    /// changes nothing.
    ///
    /// # Errors
    /// What it printed is no answer.
    pub(crate) async fn review(
        &self,
        task: &JsonFields,
        generation: u64,
        mut result: JsonFields,
    ) -> Result<Option<JsonFields>, String> {
        let Some(line) = &self.result else { return Ok(None) };
        let input = Input {
            hook: "on_task_result",
            task_id: task.get("task_id"),
            generation,
            attempt: None,
            task,
            result: Some(&result),
        };
        let changes = |mut answer: JsonFields| take_object(&mut answer, "result").map_err(HookError::Rubbish);
        match self.run_for_task(line, &input).await.and_then(changes) {
            Ok(changes) if changes.is_empty() => Ok(None),
            Ok(changes) => {
                result.extend(changes);
                Ok(Some(result))
            }
            Err(HookError::Rubbish(error)) => Err(self.quotable(error)),
            Err(HookError::Failed(error)) => {
                let error = self.quotable(error);
                tracing::warn!(hook = "on_task_result", error, "a hook failed; the result stays as it is");
                Ok(None)
            }
        }
    }

    async fn run_for_task(&self, line: &str, input: &Input<'_>) -> Result<JsonFields, HookError> {
        self.run(line, input.hook, &JsonText::of(input), &[]).await
    }

    /// Runs one hook and returns its answer. The hook must exit with code 0 and print nothing or one JSON object.
    async fn run(
        &self,
        line: &str,
        hook: &str,
        input: &JsonText,
        env: &[(&str, String)],
    ) -> Result<JsonFields, HookError> {
        let file_error = |error: io::Error| {
            HookError::Failed(format!("its files cannot be made in {}: {error}", self.scratch_dir.display()))
        };
        // Files, not pipes: a daemon that the hook leaves behind may hold them open forever, and delays nothing.
        let mut stdin = self.file().map_err(file_error)?;
        let output = |stream: &str| OutputFile::try_create(&self.scratch_dir, &format!("{hook}.{stream}"));
        let (stdout, stderr) = (output("stdout").map_err(file_error)?, output("stderr").map_err(file_error)?);
        stdin.write_all(input.as_str().as_bytes()).map_err(file_error)?;
        stdin.seek(SeekFrom::Start(0)).map_err(file_error)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.cwd);
        (self.scrub)(&mut command);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(stdin).stdout(stdout.stdio()).stderr(stderr.stdio());
        process_group::lead(&mut command);
        let spawned = command.spawn();
        // The command's own copies too: the files stay until their last writer is gone.
        drop(command);
        let (stdout, stderr) = (stdout.close_writers(2 * ANSWER_BYTES), stderr.close_writers(output_file::MAX_BYTES));
        let mut child =
            spawned.map_err(|e| HookError::Failed(format!("it did not start in {}: {e}", self.cwd.display())))?;
        let mut guard = child.id().map(KillOnDrop);
        let limit = self.limit.as_millis();
        let too_long = || HookError::Rubbish(format!("its answer has more than {ANSWER_BYTES} bytes"));
        let ended = tokio::time::timeout(self.limit, stdout.while_at_most(ANSWER_BYTES, child.wait())).await;
        let ended = ended.map_err(|_| HookError::Failed(format!("it took longer than {limit} ms and was ended")))?;
        let status = ended.ok_or_else(too_long)?.map_err(|e| HookError::Failed(format!("it was lost: {e}")))?;
        // Processes that a finished hook leaves running belong to the operator.
        if let Some(guard) = guard.take() {
            std::mem::forget(guard);
        }
        if !status.success() {
            let quoted = stderr.quote(STDERR_CHARS, &self.redactor);
            let colon = if quoted.is_empty() { "" } else { ": " };
            return Err(HookError::Failed(format!("it {}{colon}{quoted}", process_group::describe_exit(status))));
        }
        if stdout.printed() > ANSWER_BYTES {
            return Err(too_long());
        }
        let text =
            stdout.read(ANSWER_BYTES).map_err(|e| HookError::Failed(format!("its answer cannot be read: {e}")))?;
        parse_answer(&text).map_err(HookError::Rubbish)
    }

    /// Returns an error, which may quote an answer, without secrets and not too long. In this order: half a secret is not
    /// found.
    fn quotable(&self, error: String) -> String {
        first_chars(&self.redactor.clean(error), QUOTED_CHARS).to_owned()
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

/// What `on_message` gets on stdin.
#[derive(Serialize)]
struct MessageInput<'a> {
    hook: &'static str,
    message: &'a JsonFields,
}

/// What a hook of a task gets on stdin.
#[derive(Serialize)]
struct Input<'a> {
    hook: &'static str,
    task_id: Option<&'a JsonText>,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u8>,
    task: &'a JsonFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a JsonFields>,
}

/// Parses an answer: one JSON object, or nothing.
fn parse_answer(text: &[u8]) -> Result<JsonFields, String> {
    if repair(text).text.trim().is_empty() {
        return Ok(JsonFields::default());
    }
    let wanted = "it must print one JSON object, or nothing";
    let document = Document::check(text, MAX_JSON_DEPTH).map_err(|unread| match unread {
        JsonError::NotJson(error) => format!("its answer is no JSON object ({error}); {wanted}"),
        JsonError::NotAnObject => format!("its answer is JSON but no object; {wanted}"),
        JsonError::Refused(refusal) => format!("its answer is not taken: {refusal}"),
    })?;
    if document.replaced() > 0 {
        tracing::warn!(
            count = document.replaced(),
            "the answer of a hook has characters that are not Unicode: read as U+FFFD"
        );
    }
    Ok(document.fields())
}

/// Removes and returns a member that must be an object; an absent one or `null` is an empty object.
fn take_object(answer: &mut JsonFields, key: &str) -> Result<JsonFields, String> {
    let Some(part) = answer.remove(key).filter(|part| !part.is_null()) else { return Ok(JsonFields::default()) };
    part.read().map_err(|_| format!("its answer has \"{key}\": {}, which is no object", part))
}

fn parse_start_answer(mut answer: JsonFields) -> Result<StartAnswer, String> {
    let refuse = match answer.remove("refuse") {
        Some(refuse) if refuse.json_type() == JsonType::String => refuse.string(),
        Some(refuse) if !refuse.is_null() && refuse.as_str() != "false" => {
            return Err(format!("its answer has \"refuse\": {}, which is no text", refuse));
        }
        None | Some(_) => None,
    };
    let (env, task) = (take_object(&mut answer, "env")?, take_object(&mut answer, "task")?);
    let variable = |(name, value): (&str, &JsonText)| {
        let plain = !name.is_empty() && !name.contains(['=', '\0']);
        let text = value.string().filter(|text| plain && !text.contains('\0'));
        text.map(|text| (name.to_owned(), text))
            .ok_or_else(|| format!("its answer has the variable {name:?}: {value}, which is no text with a plain name"))
    };
    let env = env.iter().map(variable).collect::<Result<_, _>>()?;
    Ok(StartAnswer { refuse, env, task })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn begin(answer: serde_json::Value) -> Result<StartAnswer, String> {
        parse_start_answer(JsonText::of(&answer).read().unwrap())
    }

    #[test]
    fn an_answer_may_add_and_refuse() {
        assert_eq!(begin(json!({})).unwrap(), StartAnswer::default());
        let begun = begin(json!({"env": {"K": "v"}, "task": {"branch": "b"}, "refuse": null})).unwrap();
        assert_eq!(begun.env, [("K".to_owned(), "v".to_owned())]);
        assert_eq!(begun.task.string("branch").as_deref(), Some("b"));
        assert_eq!(begin(json!({"refuse": "why"})).unwrap().refuse.as_deref(), Some("why"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_of_an_answer_is_a_result_that_is_taken(value in crate::protocol::tests::any_text::value()) {
            let answer = parse_answer(format!(r#"{{"result":{{"deep":{value}}}}}"#).as_bytes());
            if let Ok(changes) = answer.and_then(|mut answer| take_object(&mut answer, "result")) {
                let result = changes.to_text();
                assert!(Document::check(result.as_str().as_bytes(), crate::protocol::MAX_RESULT_DEPTH).is_ok(), "{result}");
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
