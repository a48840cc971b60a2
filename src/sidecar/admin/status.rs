//! The status document: the sidecar's state for operators and programs, as shown by `status`, `/state` and pm2's
//! `status` action. It contains no secret.

use serde::{Deserialize, Serialize};

use crate::common::logging::Redactor;
use crate::machine::{
    Cause, Connection, ConnectionName, Cordon, Disk, Heartbeat, Outcome, PersistedJob, RestartMethod, Stage, StageName,
    State, Timestamp,
};
use crate::sidecar::admin::snapshot::{PastRestart, Snapshot};
use crate::sidecar::supervisor::pm2::{OwnProcess, Pm2};

/// The number of past restarts in the document.
const MAX_RESTARTS_SHOWN: usize = 10;

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
    /// The journal.
    pub journal: JournalPart,
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
    /// The resident set size.
    pub memory_bytes: Option<u64>,
    /// The path of the configuration file.
    pub config: String,
    /// The folder in which the agent leaves its files.
    pub results_dir: String,
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
    /// Why the last attempt to connect failed or the last connection ended; absent while online.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether the hub refused to identify us.
    #[serde(default)]
    pub refused: bool,
    /// The time since the hub identified us on this connection.
    pub online_for_ms: Option<u64>,
    /// The time from the last ping to the hub's next frame.
    pub latency_ms: Option<u64>,
    /// The number of connections after the first.
    pub reconnects: u64,
    /// The hub's features beyond those of a legacy hub.
    pub features: Vec<String>,
}

