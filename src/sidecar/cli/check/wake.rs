//! Checks whether the programs of the configured commands exist: of the wake command, the executors and the hooks. It
//! reads the first word of each shell line and runs nothing; a line that begins with anything but a plain command is
//! not checked.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::{is_executable, regular_file};
use crate::sidecar::agent::executor::{DEFAULT_TARGET, WAKE_TARGET};
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::hub::HubKind;
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;

/// Builtins and keywords of the shell that wake commands begin with.
const SHELL_WORDS: [&str; 20] = [
    ".", ":", "[", "case", "cd", "command", "eval", "exec", "export", "false", "for", "if", "printf", "set", "test",
    "trap", "true", "umask", "until", "while",
];

/// The program of a Node sidecar, in its folder.
const NODE_SIDECAR: &str = "index.js";

/// The targets of a legacy hub's routing decisions. Source: its `task_router.ex` and `scheduler.ex`.
const LEGACY_TARGETS: [&str; 4] = ["sidecar", "ollama", "claude", WAKE_TARGET];

/// Returns a finding for each command.
pub(super) fn commands(config: &Config) -> Vec<Finding> {
    let config_folder = folder_of(&config.path);
    let mut findings = vec![match &config.wake_command {
        Some(line) => check_command("wake", "wake_command", line, config_folder),
        None if config.executors.iter().any(|executor| executor.target == DEFAULT_TARGET) => Finding::ok(
            "wake",
            "no `wake_command`: `executors.default` takes every task without an executor of its own",
        ),
        None => Finding::warning("wake", "no `wake_command`: a task waits for an agent that finds it by itself").then(
            "set `wake_command` to the shell line that wakes the agent (docs/operating.md, \"Onboard an agent\")",
        ),
    }];
    for executor in &config.executors {
        findings.push(check_command(
            "executor",
            &format!("executors.{}", executor.target),
            &executor.command,
            config_folder,
        ));
    }
    let hooks = [
        ("hooks.on_task_start", &config.hooks.on_task_start),
        ("hooks.on_task_result", &config.hooks.on_task_result),
        ("hooks.on_message", &config.hooks.on_message),
    ];
    let hooks_run_in = config.repo_dir.as_deref().unwrap_or(config_folder);
    for (key, line) in hooks {
        findings.extend(line.as_ref().map(|line| check_command("hook", key, line, hooks_run_in)));
    }
    findings
}

/// Returns a warning for each command that no task of this hub reaches.
pub(super) fn never_asked(config: &Config, hub: HubKind) -> Vec<Finding> {
    let has_default = config.executors.iter().any(|executor| executor.target == DEFAULT_TARGET);
    let is_asked = |target: &str| match hub {
        HubKind::Ours => target == DEFAULT_TARGET,
        HubKind::Legacy => target == DEFAULT_TARGET || LEGACY_TARGETS.contains(&target),
    };
    let (why, todo) = match hub {
        HubKind::Ours => ("this hub routes no task to a target", "name it `default`, or take it out"),
        HubKind::Legacy => (
            "a legacy hub routes to `sidecar`, `ollama`, `claude` or `wake`",
            "name it after one of these, or `default`, or take it out",
        ),
    };
    let unasked = config.executors.iter().filter(|executor| !is_asked(&executor.target));
    let warning = |key: String, why: &str| Finding::warning("routing", format!("`{key}` is never asked: {why}"));
    let mut findings: Vec<Finding> =
        unasked.map(|executor| warning(format!("executors.{}", executor.target), why).then(todo)).collect();
    if hub == HubKind::Ours && has_default && config.wake_command.is_some() {
        let why = "this hub routes no task to a target, and `executors.default` takes what is routed nowhere";
        findings.push(warning("wake_command".to_owned(), why).then("take one of the two out"));
    }
    findings
}

/// Warns where a Node sidecar's folder is taken over, and what that does for messages in rooms would be done no more.
pub(super) fn room_messages(config: &Config, hub: Option<HubKind>) -> Option<Finding> {
    let is_node_sidecars = folder_of(&config.path).join(NODE_SIDECAR).is_file();
    // This project's hub has no rooms.
    if !is_node_sidecars || hub == Some(HubKind::Ours) || config.hooks.on_message.is_some() {
        return None;
    }
    let found =
        "the Node sidecar of this folder wakes its agent for each message in a room; this one does nothing with them";
    Some(
        Finding::warning("hook", found)
            .then("set `hooks.on_message`, if that is wanted (docs/configuration.md, \"Hooks\")"),
    )
}

/// Checks whether the program of `line`, which is run in `folder`, can be found and executed.
fn check_command(check: &'static str, key: &str, line: &str, folder: &Path) -> Finding {
    let Some(word) = first_word(line) else {
        return Finding::ok(check, format!("`{key}` begins with something for the shell; it was not looked into"));
    };
    if SHELL_WORDS.contains(&word) {
        return Finding::ok(check, format!("`{key}` begins with the shell's own `{word}`; it was not looked into"));
    }
    match find_program(word, folder, std::env::var_os("PATH").as_deref()) {
        Some(path) if is_executable(&path) => {
            let path = normalized(&path);
            let good = || Finding::ok(check, format!("`{word}` of `{key}` is {}", path.display()));
            interpreter(&path).and_then(|name| missing_interpreter(check, key, &path, &name)).unwrap_or_else(good)
        }
        Some(path) => {
            let path = normalized(&path);
            let found = format!("`{key}`: {} may not be executed", path.display());
            Finding::problem(check, found, ExitCode::Unavailable).then(format!("chmod +x '{}'", path.display()))
        }
        None if word.contains('/') => {
            let found = format!("`{key}`: there is no {}", normalized(&folder.join(word)).display());
            Finding::problem(check, found, ExitCode::Unavailable)
                .then(format!("write it, or correct `{key}`; it is run in {}", folder.display()))
        }
        None => Finding::problem(check, format!("`{key}`: no `{word}` on the PATH"), ExitCode::Unavailable)
            .then("install it, or write its whole path; this is this shell's PATH, under pm2 it may be another"),
    }
}

