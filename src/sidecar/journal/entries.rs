//! The parts of the journal as `queue.json` has them, both ways. The legacy sidecar's own fields are read and kept; the
//! parent module has the file as a whole.

use serde::{Deserialize, Serialize};

use crate::machine::{
    Journal, LateSession, OpenRestart, Outcome, ParkedTask, PersistedJob, RestartLedger, Returned, Stage, Task, TaskId,
    TimeLimit, Timestamp, Verdict,
};
use crate::protocol::{JsonFields, JsonText, stored_value};
use crate::sidecar::agent::executor::routing_target;
use crate::sidecar::journal::{BadJournal, Boot};

/// The fields of an assignment that the legacy sidecar keeps beside those of [`TaskEntry`]: if it takes over, it
/// verifies and submits the result by these.
const LEGACY_FIELDS: &[&str] = &[
    "description",
    "metadata",
    "repo",
    "branch",
    "file_hints",
    "success_criteria",
    "verification_steps",
    "complexity",
    "skip_verification",
    "verification_timeout_ms",
    "routing_decision",
    "max_verification_retries",
];

/// A task as the legacy sidecar writes it, with this sidecar's part in `sidecar`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "JsonFields")]
pub(super) struct TaskEntry {
    task_id: String,
    generation: Option<u64>,
    status: Option<String>,
    assigned_at: Option<u64>,
    wake_attempts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<OurPart>,
    /// The assignment's other fields (`description`, `metadata`, ...).
    #[serde(flatten)]
    rest: JsonFields,
}

impl TryFrom<JsonFields> for TaskEntry {
    type Error = String;

