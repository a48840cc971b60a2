//! The claim on a task's run: one file per task, whose lock shows that the run's supervisor lives. It starts nothing;
//! all it can do to processes is end a run.
//!
//! The lock belongs to an open file (`flock`): the kernel releases it when the supervisor ends for any reason, and no
//! child inherits it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::common::fs::{private_options, regular_file, same_file};
use crate::sidecar::agent::wake::process_group;
use crate::sidecar::proc_stat::ProcStat;

/// The time between SIGTERM and SIGKILL for a command that must end (the legacy sidecar's figure).
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The largest claim that is read, bytes.
const MAX_CLAIM_BYTES: u64 = 64 * 1024;

const CLAIM: &str = "run";
const ENDING: &str = "ending";
const PROGRESS: &str = "progress";
const SEEN: &str = "seen";

/// The content of a claim file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimRecord {
    /// The supervisor's process id.
    pub(super) pid: u32,
    /// The generation of the assignment that it runs or ran.
    pub(super) generation: u64,
    /// The id of the machine's boot.
    pub(super) machine_boot: String,
    /// When the task was claimed, ms since the epoch.
    pub(super) claimed_at_ms: u64,
    /// The command's process, which leads its process group; none until it runs.
    pub(super) command: Option<Process>,
}

/// A process, identified so that a later one with the same id is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it started, in the kernel's clock ticks; none where that is not known.
    pub(super) started: Option<u64>,
}

impl Process {
    pub(super) fn now(pid: u32) -> Self {
        Self { pid, started: ProcStat::of(pid).start_ticks }
    }

    pub(super) fn is_alive(self) -> bool {
        self.started.is_some() && Self::now(self.pid).started == self.started
    }
}

/// A claim held by this process.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
    path: PathBuf,
    record: ClaimRecord,
}

/// The outcome of [`Claim::take`].
#[derive(Debug)]
pub(super) enum TakeOutcome {
    Claimed(Claim),
    /// The task is being run, or was run for this generation already.
    AlreadyRun,
}

impl Claim {
    /// Claims the task for this process, after any run of it that is being ended has ended.
    pub(super) fn take(scratch: &Path, task_id: &str, record: ClaimRecord) -> io::Result<TakeOutcome> {
        fs::create_dir_all(scratch)?;
        // One claimant at a time: no other process may claim the task between the check and the rename.
        let lock = regular_file::open_with(&scratch.join("runs.lock"), private_file_options().create(true))?;
        lock.lock()?;
        wait_for_ending_runs(scratch, task_id)?;
        let path = path_of(scratch, task_id, CLAIM);
        match read_state(&path)? {
            ClaimState::Absent => {}
            ClaimState::Running(_) => return Ok(TakeOutcome::AlreadyRun),
            ClaimState::Over(before) if before.generation == record.generation => return Ok(TakeOutcome::AlreadyRun),
            ClaimState::Over(_) | ClaimState::Unreadable => {
                // It belongs to an earlier assignment.
                let _ = fs::remove_file(path_of(scratch, task_id, PROGRESS));
            }
        }
        let temporary = scratch.join(format!("{task_id}.{}.claim", record.pid));
        let _ = fs::remove_file(&temporary);
        let file = private_file_options().create_new(true).open(&temporary)?;
        file.lock()?;
        let mut claim = Self { file, path, record };
        claim.write_record()?;
        // Locked BEFORE it becomes visible.
        fs::rename(&temporary, &claim.path)?;
        Ok(TakeOutcome::Claimed(claim))
    }

    /// Records the command's process.
    pub(super) fn set_command(&mut self, command: Process) -> io::Result<()> {
        self.record.command = Some(command);
        self.write_record()
    }

    /// Returns whether the claim file is still in place. Its removal tells the supervisor that the run's result is not
    /// wanted.
    pub(super) fn is_wanted(&self) -> bool {
        same_file::is_at(&self.file, &self.path)
    }

