//! Writes the result of sessions that are known to be dead and have left none: a failure, in the session's place. It ends
//! only what a killed supervisor left behind.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::fs::atomic_file;
use crate::sidecar::agent::supervised::claim_record::{self, ClaimRecord, ClaimState, claim_state, seen_path};
use crate::sidecar::agent::supervised::own_session::find_dead;

/// The folders of the runs.
#[derive(Debug, Clone)]
pub struct RunsConfig {
    /// The folder of claims and progress files.
    pub scratch_dir: PathBuf,
    /// The results folder.
    pub results_dir: PathBuf,
    /// The id of this boot of the machine.
    pub machine_boot: String,
}

/// Writes a failure for a session that named its process and is known to be dead without a result.
pub(super) fn report_own_session(config: &RunsConfig, task_id: &str) {
    let sign = config.results_dir.join(format!("{task_id}.started"));
    let dead = || find_dead(&sign, &seen_path(&config.scratch_dir, task_id), &config.machine_boot);
    let path = config.results_dir.join(format!("{task_id}.json"));
    // AFTER it was found dead: what it has left is there by now.
    let Some(pid) = dead().filter(|_| !path.exists()) else { return };
    let reason = format!(
        "session_died: process {pid}, which the session named in its `.started` file, has ended and left no result"
    );
    tracing::warn!(task_id, pid, "a session has died and left no result");
    if write_failure(&path, task_id, &reason) && dead() != Some(pid) {
        remove_outdated(&path);
    }
}

/// Removes a failure whose task was cleaned up during the write: it must not pass for the result of a later assignment.
fn remove_outdated(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Writes a failure as the task's result; returns whether it is there.
fn write_failure(path: &Path, task_id: &str, reason: &str) -> bool {
    let result = json!({"status": "failed", "reason": reason});
    match atomic_file::write_atomic(path, result.to_string().as_bytes()) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(task_id, %error, "the end of a lost session cannot be told; it will be tried again");
            false
        }
    }
}

/// Writes a failure for a run whose supervisor ended without a result: it was killed.
pub(super) fn write_lost_run_result(config: &RunsConfig, task_id: &str, record: &ClaimRecord) {
    let path = config.results_dir.join(format!("{task_id}.json"));
    // A run that a reboot ended is left to the machine, which may start it again.
    if record.machine_boot != config.machine_boot || path.exists() {
        return;
    }
    claim_record::kill_orphaned_command(record);
    let reason = "run_lost: the command's supervisor was killed (by hand, or for want of memory), and how the command \
                  ended is not known; it was ended";
    tracing::warn!(task_id, pid = record.pid, "a run's supervisor is gone and left no result");
    let is_over = || matches!(claim_state(&config.scratch_dir, task_id), Ok(ClaimState::Over(now)) if now == *record);
    if write_failure(&path, task_id, reason) && !is_over() {
        remove_outdated(&path);
    }
}
