//! Makes a task's values fit a child's environment: no NUL, and a value that is too long goes into a file. It does not
//! interpret the values.

use std::fs::{self};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::common::fs::private_options;

/// The longest `NAME=value` with its closing NUL that Linux accepts, bytes (`MAX_ARG_STRLEN`, 32 pages of 4 KiB).
const MAX_VARIABLE_BYTES: usize = 128 * 1024;

/// The name of the request of `agentcom-sidecar session`: the variable `TASK_SESSION_FILE` names its file.
pub(crate) const SESSION: &str = "TASK_SESSION";

/// The extension of value files: `<task_id>.<NAME>.value`.
const EXTENSION: &str = "value";

/// Returns the variables as they can be set. Fails if a value that needs a file cannot get one: a command without its
/// task would fail in a way that nothing explains.
pub(super) fn fit(scratch: &Path, task_id: &str, env: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
    let mut fitting = Vec::with_capacity(env.len());
    for (name, value) in env {
        let value = without_nul(value);
        if name.len() + value.len() + 2 <= MAX_VARIABLE_BYTES {
            fitting.push((name.clone(), value));
            continue;
        }
        let file = in_file(scratch, task_id, name, &value)?;
        tracing::warn!(
            task_id,
            variable = name,
            bytes = value.len(),
            file = file.1,
            "too long for an environment variable: left empty, the value is in the file that {name}_FILE names"
        );
        fitting.push((name.clone(), String::new()));
        fitting.push(file);
    }
    Ok(fitting)
}

/// Hands a value over in a file, and returns the variable that names it.
pub(super) fn in_file(scratch: &Path, task_id: &str, name: &str, value: &str) -> Result<(String, String), String> {
    let path = scratch.join(format!("{task_id}.{name}.{EXTENSION}"));
    write_private(scratch, &path, value.as_bytes()).map_err(|e| {
        format!(
            "{name} has {} bytes and goes into a file, and {} cannot be written: {e}; make room, or let this user write \
             there",
            value.len(),
            path.display()
        )
    })?;
    Ok((format!("{name}_FILE"), path.to_string_lossy().into_owned()))
}

/// Removes the value files of a task; a file that cannot be removed is logged and left.
pub(super) fn remove_value_files(scratch: &Path, task_id: &str) {
    // A missing folder holds no files.
    let Ok(entries) = fs::read_dir(scratch) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().and_then(task_of_value_file) == Some(task_id);
        if is_ours && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(file = %entry.path().display(), %error, "cannot remove a task's value file");
        }
    }
}

/// Returns the task of the value file with this name: `<task_id>.<NAME>.value`. A variable's name has no dot, a task's id
/// may have some.
pub(crate) fn task_of_value_file(name: &str) -> Option<&str> {
    Some(name.strip_suffix(EXTENSION)?.strip_suffix('.')?.rsplit_once('.')?.0)
}

fn without_nul(value: &str) -> String {
    value.chars().filter(|c| *c != '\0').collect()
}

fn write_private(scratch: &Path, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(scratch)?;
    // Never writes to an existing file: a retry writes a new one, and a link would lead elsewhere.
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut options = private_options();
    options.write(true).create_new(true);
    options.open(path)?.write_all(bytes)
}