    /// Removes the claim of a run that was not started, so that the task can be claimed again.
    pub(super) fn release(self) {
        if self.is_wanted() {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the lock back, and removes the file of a run that was ended because its result was not wanted. In this order:
    /// who ends the run after the look finds the lock free, and removes the file.
    pub(super) fn finish(self, scratch: &Path, task_id: &str) {
        let _ = self.file.unlock();
        if !self.is_wanted() {
            let _ = fs::remove_file(ending_path(scratch, task_id, self.record.pid));
        }
    }

    fn write_record(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }
}

/// The state of a claim.
#[derive(Debug)]
pub(super) enum ClaimState {
    Absent,
    /// Its supervisor is alive.
    Running(Option<ClaimRecord>),
    /// Its supervisor has ended.
    Over(ClaimRecord),
    /// The file is not a claim.
    Unreadable,
}

/// Returns the state of the task's claim.
pub(super) fn claim_state(scratch: &Path, task_id: &str) -> io::Result<ClaimState> {
    read_state(&path_of(scratch, task_id, CLAIM))
}

/// Returns the path of the task's progress file.
pub(super) fn progress_path(scratch: &Path, task_id: &str) -> PathBuf {
    path_of(scratch, task_id, PROGRESS)
}

/// Returns the path of the note on the task's session that names its process.
pub(super) fn seen_path(scratch: &Path, task_id: &str) -> PathBuf {
    path_of(scratch, task_id, SEEN)
}

/// Ends the task's run, if there is one, and removes its files; its result is not wanted. It does not wait. Returns
/// whether there was a claim.
pub(crate) fn end_run(scratch: &Path, task_id: &str) -> bool {
    let path = path_of(scratch, task_id, CLAIM);
    let state = read_state(&path);
    let claimed = state.as_ref().is_ok_and(|state| !matches!(state, ClaimState::Absent));
    match state {
        Ok(ClaimState::Absent) => {}
        Ok(ClaimState::Running(Some(record))) => {
            // The rename comes first: from then on the supervisor knows that its result is not wanted.
            let ending = ending_path(scratch, task_id, record.pid);
            if fs::rename(&path, &ending).is_ok() {
                end_ending_run(&ending);
            }
        }
        Ok(ClaimState::Over(record)) => {
            kill_orphaned_command(&record);
            let _ = fs::remove_file(&path);
        }
        Ok(ClaimState::Running(None) | ClaimState::Unreadable) => {
            let _ = fs::remove_file(&path);
        }
        Err(error) => tracing::warn!(file = %path.display(), %error, "cannot look at a task's run"),
    }
    for left in [PROGRESS, SEEN] {
        let _ = fs::remove_file(path_of(scratch, task_id, left));
    }
    claimed
}

/// Ends the runs that an earlier sidecar was about to end.
pub(super) fn end_unwanted_runs(scratch: &Path) {
    // A missing folder holds no files.
    let Ok(entries) = fs::read_dir(scratch) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != ENDING) {
            continue;
        }
        end_ending_run(&path);
    }
}

/// Ends a run whose result is not wanted; removes its file if it has ended.
fn end_ending_run(path: &Path) {
    match read_state(path) {
        Ok(ClaimState::Running(Some(record))) => terminate(record.pid),
        Ok(ClaimState::Over(_) | ClaimState::Unreadable) => {
            let _ = fs::remove_file(path);
        }
        Ok(ClaimState::Absent | ClaimState::Running(None)) | Err(_) => {}
    }
}

/// Kills the command that a killed supervisor left running, and what is left of its process group.
pub(super) fn kill_orphaned_command(record: &ClaimRecord) {
    // The supervisor leads the session that they are in.
    if let Some(command) = record.command
        && (command.is_alive() || process_group::has_member_in(command.pid, record.pid))
    {
        tracing::warn!(pid = command.pid, "a command whose supervisor is gone is ended");
        process_group::kill(command.pid);
    }
}

