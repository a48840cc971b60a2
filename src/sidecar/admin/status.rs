//! The status document: the sidecar's state for operators and programs, as shown by `status`, `/state` and pm2's
//! `status` action. It contains no secret.

use serde::{Deserialize, Serialize};

use crate::common::logging::Redactor;
use crate::machine::{Outcome, Verdict};
use crate::sidecar::agent::results::kept::KeptResults;

/// The status document. Fields in `_ms` are milliseconds, in `_at_ms` milliseconds since the epoch, in `_bytes` bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's id.
    pub agent_id: String,
    /// The sidecar's version.
    pub version: String,
    /// The sidecar's process.
    pub process: ProcessPart,
    /// The machine's phase: `Idle`, `Working`, `RestartPending`, `Draining` or `Exiting`.
    pub phase: String,
    /// An explanation of the phase, for operators.
    pub why: String,
    /// Whether an operator has ordered that no new task is accepted.
    pub draining: bool,
    /// The current task, or the one that a restart leaves unfinished.
    pub task: Option<TaskPart>,
    /// The restart or stop under way.
    pub leaving: Option<LeavingPart>,
    /// The machine's next deadline.
    pub next: Option<NextPart>,
    /// The hub and the connection to it.
    pub hub: HubPart,
    /// The other sidecar with this identity, if there was one since the process began.
    #[serde(default)]
    pub identity_conflict: Option<IdentityConflictPart>,
    /// The journal.
    pub journal: JournalPart,
    /// The results that were not taken; absent until they are counted, a second after the start.
    #[serde(default)]
    pub rejected: Option<RejectedPart>,
    /// The supervisor.
    pub supervisor: SupervisorPart,
    /// The past commanded restarts, the latest first.
    pub restarts: Vec<RestartPart>,
    /// The counters since the process began.
    pub counts: CountsPart,
}

/// The sidecar's process (`Status.process`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPart {
    /// The process id.
    pub pid: u32,
    /// The id of this run of the process.
    pub boot_id: String,
    /// The time since this run began.
    pub uptime_ms: u64,
    /// How the run before ended; absent if there was none.
    #[serde(default)]
    pub previous_run: Option<PreviousRunPart>,
    /// The resident set size.
    pub memory_bytes: Option<u64>,
    /// The path of the configuration file.
    pub config: String,
    /// The folder in which the agent leaves its files.
    pub results_dir: String,
}

/// How the run before this one ended (`Status.process.previous_run`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousRunPart {
    /// The id of that run.
    pub boot_id: String,
    /// How it ended: `restart`, `stop`, `crashed`, `killed`, `out_of_memory`, `rebooted`, or `lost` if that is not known.
    pub end: String,
    /// The same in words: the restart's reason and author, the signal and its sender, the error.
    pub why: String,
    /// The last time that something is known of it.
    pub last_seen_at_ms: u64,
}

/// The current task (`Status.task`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPart {
    /// The task's id.
    pub task_id: String,
    /// The assignment's generation.
    pub generation: u64,
    /// The stage that the task has reached.
    pub stage: String,
    /// What the stage waits for, for operators.
    pub waits_for: String,
    /// Whether it is left from a previous run and the hub has not yet said who works on it.
    pub recovering: bool,
    /// The time since this process has it.
    pub age_ms: u64,
    /// The time of the assignment, by the hub's clock.
    pub assigned_at_ms: Option<u64>,
    /// The time since its session showed itself or printed something, or since this process has the task.
    #[serde(default)]
    pub silent_ms: u64,
    /// Its time limit, if it has one.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The time until then.
    #[serde(default)]
    pub timeout_in_ms: Option<u64>,
}

/// The restart or stop under way (`Status.leaving`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeavingPart {
    /// `restart` or `stop`.
    pub kind: String,
    /// The command's reason, or the signal.
    pub reason: String,
    /// The command's id, if the hub gave one.
    pub command_id: Option<String>,
    /// The requester, if known.
    pub by: Option<String>,
    /// The time until the task is left unfinished (`RestartPending`) or the process ends (`Draining`).
    pub deadline_in_ms: Option<u64>,
}

/// The machine's next deadline (`Status.next`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextPart {
    /// What happens at the deadline.
    pub wait: String,
    /// The time until the deadline.
    pub in_ms: u64,
}

