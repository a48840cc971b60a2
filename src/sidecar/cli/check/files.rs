//! Checks the configuration and the folders: what can be read and written, and which process holds the lock. Folders
//! are probed with a temporary file.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::{self, folder_of};
use crate::common::fs::regular_file::{self, Unsuitable};
use crate::machine::Journal;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::agent_label;
use crate::sidecar::config::{Config, Loaded, WarningKind};
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal::state_lock::{Holder, StateLock};
use crate::sidecar::journal::{self, Boot, Found};

/// The free space below which a journal may not fit, bytes.
const MIN_FREE_BYTES: u64 = 1 << 20;
/// The free space below which the operator is warned, bytes.
const LOW_FREE_BYTES: u64 = 100 << 20;

/// Returns a finding for the configuration, and one for each of its warnings that has no check of its own.
pub(super) fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let mut findings =
        vec![Finding::ok("config", format!("{}: {}", loaded.config.path.display(), agent_label(&loaded.config)))];
    let has_own = |kind: &WarningKind| {
        matches!(
            kind,
            WarningKind::ReadableByOthers { .. } | WarningKind::NoWakeCommand | WarningKind::TokenFile { .. }
        )
    };
    let warnings = loaded.warnings.iter().filter(|warning| !has_own(&warning.kind));
    findings.extend(warnings.map(|warning| Finding::warning("config", warning)));
    findings
}

/// Returns a finding for the keys about the hub that a variable or flag overrides here. The running sidecar may have
/// others.
pub(super) fn overridden(config: &Config) -> Option<Finding> {
    let keys: Vec<_> = config.overrides.of_connection().iter().map(|(key, by)| format!("`{key}` by {by}")).collect();
    let found = format!("overridden here, not as in {}: {}", config.path.display(), keys.join(", "));
    (!keys.is_empty()).then(|| Finding::ok("config", found))
}

/// Checks whether other users can read the files that hold the token or a task's text, or replace the configuration.
pub(super) fn permissions(config: &Config) -> Vec<Finding> {
    let folder = folder_of(&config.path);
    let open = mode(folder).is_some_and(|mode| mode & 0o002 != 0 && mode & 0o1000 == 0);
    let replaceable = open.then(|| {
        let found = format!(
            "everybody may write in '{}': others can replace config.json, and with it what is run",
            folder.display()
        );
        Finding::warning("permissions", found).then(format!("chmod o-w '{}'", folder.display()))
    });
    [check_readable(config)].into_iter().chain(replaceable).collect()
}

/// Returns the permission bits of `path`, 0 to 7777 (octal).
pub(super) fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

fn check_readable(config: &Config) -> Finding {
    let mode = |path: &Path| mode(path).filter(|_| path.is_file()).map(|mode| mode & 0o777);
    let secret = |path: &&Path| mode(path).is_some_and(|mode| mode & 0o077 != 0);
    let own = [config.path.as_path(), &config.queue_file].into_iter();
    let others = [&config.token_file, &config.client_key_file].into_iter().flatten().map(PathBuf::as_path);
    let open: Vec<&Path> = own.chain(others).filter(secret).collect();
    if open.is_empty() {
        return Finding::ok("permissions", "what holds the token and the tasks is its user's alone");
    }
    let names: Vec<_> = open.iter().map(|path| format!("'{}'", path.display())).collect();
    let modes: Vec<_> = open.iter().map(|path| format!("{:03o}", mode(path).unwrap_or(0))).collect();
    let found = format!(
        "others can read {} (mode {}): the token, the tasks' texts or a private key stand there",
        names.join(", "),
        modes.join(", ")
    );
    Finding::warning("permissions", found).then(format!("chmod 600 {}", names.join(" ")))
}

