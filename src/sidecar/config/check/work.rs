//! Reads `executors`, `shell_commands` and `hooks`.

use crate::sidecar::config::bounds::{self, NumberKey};
use crate::sidecar::config::check::reader::{Reader, not_null, within_bounds};
use crate::sidecar::config::json_ast::{Member, Node, Value};
use crate::sidecar::config::work::{Executor, ExecutorMode, Hooks, ShellCommands};

const EXECUTORS: &str = "executors";
const SHELL_COMMANDS: &str = "shell_commands";
const HOOKS: &str = "hooks";

impl<'a> Reader<'a> {
    /// Warns of unknown and repeated keys inside these objects.
    pub(super) fn check_inner_keys(&mut self) {
        for (key, known) in [(SHELL_COMMANDS, bounds::SHELL_COMMANDS_KEYS), (HOOKS, bounds::HOOKS_KEYS)] {
            self.check_keys_inside(key, self.members_of(key), known);
        }
        self.warn_repeated("labels.", self.members_of("labels"));
        let executors = self.members_of(EXECUTORS);
        self.warn_repeated("executors.", executors);
        for executor in executors {
            if let Value::Object(inner) = &executor.value.value {
                self.check_keys_inside(&format!("executors.{}", executor.key), inner, bounds::EXECUTOR_KEYS);
            }
        }
    }