fn wait_for_ending_runs(scratch: &Path, task_id: &str) -> io::Result<()> {
    let deadline = Instant::now() + GRACE * 3;
    let prefix = format!("{task_id}.");
    let is_of_the_task = |name: &str| {
        let middle = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(ENDING)?.strip_suffix('.'));
        middle.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
    };
    loop {
        let names = fs::read_dir(scratch)?.flatten().map(|entry| entry.file_name());
        let ending: Vec<_> = names.filter(|name| name.to_str().is_some_and(is_of_the_task)).collect();
        let under_way = ending.iter().any(|name| matches!(read_state(&scratch.join(name)), Ok(ClaimState::Running(_))));
        if !under_way {
            ending.iter().for_each(|name| drop(fs::remove_file(scratch.join(name))));
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("an earlier run of this task does not end"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_state(path: &Path) -> io::Result<ClaimState> {
    let file = match regular_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ClaimState::Absent),
        Err(error) => return Err(error),
    };
    let locked = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_CLAIM_BYTES).read_to_end(&mut text)?;
    let record = serde_json::from_slice::<ClaimRecord>(&text).ok();
    Ok(match (locked, record) {
        (true, record) => ClaimState::Running(record),
        (false, Some(record)) => ClaimState::Over(record),
        (false, None) => ClaimState::Unreadable,
    })
}

fn path_of(scratch: &Path, task_id: &str, extension: &str) -> PathBuf {
    scratch.join(format!("{task_id}.{extension}"))
}

fn ending_path(scratch: &Path, task_id: &str, pid: u32) -> PathBuf {
    scratch.join(format!("{task_id}.{pid}.{ENDING}"))
}

/// Returns options to open a file for reading and writing, private to this user if it is created.
pub(super) fn private_file_options() -> OpenOptions {
    let mut options = private_options();
    options.read(true).write(true);
    options
}

fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // The process may have ended already, which is fine.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64) -> ClaimRecord {
        // An id that no process has.
        ClaimRecord { pid: u32::MAX, generation, machine_boot: "b".into(), claimed_at_ms: 1, command: None }
    }

    fn take(scratch: &Path, generation: u64) -> Option<Claim> {
        match Claim::take(scratch, "t", record(generation)).unwrap() {
            TakeOutcome::Claimed(claim) => Some(claim),
            TakeOutcome::AlreadyRun => None,
        }
    }

    #[test]
    fn a_task_under_way_is_not_claimed_again_whatever_the_generation() {
        let scratch = tempfile::tempdir().unwrap();
        let _claim = take(scratch.path(), 1).unwrap();
        assert!(take(scratch.path(), 1).is_none());
        assert!(take(scratch.path(), 3).is_none());
    }

    #[test]
    fn a_generation_is_claimed_once_and_the_next_one_again() {
        let scratch = tempfile::tempdir().unwrap();
        drop(take(scratch.path(), 1).unwrap());
        assert!(take(scratch.path(), 1).is_none());
        assert!(take(scratch.path(), 3).is_some());
    }

    #[test]
    fn a_claim_that_was_given_up_can_be_taken_again() {
        let scratch = tempfile::tempdir().unwrap();
        take(scratch.path(), 1).unwrap().release();
        assert!(take(scratch.path(), 1).is_some());
    }

    #[test]
    fn a_run_that_was_ended_knows_that_it_is_not_wanted() {
        let scratch = tempfile::tempdir().unwrap();
        let claim = take(scratch.path(), 1).unwrap();
        assert!(claim.is_wanted());
        assert!(end_run(scratch.path(), "t"), "there was one");
        assert!(!claim.is_wanted());
        claim.finish(scratch.path(), "t");
        assert!(!end_run(scratch.path(), "t"), "nothing of it is left");
        assert!(take(scratch.path(), 1).is_some(), "nothing of it is left");
    }

    #[test]
    fn of_a_run_that_ends_while_it_is_ended_nothing_is_left() {
        let scratch = tempfile::tempdir().unwrap();
        let claim = take(scratch.path(), 1).unwrap();
        let (path, ending) = (path_of(scratch.path(), "t", CLAIM), ending_path(scratch.path(), "t", u32::MAX));
        // It was seen at work, and looked for its claim a moment before that was taken away.
        claim.finish(scratch.path(), "t");
        fs::rename(&path, &ending).unwrap();
        end_ending_run(&ending);
        assert!(!ending.exists());
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        assert!(Process::now(std::process::id()).is_alive());
        assert!(!Process { pid: std::process::id(), started: Some(1) }.is_alive());
    }
}