/// The journal (`Status.journal`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalPart {
    /// The path of the file.
    pub file: String,
    /// Whether the last write succeeded.
    pub writable: bool,
    /// The verdicts that the hub has not acknowledged.
    pub outbox: Vec<VerdictPart>,
    /// The ids of tasks that the hub reclaimed and whose work is parked.
    #[serde(rename = "shelf")]
    pub parked: Vec<String>,
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
    /// Returns the document for a snapshot.
    pub(crate) fn of(snapshot: &Snapshot, pm2: &Pm2) -> Self {
        let now = snapshot.clock.now();
        let machine = &snapshot.machine;
        let phase: &'static str = machine.state.phase().into();
        let status = Self {
            agent_id: snapshot.about.agent_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: process(snapshot, now),
            phase: phase.to_owned(),
            why: why(snapshot),
            draining: machine.cordon.is_on(),
            task: machine.state.persisted().map(|persisted| task(persisted, snapshot, now)),
            leaving: leaving(&machine.state, now),
            next: snapshot.next.map(|(at, wait)| NextPart { wait: wait.to_string(), in_ms: at.since(now) }),
            hub: hub(snapshot, now),
            journal: journal(snapshot),
            supervisor: supervisor(pm2, now),
            restarts: snapshot.past.iter().rev().take(MAX_RESTARTS_SHOWN).map(restart).collect(),
            counts: CountsPart {
                taken: snapshot.counts.taken,
                completed: snapshot.counts.completed,
                failed: snapshot.counts.failed,
                refused: snapshot.counts.refused,
                wakes: snapshot.counts.wakes,
                failed_writes: snapshot.counts.failed_writes,
            },
        };
        status.redacted(&snapshot.about.redactor)
    }

    /// Removes the token from every text that comes from the hub or from operators.
    fn redacted(mut self, redactor: &Redactor) -> Self {
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
        self.hub.trouble.iter_mut().for_each(clean);
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

fn process(snapshot: &Snapshot, now: Timestamp) -> ProcessPart {
    ProcessPart {
        pid: std::process::id(),
        boot_id: snapshot.about.boot_id.clone(),
        uptime_ms: now.since(snapshot.about.started_at),
        memory_bytes: OwnProcess::read().memory_bytes,
        config: snapshot.about.config.clone(),
        results_dir: snapshot.about.results_dir.clone(),
    }
}

fn why(snapshot: &Snapshot) -> String {
    let machine = &snapshot.machine;
    if let Some(check) = &machine.check {
        let reason = &check.first.order.reason;
        return format!("is to restart ({reason}), and finds out whether it would come back");
    }
    match &machine.state {
        State::Idle => match (machine.cordon, &machine.disk, &machine.connection) {
            (Cordon::Away, _, _) => "draining, and away from a hub that cannot be told so".into(),
            (Cordon::On, _, _) => "draining: no task is taken before `resume`".into(),
            (Cordon::Off, Disk::Failing { .. }, _) => "no task is taken: the journal cannot be written".into(),
            (Cordon::Off, Disk::Ready | Disk::Writing { .. }, Connection::Online(_)) => "waits for a task".into(),
            (
                Cordon::Off,
                Disk::Ready | Disk::Writing { .. },
                Connection::Down { .. }
                | Connection::Dialing { .. }
                | Connection::Identifying { .. }
                | Connection::Closing { .. },
            ) => match &snapshot.hub_trouble {
                Some(trouble) if trouble.refused => format!("the hub does not know it: {}", trouble.why),
                Some(_) | None => "waits for the hub".into(),
            },
        },
        State::Working { job } if job.is_recovering() => "has a task from before, and asks the hub whose it is".into(),
        State::Working { .. } if machine.cordon.is_on() => "has a task, the last before `resume`".into(),
        State::Working { .. } => "has a task".into(),
        State::RestartPending { order, .. } => format!("restarts once its task has ended: {}", order.reason),
        State::Draining { cause, .. } | State::Exiting { cause, .. } => match cause {
            Cause::Restart { order, .. } => format!("restarts: {}", order.reason),
            Cause::Stop { signal } => format!("stops: {signal}"),
        },
    }
}

fn task(persisted: &PersistedJob, snapshot: &Snapshot, now: Timestamp) -> TaskPart {
    let waits_for = match &persisted.stage {
        Stage::Accepted => "the journal, or the hub, to have it".to_owned(),
        Stage::Waking { attempt } => format!("the wake command (attempt {attempt})"),
        Stage::RetryingWake { at, attempt } => {
            format!("the time of the next wake, in {} s (attempt {attempt} failed)", at.since(now).div_ceil(1_000))
        }
        Stage::AwaitingConfirmation { until } => {
            format!("the agent's .started file, for {} s", until.since(now).div_ceil(1_000))
        }
        Stage::Running => "the agent's result file".to_owned(),
        Stage::Interrupted { .. } => "a result from before the machine was rebooted".to_owned(),
    };
    TaskPart {
        task_id: persisted.task.id.to_string(),
        generation: persisted.task.generation,
        stage: StageName::from(&persisted.stage).to_string(),
        waits_for,
        recovering: snapshot.machine.state.job().is_some_and(crate::machine::Job::is_recovering),
        age_ms: snapshot.current_task.as_ref().map_or(0, |(_, since)| now.since(*since)),
        assigned_at_ms: persisted.assigned_at,
    }
}

fn leaving(state: &State, now: Timestamp) -> Option<LeavingPart> {
    let (order, signal, deadline) = match state {
        State::Idle | State::Working { .. } => return None,
        State::RestartPending { order, deadline, .. } => (Some(order), None, Some(deadline)),
        State::Draining { cause: Cause::Restart { order, .. }, deadline, .. } => (Some(order), None, Some(deadline)),
        State::Draining { cause: Cause::Stop { signal }, deadline, .. } => (None, Some(signal), Some(deadline)),
        State::Exiting { cause: Cause::Restart { order, .. }, .. } => (Some(order), None, None),
        State::Exiting { cause: Cause::Stop { signal }, .. } => (None, Some(signal), None),
    };
    Some(LeavingPart {
        kind: if order.is_some() { "restart" } else { "stop" }.to_owned(),
        reason: order.map(|order| order.reason.clone()).or(signal.map(ToString::to_string)).unwrap_or_default(),
        command_id: order.and_then(|order| order.command_id.clone()),
        by: order.and_then(|order| order.by.clone()),
        deadline_in_ms: deadline.map(|at| at.since(now)),
    })
}

fn hub(snapshot: &Snapshot, now: Timestamp) -> HubPart {
    let link = &snapshot.machine.connection;
    let detail = match link {
        Connection::Down { retry_at, attempt, firm } => {
            let named = if *firm { ", a time that the hub named" } else { "" };
            let attempts = if *attempt == 1 { "1 attempt".to_owned() } else { format!("{attempt} attempts") };
            format!("{attempts} failed; the next in {} s{named}", retry_at.since(now).div_ceil(1_000))
        }
        Connection::Dialing { .. } => "connecting".to_owned(),
        Connection::Identifying { .. } => "waits for the hub to know us".to_owned(),
        Connection::Online(online) => match (online.heartbeat, online.limited_until) {
            (_, Some(until)) => format!("rate limited for {} ms", until.since(now)),
            (Heartbeat::Sent { .. }, None) => "a ping waits for its answer".to_owned(),
            (Heartbeat::Due { .. }, None) => "known to the hub".to_owned(),
        },
        Connection::Closing { .. } => "taking leave".to_owned(),
    };
    let features = link.online().map(|online| online.features).unwrap_or_default();
    let named =
        [("restart.v2", features.restart_v2), ("task_rejected", features.task_rejected), ("cordon", features.cordon)];
    let trouble = snapshot.hub_trouble.as_ref();
    HubPart {
        url: snapshot.about.hub_url.clone(),
        link: ConnectionName::from(link).to_string(),
        detail,
        trouble: trouble.map(|trouble| trouble.why.clone()),
        refused: trouble.is_some_and(|trouble| trouble.refused),
        online_for_ms: link.online().map(|online| now.since(online.since)),
        latency_ms: snapshot.latency_ms,
        reconnects: snapshot.counts.connections.saturating_sub(1),
        features: named.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect(),
    }
}

fn journal(snapshot: &Snapshot) -> JournalPart {
    let machine = &snapshot.machine;
    let verdict = |verdict: &crate::machine::Verdict| VerdictPart {
        task_id: verdict.task_id.to_string(),
        generation: verdict.generation,
        verdict: match verdict.outcome {
            Outcome::Completed { .. } => "completed",
            Outcome::Failed { .. } => "failed",
        }
        .to_owned(),
    };
    JournalPart {
        file: snapshot.about.queue_file.clone(),
        writable: match machine.disk {
            Disk::Ready | Disk::Writing { failing: false, .. } => true,
            Disk::Failing { .. } | Disk::Writing { failing: true, .. } => false,
        },
        outbox: machine.outbox.iter().map(verdict).collect(),
        parked: machine.parked.items().iter().map(|item| item.task_id().to_string()).collect(),
    }
}

fn supervisor(pm2: &Pm2, now: Timestamp) -> SupervisorPart {
    let facts = pm2.current_facts();
    let (restart_method, why_in_place) = pm2.restart_method_at(now.as_millis());
    SupervisorPart {
        kind: match (facts.under_pm2, facts.under_systemd) {
            (true, _) => "pm2",
            (false, true) => "systemd",
            (false, false) => "none",
        }
        .to_owned(),
        name: pm2.listed_as().map(str::to_owned),
        pm_id: pm2.identity().pm_id,
        restart_count: facts.restart_time,
        kill_timeout_ms: facts.kill_timeout_ms,
        restart_by: match restart_method {
            RestartMethod::Supervisor => "exit 0",
            RestartMethod::InPlace => "exec in place",
        }
        .to_owned(),
        because: why_in_place.map(|why| why.to_string()),
    }
}

fn restart(past: &PastRestart) -> RestartPart {
    RestartPart {
        reason: past.reason.clone(),
        command_id: past.command_id.clone(),
        forced: past.forced,
        left_at_ms: past.left_at_ms,
        gap_ms: past.gap_ms,
    }
}