/// The hub and the connection to it (`Status.hub`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubPart {
    /// The hub's URL.
    pub url: String,
    /// The connection's state: `down`, `dialing`, `identifying`, `online` or `closing`.
    pub link: String,
    /// An explanation of the state, for operators.
    pub detail: String,
    /// What is dialled at this moment; absent in the other states.
    #[serde(default)]
    pub dialing: Option<DialingPart>,
    /// Why the last attempt to connect failed or the last connection ended; absent while online.
    #[serde(default)]
    pub trouble: Option<String>,
    /// The time since then.
    #[serde(default)]
    pub trouble_age_ms: Option<u64>,
    /// Whether the hub refused to identify us.
    #[serde(default)]
    pub refused: bool,
    /// The address of the current connection: the hub's, or the proxy's.
    #[serde(default)]
    pub peer: Option<String>,
    /// The proxy on the way, without its credentials, and the environment variable that names it.
    #[serde(default)]
    pub proxy: Option<String>,
    /// The file that the token is read from for each dial.
    #[serde(default)]
    pub token_file: Option<String>,
    /// Why that file could not be read for the last dial.
    #[serde(default)]
    pub token_trouble: Option<String>,
    /// What overrides the configuration about the hub.
    #[serde(default)]
    pub overridden: Vec<OverriddenPart>,
    /// The time since the hub identified us on this connection.
    pub online_for_ms: Option<u64>,
    /// The time from the last ping to the hub's next frame.
    pub latency_ms: Option<u64>,
    /// The number of connections after the first.
    pub reconnects: u64,
    /// The hub's features beyond those of a legacy hub.
    pub features: Vec<String>,
}

/// A dial under way (`Status.hub.dialing`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DialingPart {
    /// What it does, for operators: `dialing 192.0.2.1:443 (2 of 4)`, `opening the WebSocket at 192.0.2.1:443`.
    pub what: String,
    /// The address that is dialled, or that there is a connection to.
    pub address: Option<String>,
    /// The place of that address among those of the host, from 1.
    pub number: Option<usize>,
    /// The number of the host's addresses.
    pub of: Option<usize>,
    /// The time since the dial began.
    pub for_ms: u64,
}

/// A key of the configuration that is overridden (`Status.hub.overridden`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverriddenPart {
    /// The key: `hub_url` or `token`.
    pub key: String,
    /// The environment variable or flag that its value is from.
    pub by: String,
}

/// Another sidecar that uses this agent's identity (`Status.identity_conflict`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityConflictPart {
    /// Its address, as the hub named it.
    pub address: Option<String>,
    /// The last time that the hub ended a connection of this sidecar's in favour of it.
    pub last_at_ms: u64,
    /// The time since then.
    pub age_ms: u64,
    /// The number of times since the process began.
    pub times: u64,
    /// Whether that is less than ten minutes ago: a problem.
    pub recent: bool,
    /// Whether the hub has it in this sidecar's place now.
    pub in_our_place: bool,
}

/// The journal (`Status.journal`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalPart {
    /// The path of the file.
    pub file: String,
    /// Whether the last write succeeded, and the next one may.
    pub writable: bool,
    /// Why the folder is not this sidecar's any more.
    #[serde(default)]
    pub folder_lost: Option<String>,
    /// Where others have moved the folder that this sidecar began with; it goes on in a new one.
    #[serde(default)]
    pub folder_moved_to: Option<String>,
    /// The verdicts that the hub has not acknowledged.
    pub outbox: Vec<VerdictPart>,
    /// The ids of tasks that the hub reclaimed and whose work is parked.
    #[serde(rename = "shelf")]
    pub parked: Vec<String>,
}

/// The results that were not taken (`Status.rejected`): unreadable, refused, late, or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedPart {
    /// Their number.
    pub count: u64,
    /// Their size.
    pub bytes: u64,
    /// The path of the one that was kept last.
    pub newest: Option<String>,
}

impl TaskPart {
    /// Returns whether half of its time limit is over.
    pub(crate) fn is_past_half(&self) -> bool {
        self.timeout_ms.zip(self.timeout_in_ms).is_some_and(|(limit, left)| left <= limit / 2)
    }
}

impl RejectedPart {
    pub(crate) fn of(kept: &KeptResults) -> Self {
        Self { count: kept.count, bytes: kept.bytes, newest: kept.newest.clone() }
    }
}

