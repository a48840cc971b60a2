//! Checks whether the programs of the configured commands exist: of the wake command, the executors and the hooks. It
//! reads the first word of each shell line and runs nothing; a line that begins with anything but a plain command is
//! not checked.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::{is_executable, regular_file};
use crate::sidecar::cli::check::Finding;
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;

/// Builtins and keywords of the shell that wake commands begin with.
const SHELL_WORDS: [&str; 20] = [
    ".", ":", "[", "case", "cd", "command", "eval", "exec", "export", "false", "for", "if", "printf", "set", "test",
    "trap", "true", "umask", "until", "while",
];

/// Returns a finding for each command.
pub(super) fn commands(config: &Config) -> Vec<Finding> {
    let config_folder = folder_of(&config.path);
    let mut findings = vec![match &config.wake_command {
        Some(line) => check_command("wake", "wake_command", line, config_folder),
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
    let hooks =
        [("hooks.on_task_start", &config.hooks.on_task_start), ("hooks.on_task_result", &config.hooks.on_task_result)];
    let hooks_run_in = config.repo_dir.as_deref().unwrap_or(config_folder);
    for (key, line) in hooks {
        findings.extend(line.as_ref().map(|line| check_command("hook", key, line, hooks_run_in)));
    }
    findings
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