    fn try_from(mut fields: JsonFields) -> Result<Self, String> {
        Ok(Self {
            task_id: fields.take("task_id")?,
            generation: fields.take_optional("generation")?,
            status: fields.take_optional("status")?,
            assigned_at: fields.take_optional("assigned_at")?,
            wake_attempts: fields.take_optional("wake_attempts")?,
            sidecar: fields.take_optional("sidecar")?,
            rest: fields,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "JsonFields")]
struct OurPart {
    stage: StageEntry,
    woken: Option<WokenEntry>,
    /// If it is missing, the boot of `woken` counts.
    machine_boot: Option<String>,
    /// Absent: the task has no time limit, as at older sidecars.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_limit: Option<TimeLimitEntry>,
    /// The whole assignment.
    assignment: JsonText,
}

#[derive(Debug, Serialize, Deserialize)]
struct TimeLimitEntry {
    limit_ms: u64,
    until_ms: u64,
    warned: bool,
}

impl TryFrom<JsonFields> for OurPart {
    type Error = String;

    fn try_from(mut fields: JsonFields) -> Result<Self, String> {
        Ok(Self {
            stage: fields.take("stage")?,
            woken: fields.take_optional("woken")?,
            machine_boot: fields.take_optional("machine_boot")?,
            time_limit: fields.take_optional("time_limit")?,
            assignment: fields.take_object("assignment")?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
enum StageEntry {
    Accepted,
    Waking { attempt: u8 },
    RetryingWake { at_ms: u64, attempt: u8 },
    AwaitingConfirmation { until_ms: u64 },
    Running,
    Interrupted { until_ms: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
struct WokenEntry {
    generation: u64,
    machine_boot: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "JsonFields")]
pub(super) struct VerdictEntry {
    task_id: String,
    generation: u64,
    #[serde(flatten)]
    outcome: OutcomeEntry,
    accept_first: bool,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    nobody_came: bool,
    /// Absent: a completed task has a result that was read, and of a failed one that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_read: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    refusals: u8,
}

impl TryFrom<JsonFields> for VerdictEntry {
    type Error = String;

    fn try_from(mut fields: JsonFields) -> Result<Self, String> {
        Ok(Self {
            task_id: fields.take("task_id")?,
            generation: fields.take("generation")?,
            outcome: match fields.take::<String>("verdict")?.as_str() {
                "completed" => OutcomeEntry::Completed { result: fields.take_object("result")? },
                "failed" => OutcomeEntry::Failed { reason: fields.take("reason")? },
                other => return Err(format!("unknown verdict {other:?}")),
            },
            accept_first: fields.take_optional("accept_first")?.unwrap_or_default(),
            nobody_came: fields.take_optional("nobody_came")?.unwrap_or_default(),
            result_read: fields.take_optional("result_read")?,
            refusals: fields.take_optional("refusals")?.unwrap_or_default(),
        })
    }
}

/// Returns whether the field is left out.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// Returns whether the field is left out: an older sidecar did not write it.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_generation_unknown(generation: &u64) -> bool {
    *generation == 0
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
enum OutcomeEntry {
    Completed { result: JsonText },
    Failed { reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", try_from = "JsonFields")]
pub(super) enum ParkedEntry {
    UnderWay(Box<TaskEntry>),
    Finished {
        task_id: String,
        result: JsonText,
        #[serde(skip_serializing_if = "is_generation_unknown")]
        generation: u64,
    },
}

impl TryFrom<JsonFields> for ParkedEntry {
    type Error = String;

    fn try_from(mut fields: JsonFields) -> Result<Self, String> {
        Ok(match fields.take::<String>("kind")?.as_str() {
            "under_way" => Self::UnderWay(Box::new(fields.try_into()?)),
            "finished" => Self::Finished {
                task_id: fields.take("task_id")?,
                generation: fields.take_optional("generation")?.unwrap_or(0),
                result: fields.take_object("result")?,
            },
            other => return Err(format!("unknown kind {other:?}")),
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LateSessionEntry {
    task_id: String,
    machine_boot: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RestartsEntry {
    #[serde(default)]
    recent_ms: Vec<u64>,
    #[serde(default)]
    open: Option<RestartEntry>,
    #[serde(default)]
    returned: Option<RestartEntry>,
    #[serde(default)]
    seen: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled: Option<String>,
    /// Earlier cancelled ones, oldest first. (The first sidecars know of one only.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cancelled_before: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RestartEntry {
    #[serde(default)]
    command_id: Option<String>,
    reason: String,
    #[serde(default)]
    forced: bool,
    #[serde(default)]
    leaving_at_ms: Option<u64>,
}

fn task_id(raw: &str) -> Result<TaskId, BadJournal> {
    TaskId::new(raw).map_err(|why| BadJournal(format!("task_id {raw:?}: {why}")))
}

impl TaskEntry {
    pub(super) fn from_job(persisted: &PersistedJob) -> Self {
        let assignment = stored_value(&persisted.task.payload);
        let rest = JsonFields::of_unchecked(assignment.as_str(), |name| LEGACY_FIELDS.contains(&name));
        let stage = StageEntry::from_stage(&persisted.stage);
        let wake_attempts = match persisted.stage {
            Stage::Accepted => 0,
            Stage::Waking { attempt } | Stage::RetryingWake { attempt, .. } => u64::from(attempt),
            Stage::AwaitingConfirmation { .. } | Stage::Running | Stage::Interrupted { .. } => 1,
        };
        let machine_boot = persisted.machine_boot.clone();
        let woken = persisted.woken.map(|generation| WokenEntry { generation, machine_boot: machine_boot.clone() });
        let time_limit = persisted.limit.map(|limit| TimeLimitEntry {
            limit_ms: limit.limit_ms,
            until_ms: limit.until.as_millis(),
            warned: limit.warned,
        });
        Self {
            task_id: persisted.task.id.to_string(),
            generation: Some(persisted.task.generation),
            status: Some(persisted.stage.wire_status().to_owned()),
            assigned_at: persisted.assigned_at,
            wake_attempts: Some(wake_attempts),
            sidecar: Some(OurPart { stage, woken, machine_boot: Some(machine_boot), time_limit, assignment }),
            rest,
        }
    }

    fn into_job(self, boot: Boot<'_>) -> Result<PersistedJob, BadJournal> {
        let id = task_id(&self.task_id)?;
        let generation = self.generation.unwrap_or(0);
        let (stage, woken, machine_boot, limit, payload) = match self.sidecar {
            Some(OurPart { stage, woken, machine_boot, time_limit, assignment }) => {
                let (woken, woken_in) = woken.map(|woken| (woken.generation, woken.machine_boot)).unzip();
                // Without a recorded boot, the session is assumed to be of this one.
                let machine_boot = machine_boot.or(woken_in).unwrap_or_else(|| boot.id.to_owned());
                let limit = time_limit.map(|entry| TimeLimit {
                    limit_ms: entry.limit_ms,
                    until: Timestamp::from_millis(entry.until_ms),
                    warned: entry.warned,
                });
                (stage.into_stage(), woken, machine_boot, limit, assignment)
            }
            None => {
                let (stage, woken, machine_boot, payload) = self.interpret_legacy(generation, boot);
                (stage, woken, machine_boot, None, payload)
            }
        };
        let task = Task { id, generation, payload: payload.as_str().into() };
        Ok(PersistedJob { task, stage, woken, machine_boot, assigned_at: self.assigned_at, limit })
    }

    /// Interprets an entry of the legacy sidecar. It does not record in which boot it woke the agent: a task assigned
    /// before this boot began cannot have a session any more. Nor has a task that it ran in its own process: that work
    /// ended with it.
    fn interpret_legacy(&self, generation: u64, boot: Boot<'_>) -> (Stage, Option<u64>, String, JsonText) {
        let attempt = self.wake_attempts.and_then(|n| u8::try_from(n).ok()).unwrap_or(1).max(1);
        let stage = match self.status.as_deref() {
            Some("working") => Stage::Running,
            Some("accepted") | None => Stage::Accepted,
            // Whether that wake reached the agent is unknown: its `.started` file is awaited.
            Some(_) => Stage::Waking { attempt },
        };
        let before_boot = matches!((self.assigned_at, boot.since_ms), (Some(at), Some(since)) if at < since);
        let gone = before_boot || (stage == Stage::Running && self.ran_in_process());
        let machine_boot = if gone { String::new() } else { boot.id.to_owned() };
        let woken = (stage != Stage::Accepted).then_some(generation);
        let mut payload = self.rest.clone();
        payload.set("task_id", &self.task_id);
        payload.set("generation", &generation);
        if let Some(at) = self.assigned_at {
            payload.set("assigned_at", &at);
        }
        (stage, woken, machine_boot, payload.to_text())
    }

    /// Returns whether the legacy sidecar ran the task in its own process. It does so for a task with a routing target,
    /// and wakes the agent only for the others. Source: its reading of `routing_decision.target_type`.
    fn ran_in_process(&self) -> bool {
        routing_target(&self.rest).is_some_and(|target| target != "wake")
    }

    pub(super) fn add_to(self, journal: &mut Journal, boot: Boot<'_>) -> Result<(), BadJournal> {
        if self.sidecar.is_none() && self.status.as_deref() == Some("failed") {
            // The legacy sidecar had failed it and was killed before it could remove it.
            journal.outbox.push(Verdict {
                task_id: task_id(&self.task_id)?,
                generation: self.generation.unwrap_or(0),
                outcome: Outcome::failed("failed under the sidecar before this one"),
                accept_first: false,
                no_session_came: false,
                result_read: false,
                refusals: 0,
            });
            return Ok(());
        }
        let persisted = self.into_job(boot)?;
        match &journal.job {
            None => journal.job = Some(persisted),
            Some(_) => journal.parked.push(ParkedTask::UnderWay(persisted)),
        }
        Ok(())
    }
}

impl StageEntry {
    fn from_stage(stage: &Stage) -> Self {
        match *stage {
            Stage::Accepted => Self::Accepted,
            Stage::Waking { attempt } => Self::Waking { attempt },
            Stage::RetryingWake { at, attempt } => Self::RetryingWake { at_ms: at.as_millis(), attempt },
            Stage::AwaitingConfirmation { until } => Self::AwaitingConfirmation { until_ms: until.as_millis() },
            Stage::Running => Self::Running,
            Stage::Interrupted { until } => Self::Interrupted { until_ms: until.as_millis() },
        }
    }

    fn into_stage(self) -> Stage {
        match self {
            Self::Accepted => Stage::Accepted,
            Self::Waking { attempt } => Stage::Waking { attempt },
            Self::RetryingWake { at_ms, attempt } => Stage::RetryingWake { at: Timestamp::from_millis(at_ms), attempt },
            Self::AwaitingConfirmation { until_ms } => {
                Stage::AwaitingConfirmation { until: Timestamp::from_millis(until_ms) }
            }
            Self::Running => Stage::Running,
            Self::Interrupted { until_ms } => Stage::Interrupted { until: Timestamp::from_millis(until_ms) },
        }
    }
}

impl VerdictEntry {
    pub(super) fn from_verdict(verdict: &Verdict) -> Self {
        let outcome = match &verdict.outcome {
            Outcome::Completed { result } => OutcomeEntry::Completed { result: stored_value(result) },
            Outcome::Failed { reason } => OutcomeEntry::Failed { reason: reason.clone() },
        };
        Self {
            task_id: verdict.task_id.to_string(),
            generation: verdict.generation,
            outcome,
            accept_first: verdict.accept_first,
            nobody_came: verdict.no_session_came,
            result_read: (verdict.result_read != verdict.outcome.is_completed()).then_some(verdict.result_read),
            refusals: verdict.refusals,
        }
    }

    pub(super) fn into_verdict(self) -> Result<Verdict, BadJournal> {
        let outcome = match self.outcome {
            OutcomeEntry::Completed { result } => Outcome::Completed { result: result.as_str().into() },
            OutcomeEntry::Failed { reason } => Outcome::Failed { reason },
        };
        let result_read = self.result_read.unwrap_or(outcome.is_completed());
        Ok(Verdict {
            task_id: task_id(&self.task_id)?,
            generation: self.generation,
            outcome,
            accept_first: self.accept_first,
            no_session_came: self.nobody_came,
            result_read,
            refusals: self.refusals,
        })
    }
}

impl ParkedEntry {
    pub(super) fn from_parked(item: &ParkedTask) -> Self {
        match item {
            ParkedTask::UnderWay(persisted) => Self::UnderWay(Box::new(TaskEntry::from_job(persisted))),
            ParkedTask::Finished { task_id, generation, result } => {
                Self::Finished { task_id: task_id.to_string(), generation: *generation, result: stored_value(result) }
            }
        }
    }

    pub(super) fn into_parked(self, boot: Boot<'_>) -> Result<ParkedTask, BadJournal> {
        Ok(match self {
            Self::UnderWay(entry) => ParkedTask::UnderWay(entry.into_job(boot)?),
            Self::Finished { task_id: raw, generation, result } => {
                ParkedTask::Finished { task_id: task_id(&raw)?, generation, result: result.as_str().into() }
            }
        })
    }
}

impl LateSessionEntry {
    pub(super) fn from_late_session(late_session: &LateSession) -> Self {
        Self { task_id: late_session.task_id.to_string(), machine_boot: late_session.machine_boot.clone() }
    }

    pub(super) fn into_late_session(self) -> Result<LateSession, BadJournal> {
        Ok(LateSession { task_id: task_id(&self.task_id)?, machine_boot: self.machine_boot })
    }
}

impl RestartsEntry {
    pub(super) fn from_ledger(ledger: &RestartLedger) -> Self {
        Self {
            recent_ms: ledger.recent.iter().map(|at| at.as_millis()).collect(),
            open: ledger.open.as_ref().map(RestartEntry::from_open),
            returned: ledger.returned.as_ref().map(|returned| RestartEntry::from_open(&returned.restart)),
            seen: ledger.seen.clone(),
            cancelled: ledger.cancelled.last().cloned(),
            cancelled_before: ledger.cancelled.split_last().map(|(_, before)| before.to_vec()).unwrap_or_default(),
        }
    }

    pub(super) fn into_ledger(self) -> RestartLedger {
        RestartLedger {
            recent: self.recent_ms.into_iter().map(Timestamp::from_millis).collect(),
            open: self.open.map(RestartEntry::into_open),
            returned: self.returned.map(|entry| Returned { restart: entry.into_open() }),
            seen: self.seen,
            cancelled: self.cancelled_before.into_iter().chain(self.cancelled).collect(),
        }
    }
}

impl RestartEntry {
    fn from_open(open: &OpenRestart) -> Self {
        Self {
            command_id: open.command_id.clone(),
            reason: open.reason.clone(),
            forced: open.forced,
            leaving_at_ms: open.leaving_at.map(Timestamp::as_millis),
        }
    }

    fn into_open(self) -> OpenRestart {
        OpenRestart {
            command_id: self.command_id,
            reason: self.reason,
            forced: self.forced,
            leaving_at: self.leaving_at_ms.map(Timestamp::from_millis),
        }
    }
}