/// Checks whether the journal and the lock can be written, and how much space is free.
pub(super) fn state_folder(config: &Config) -> Finding {
    let unusable = |found: String| Finding::problem("state", found, ExitCode::StateUnusable);
    let file = match atomic_file::resolve(&config.queue_file) {
        Ok(file) => file,
        Err(error) => return unusable(error.to_string()),
    };
    let folder = atomic_file::folder_of(&file);
    let found = match probe_folder(folder) {
        Ok(found) => found,
        Err(error) => return unusable(format!("{} {error}", folder.display())).then(remedy(&error, "queue_file")),
    };
    // Without it every task fails before its wake. Where it is missing, it is made.
    let scratch = config.queue_file.with_extension("wake");
    if scratch.symlink_metadata().is_ok()
        && let Err(error) = probe_folder(&scratch)
    {
        return unusable(format!("{} {error}: no agent can be woken", scratch.display())).then(format!(
            "move it away, or give the user that runs the sidecar write permission there: '{}'",
            scratch.display()
        ));
    }
    match free_space(folder) {
        Some(free) if free < MIN_FREE_BYTES => {
            unusable(format!("{}: {free} bytes are free on its disk", folder.display()))
                .then("free some space, or set `queue_file` on another disk")
        }
        Some(free) if free < LOW_FREE_BYTES => {
            let found = format!("{} {found}; {} MiB are free on its disk", folder.display(), free >> 20);
            Finding::warning("state", found).then("free some space: without room no task is taken")
        }
        Some(free) => Finding::ok("state", format!("{} {found}; {} MiB are free", folder.display(), free >> 20)),
        None => Finding::ok("state", format!("{} {found}", folder.display())),
    }
}

/// Checks whether the agent's results folder can be written: the sidecar removes files there.
pub(super) fn results_folder(config: &Config) -> Finding {
    let folder = config.results_dir.as_path();
    match probe_folder(folder) {
        Ok(found) => Finding::ok("results", format!("{} {found}", folder.display())),
        Err(error) => Finding::problem("results", format!("{} {error}", folder.display()), ExitCode::Unavailable)
            .then(remedy(&error, "results_dir")),
    }
}

/// Checks whether the agent's repository exists: hooks and shell commands run in it. Returns `None` if none is
/// configured.
pub(super) fn repo_folder(config: &Config) -> Option<Finding> {
    let folder = config.repo_dir.as_deref()?;
    let hooks = [&config.hooks.on_task_start, &config.hooks.on_task_result, &config.hooks.on_message];
    let hooks = hooks.into_iter().any(Option::is_some);
    let is_used = hooks || config.shell_commands.enabled;
    if folder.is_dir() {
        let found = format!("{} is there", folder.display());
        return Some(if is_used {
            Finding::ok("repo", found)
        } else {
            Finding::warning(
                "repo",
                format!("{found}, and nothing runs in it: no hook makes branches or pull requests"),
            )
            .then("set `hooks` (docs/migrating.md, \"Replace Node sidecars\"), or leave `repo_dir` out")
        });
    }
    let found = format!("`repo_dir`: {} is no folder", folder.display());
    let finding = if is_used {
        Finding::problem("repo", format!("{found}, and hooks and shell commands run there"), ExitCode::Unavailable)
    } else {
        Finding::warning("repo", found)
    };
    Some(finding.then("clone it there, or correct `repo_dir`"))
}

/// Checks whether the log can be written. The sidecar runs without it.
pub(super) fn log_file(config: &Config) -> Finding {
    let file = config.log_file.as_path();
    if file.is_dir() {
        let found = format!("`log_file`: {} is a folder", file.display());
        return Finding::warning("log", found).then("name a file in it");
    }
    match probe_folder(folder_of(file)) {
        Ok(_) => Finding::ok("log", file.display()),
        Err(error) => Finding::warning("log", format!("`log_file`: {} {error}", folder_of(file).display()))
            .then(remedy(&error, "log_file")),
    }
}