    fn check_keys_inside(&mut self, key: &str, members: &[Member<'_>], known: &'static [&'static str]) {
        let prefix = format!("{key}.");
        self.warn_repeated(&prefix, members);
        self.warn_unknown(&prefix, members, known);
    }

    fn members_of(&self, key: &str) -> &'a [Member<'a>] {
        match self.find(key).map(|node| &node.value) {
            Some(Value::Object(members)) => members,
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_)) | None => &[],
        }
    }

    pub(super) fn executors(&mut self, wake_timeout_ms: u64) -> Vec<Executor> {
        let allowed = "an object such as {\"claude\": {\"command\": \"my-agent\", \"mode\": \"run\"}}";
        let Some(node) = self.present(EXECUTORS) else { return Vec::new() };
        let Value::Object(members) = &node.value else {
            self.wrong(Some(node), EXECUTORS, allowed);
            return Vec::new();
        };
        // Of repeated names the last one counts.
        let counts = |at: usize| !members[at + 1..].iter().any(|later| later.key == members[at].key);
        let kept = members.iter().enumerate().filter(|(at, _)| counts(*at)).map(|(_, member)| member);
        kept.filter_map(|member| self.executor(member, wake_timeout_ms)).collect()
    }

    fn executor(&mut self, member: &Member<'_>, wake_timeout_ms: u64) -> Option<Executor> {
        let key = format!("executors.{}", member.key);
        let Value::Object(inner) = &member.value.value else {
            self.wrong(Some(&member.value), &key, "an object such as {\"command\": \"my-agent\", \"mode\": \"run\"}");
            return None;
        };
        let mode = self.mode(inner, &key);
        let default = match mode {
            ExecutorMode::Wake => wake_timeout_ms,
            ExecutorMode::Run => bounds::RUN_TIMEOUT.default,
        };
        let timeout_ms = match not_null(inner, "timeout_ms") {
            Some(node) => self.whole_number_named(node, &format!("{key}.timeout_ms"), bounds::RUN_TIMEOUT),
            None => default,
        };
        let env = self.variables(inner, &key);
        let command = match not_null(inner, "command") {
            Some(node) => self.command(node, &format!("{key}.command"))?,
            None => {
                let (key, found) = (format!("{key}.command"), "no such key".to_owned());
                self.report(Some(member.value.at), &key, found, "a shell line");
                return None;
            }
        };
        Some(Executor { target: member.key.clone(), command, mode, timeout_ms, env })
    }

    fn mode(&mut self, inner: &[Member<'_>], key: &str) -> ExecutorMode {
        let Some(node) = not_null(inner, "mode") else { return ExecutorMode::default() };
        let named = if let Value::Text(name) = &node.value { ExecutorMode::parse(name) } else { None };
        named.unwrap_or_else(|| {
            self.wrong(Some(node), &format!("{key}.mode"), ExecutorMode::NAMES);
            ExecutorMode::default()
        })
    }

    /// Reads a shell line, and warns of each placeholder that the shell does not expand.
    fn command(&mut self, node: &Node<'_>, key: &str) -> Option<String> {
        let Value::Text(command) = &node.value else {
            self.wrong(Some(node), key, "a shell line");
            return None;
        };
        if command.trim().is_empty() || command.contains('\0') {
            self.wrong(Some(node), key, "a shell line that is not empty and has no NUL in it");
            return None;
        }
        self.warn_single_quoted(Some(node.at), key, command);
        Some(command.clone())
    }

    fn variables(&mut self, inner: &[Member<'_>], key: &str) -> Vec<(String, String)> {
        let allowed = "an object of texts: {\"NAME\": \"value\"}, without \"=\" in a name and without NUL";
        let Some(node) = not_null(inner, "env") else { return Vec::new() };
        let key = format!("{key}.env");
        let Value::Object(members) = &node.value else {
            self.wrong(Some(node), &key, allowed);
            return Vec::new();
        };
        let mut variables = Vec::new();
        for member in members {
            let name = member.key.as_str();
            match &member.value.value {
                Value::Text(value) if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') => {
                    variables.push((name.to_owned(), value.clone()));
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Object(_) => self.wrong(Some(&member.value), &format!("{key}.{name}"), allowed),
            }
        }
        variables
    }

    pub(in crate::sidecar::config) fn shell_commands(&mut self, key: &'static str) -> ShellCommands {
        let off = ShellCommands { enabled: false, timeout_ms: bounds::SHELL_COMMAND_TIMEOUT.default };
        let Some(members) = self.object(key, "an object such as {\"enabled\": true}") else { return off };
        let enabled = not_null(members, "enabled");
        let enabled = enabled.is_some_and(|node| self.true_or_false(node, "shell_commands.enabled"));
        ShellCommands { enabled, timeout_ms: self.timeout(members, bounds::SHELL_COMMAND_TIMEOUT) }
    }

    pub(in crate::sidecar::config) fn hooks(&mut self, key: &'static str) -> Hooks {
        let allowed = "an object such as {\"on_task_start\": \"./hook start\"}";
        let timeout_ms = bounds::HOOK_TIMEOUT.default;
        let none = Hooks { on_task_start: None, on_task_result: None, on_message: None, timeout_ms };
        let Some(members) = self.object(key, allowed) else { return none };
        let mut line = |name: &str| {
            let node = not_null(members, name)?;
            self.command(node, &format!("hooks.{name}"))
        };
        let (on_task_start, on_task_result, on_message) =
            (line("on_task_start"), line("on_task_result"), line("on_message"));
        Hooks { on_task_start, on_task_result, on_message, timeout_ms: self.timeout(members, bounds::HOOK_TIMEOUT) }
    }

    pub(in crate::sidecar::config) fn resource_report_interval(&mut self, key: &'static str) -> u64 {
        self.off_or_number(key, bounds::RESOURCE_REPORT_INTERVAL)
    }

    pub(in crate::sidecar::config) fn task_timeout(&mut self, key: &'static str) -> Option<u64> {
        Some(self.off_or_number(key, bounds::TASK_TIMEOUT)).filter(|limit| *limit > 0)
    }

    /// Reads a number within bounds, or 0 for off.
    fn off_or_number(&mut self, key: &'static str, spec: NumberKey) -> u64 {
        match self.present(key) {
            None => spec.default,
            Some(node) if matches!(node.value, Value::Number("0")) => 0,
            Some(node) => within_bounds(node, spec).unwrap_or_else(|| {
                let allowed = format!("0 (off), or a whole number from {} to {}", spec.min, spec.max);
                self.wrong(Some(node), key, &allowed);
                spec.default
            }),
        }
    }

    fn timeout(&mut self, members: &[Member<'_>], spec: NumberKey) -> u64 {
        not_null(members, "timeout_ms").map_or(spec.default, |node| self.whole_number(node, spec))
    }
}