/// A verdict that the hub has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictPart {
    /// The task's id.
    pub task_id: String,
    /// The assignment's generation.
    pub generation: u64,
    /// The verdict: `completed` or `failed`.
    pub verdict: String,
}

impl VerdictPart {
    /// Returns the part for a verdict.
    pub(crate) fn of(verdict: &Verdict) -> Self {
        Self {
            task_id: verdict.task_id.to_string(),
            generation: verdict.generation,
            verdict: match verdict.outcome {
                Outcome::Completed { .. } => "completed",
                Outcome::Failed { .. } => "failed",
            }
            .to_owned(),
        }
    }
}

/// The supervisor (`Status.supervisor`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorPart {
    /// The kind of supervisor: `pm2`, `systemd` or `none`.
    pub kind: String,
    /// This process's name in pm2.
    pub name: Option<String>,
    /// This process's number in pm2.
    pub pm_id: Option<u32>,
    /// pm2's count of restarts when this run began.
    pub restart_count: Option<u64>,
    /// The time from a stop signal to the kill.
    pub kill_timeout_ms: u64,
    /// The restart method of a commanded restart: `exit 0` or `exec in place`.
    pub restart_by: String,
    /// Why the restart method is not `exit 0`.
    pub because: Option<String>,
}

/// A past commanded restart (`Status.restarts`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartPart {
    /// The command's reason.
    pub reason: String,
    /// The command's id, if the hub gave one.
    pub command_id: Option<String>,
    /// Whether a task was left unfinished.
    pub forced: bool,
    /// The start of the drain.
    pub left_at_ms: Option<u64>,
    /// The time from there until the hub identified us again; absent until it does.
    pub gap_ms: Option<u64>,
}

/// The counters since the process began (`Status.counts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsPart {
    /// Assignments accepted.
    pub taken: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Tasks failed.
    pub failed: u64,
    /// Assignments refused.
    pub refused: u64,
    /// Wake commands started.
    pub wakes: u64,
    /// Failed writes of the journal.
    pub failed_writes: u64,
}

impl Status {
    /// Removes the token from every text that comes from the hub or from operators.
    pub(super) fn redacted(mut self, redactor: &Redactor) -> Self {
        let clean = |text: &mut String| *text = redactor.clean(std::mem::take(text));
        clean(&mut self.why);
        if let Some(leaving) = &mut self.leaving {
            clean(&mut leaving.reason);
            leaving.by.iter_mut().chain(&mut leaving.command_id).for_each(clean);
        }
        for restart in &mut self.restarts {
            clean(&mut restart.reason);
            restart.command_id.iter_mut().for_each(clean);
        }
        self.hub.trouble.iter_mut().chain(&mut self.hub.token_trouble).for_each(clean);
        self.identity_conflict.iter_mut().filter_map(|other| other.address.as_mut()).for_each(clean);
        self
    }

    /// Returns whether the sidecar is ready, as in `/ready`. It is ready also with a current task.
    pub fn is_ready(&self) -> bool {
        self.hub.link == "online" && self.journal.writable && !self.draining && self.leaving.is_none()
    }
}

/// Returns the document of a sidecar without trouble, for tests.
#[cfg(test)]
pub(crate) fn example() -> Status {
    let document = serde_json::json!({
        "agent_id": "alice", "version": "0.1.0", "phase": "Idle", "why": "waits for a task", "draining": false,
        "process": {"pid": 7, "boot_id": "b", "uptime_ms": 61_000, "memory_bytes": 5_300_000, "config": "/c.json",
                    "results_dir": "/r"},
        "task": null, "leaving": null, "next": null,
        "hub": {"url": "ws://h/ws", "link": "online", "detail": "known to the hub", "online_for_ms": 5_000,
                "latency_ms": 3, "reconnects": 1, "features": []},
        "journal": {"file": "/q.json", "writable": true, "outbox": [], "shelf": []},
        "supervisor": {"kind": "pm2", "name": "alice", "pm_id": 3, "restart_count": 1, "kill_timeout_ms": 8000,
                       "restart_by": "exit 0", "because": null},
        "restarts": [{"reason": "upgrade", "command_id": null, "forced": false, "left_at_ms": 1_000, "gap_ms": 36}],
        "counts": {"taken": 3, "completed": 2, "failed": 1, "refused": 0, "wakes": 3, "failed_writes": 0},
    });
    serde_json::from_value(document).unwrap()
}