/// Checks whether this version can read the journal.
pub(super) fn journal(config: &Config) -> Finding {
    let path = &config.queue_file;
    let unusable = |found: String| Finding::problem("journal", found, ExitCode::StateUnusable);
    let bytes = match regular_file::read(path, journal::max_bytes(config.max_frame_bytes)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::ok("journal", format!("{}: none yet", path.display()));
        }
        Err(error) => {
            let then = match Unsuitable::of(&error) {
                Some(Unsuitable::NoFile(_)) => "move it away, or set `queue_file` elsewhere".to_owned(),
                Some(Unsuitable::TooLarge { .. }) => {
                    "if `max_frame_bytes` was lowered, raise it again; else let `run` move it aside \
                     and begin empty (a task in it will be assigned again by the hub)"
                        .to_owned()
                }
                None => remedy(&error, "queue_file"),
            };
            return unusable(format!("cannot read {}: {error}", path.display())).then(then);
        }
    };
    match journal::from_bytes(&bytes, Boot { id: "", since_ms: None }) {
        Ok(Found::Journal { journal, unread, .. }) if unread.is_empty() => {
            Finding::ok("journal", format!("{}: {}", path.display(), summary(&journal)))
        }
        Ok(Found::Journal { unread, .. }) => {
            unusable(format!("{} makes no sense to this version: {}", path.display(), unread.join("; "))).then(
                "mend it, or let `run` move it aside and go on with the rest (a task in it may be assigned again by the hub)",
            )
        }
        Ok(Found::Newer { schema }) => unusable(format!("{}: schema {schema} is a newer sidecar's", path.display()))
            .then("start that version, or move the file away (a task in it will be assigned again by the hub)"),
        Err(why) => unusable(format!("{} makes no sense to this version: {why}", path.display())).then(
            "mend it, or let `run` move it aside and begin empty (a task in it will be assigned again by the hub)",
        ),
    }
}

fn summary(journal: &Journal) -> String {
    let job = match &journal.job {
        Some(persisted) => format!("task {} in hand", persisted.task.id),
        None => "no task in hand".to_owned(),
    };
    format!("{job}, {} verdicts unanswered", journal.outbox.len())
}

/// Returns the process that holds the agent's lock, if there is one. Either is in order.
pub(super) fn holder(config: &Config) -> (Option<Holder>, Finding) {
    match StateLock::holder(&config.queue_file) {
        Ok(Some(holder)) => {
            let finding = Finding::ok("running", format!("{holder} serves this agent"));
            (Some(holder), finding)
        }
        Ok(None) => (None, Finding::ok("running", "no copy of the sidecar serves this agent at the moment")),
        Err(error) => (None, Finding::warning("running", format!("who serves this agent cannot be told: {error}"))),
    }
}

/// Writes a file of 4096 bytes into the folder and removes it; for a folder that does not exist, into its nearest
/// ancestor that does. Returns the words for a finding.
fn probe_folder(folder: &Path) -> io::Result<&'static str> {
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(folder);
    if !there.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("is no folder, because {} is none", there.display()),
        ));
    }
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot be written: {error}"));
    let mut probe =
        tempfile::Builder::new().prefix(".agentcom-check.").suffix(".tmp").tempfile_in(there).map_err(failed)?;
    probe.write_all(&[b' '; 4_096]).map_err(failed)?;
    Ok(if there == folder { "can be written" } else { "is not there yet and will be made" })
}

fn remedy(error: &io::Error, key: &str) -> String {
    if error.kind() == io::ErrorKind::StorageFull {
        format!("free some space on its disk, or set `{key}` elsewhere")
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        format!("mount it read-write, or set `{key}` elsewhere")
    } else if error.kind() == io::ErrorKind::IsADirectory {
        format!("move that folder away, or name a file in `{key}`")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        format!("give the user that runs the sidecar write permission there, or set `{key}` elsewhere")
    } else {
        format!("make it a folder that the sidecar's user can write, or set `{key}` elsewhere")
    }
}

/// Returns the space that an ordinary user may still write on the folder's disk, bytes. For a folder that does not
/// exist, the disk is that of its nearest ancestor that does.
fn free_space(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.is_dir())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