/// Returns the interpreter that a script's first line names, or `None` if the file is no script.
fn interpreter(script: &Path) -> Option<String> {
    let mut start = Vec::new();
    // The kernel reads no more of the file.
    regular_file::open(script).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().map(str::to_owned)
}

/// Returns a problem if the script's interpreter does not exist: the shell calls the script itself "not found" then.
fn missing_interpreter(check: &'static str, key: &str, script: &Path, name: &str) -> Option<Finding> {
    if Path::new(name).exists() {
        return None;
    }
    let script = script.display();
    let (found, todo) = match name.strip_suffix('\r') {
        Some(_) => ("its lines end as on Windows (CR LF)".to_owned(), format!("sed -i 's/\\r$//' '{script}'")),
        None => (format!("its first line names {name}, which is not there"), "correct that line".to_owned()),
    };
    Some(Finding::problem(check, format!("`{key}`: {script} cannot run: {found}"), ExitCode::Unavailable).then(todo))
}

/// Returns the path without `.` components, as in `./wake.sh`.
fn normalized(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns the command's name if it is written without quotes or expansions. `NAME=value` before it is skipped.
fn first_word(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let word = words.find(|word| !is_assignment(word))?;
    let word = word.strip_suffix(';').unwrap_or(word);
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | ':' | '[' | ',' | '@');
    (!word.is_empty() && word.chars().all(plain)).then_some(word)
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    // A value with quotes may go on in the next word; such a line is not checked.
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        && !word.contains(['\'', '"', '$', '`', '\\'])
}

fn find_program(word: &str, folder: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if word.contains('/') {
        return Some(folder.join(word)).filter(|path| path.exists());
    }
    let entries = std::env::split_paths(path?);
    let candidates: Vec<PathBuf> = entries.map(|entry| folder.join(entry).join(word)).collect();
    let executable = candidates.iter().find(|path| is_executable(path));
    executable.or_else(|| candidates.iter().find(|path| path.is_file())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unasked(more: &str, hub: HubKind) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, format!(r#"{{"agent_id": "a", "token": "tttt", "hub_url": "ws://h/ws", {more}}}"#))
            .unwrap();
        never_asked(&Config::load(&path).unwrap().config, hub).iter().map(Finding::as_sentence).collect()
    }

    #[test]
    fn an_executor_that_no_task_of_the_hub_reaches_is_found() {
        let executors = r#""wake_command": "w", "executors": {"claude": {"command": "c"}, "gpu": {"command": "g"},
            "default": {"command": "d"}}"#;
        let found = unasked(executors, HubKind::Legacy);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`executors.gpu` is never asked"), "{found:?}");
        let found = unasked(executors, HubKind::Ours).join("; ");
        for key in ["`executors.claude`", "`executors.gpu`", "`wake_command` is never asked"] {
            assert!(found.contains(key), "{key}: {found}");
        }
        assert!(!found.contains("`executors.default` is"), "{found}");
        assert_eq!(unasked(r#""wake_command": "w""#, HubKind::Ours), Vec::<String>::new());
    }

    #[test]
    fn the_folder_of_a_node_sidecar_needs_a_hook_for_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = |more: &str| {
            std::fs::write(&path, format!(r#"{{"agent_id": "a", "token": "tttt", "hub_url": "ws://h/ws"{more}}}"#))
                .unwrap();
            Config::load(&path).unwrap().config
        };
        assert!(room_messages(&config(""), None).is_none());
        std::fs::write(folder.path().join(NODE_SIDECAR), "").unwrap();
        assert!(room_messages(&config(""), Some(HubKind::Legacy)).unwrap().as_sentence().contains("hooks.on_message"));
        assert!(room_messages(&config(""), Some(HubKind::Ours)).is_none());
        assert!(room_messages(&config(r#", "hooks": {"on_message": "true"}"#), None).is_none());
    }

    #[test]
    fn the_first_plain_word_is_the_command() {
        assert_eq!(first_word("my-agent --task \"${TASK_ID}\""), Some("my-agent"));
        assert_eq!(first_word("  MODE=fast X=1 ./wake.sh"), Some("./wake.sh"));
        assert_eq!(first_word("true; ./wake.sh"), Some("true"));
    }

    #[test]
    fn what_only_a_shell_understands_is_left_to_it() {
        for line in ["(cd x; y)", "$AGENT run", "'my agent' x", "A=\"b c\" d", "", "A=1", "{ x; }", "~/wake.sh"] {
            assert_eq!(first_word(line), None, "{line}");
        }
    }
}
