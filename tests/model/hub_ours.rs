//! The shipped hub: its desk with its folds (queue, restart ledger, registry), fed with the shipped wire types. It adds
//! no rule; it carries the desk's words to the connections they are for, and judges what only the hub can see.

use std::hash::Hasher;

use agentcom::hub::agents::ConnId;
use agentcom::hub::desk::{Desk, Say};
use agentcom::hub::policy::Policy;
use agentcom::hub::restart::{Phase, RestartRequest};
use agentcom::hub::task::{Priority, Status, Submission};
use agentcom::machine::{
    Features, FromHub, RejectReason, RestartAnswer, RestartOrder, Task, TaskId, ToHub, VerdictRefusal,
};
use agentcom::wire::{
    HubFrame, Identify, RestartAck, RestartAckOutcome, Restarted, Restarting, SidecarFrame, StateAction, TaskAckStatus,
    Verdict,
};
use serde_json::Map;

use super::hub::{Out, command_id};
use super::rebase::NEVER_MS;
use super::violation::{Violation, violated};

const AGENT: &str = "a";
/// Where the hub's clock begins.
const EPOCH_MS: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
pub struct OurHub {
    desk: Desk,
    /// Time passed since the beginning. The desk's dates count from there; its digest counts from the present.
    elapsed_ms: u64,
}

fn policy() -> Policy {
    Policy {
        accept_timeout_ms: 40_000,
        stale_timeout_ms: NEVER_MS,
        reconcile_ms: 3_000,
        reject_retry_ms: 5_000,
        restart_deadline_ms: super::scope::RESTART_DEADLINE_MS,
        drain_deadline_ms: super::scope::DRAIN_DEADLINE_MS,
        restart_margin_ms: 30_000,
        silence_timeout_ms: NEVER_MS,
        keep_finished: 10,
        keep_restarts: 10,
        ..Policy::default()
    }
}

impl OurHub {
    pub fn digest(&self, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        self.desk.digest(self.now(), rank, hasher);
    }

    pub fn new() -> Self {
        Self { desk: Desk::load(Vec::new(), Vec::new(), policy(), EPOCH_MS), elapsed_ms: 0 }
    }

    fn now(&self) -> u64 {
        EPOCH_MS + self.elapsed_ms
    }

    pub fn passes(&mut self, ms: u64) {
        self.elapsed_ms += ms;
    }

    /// How long until something is due, ms; 0 is now.
    pub fn due_in(&self) -> Option<u64> {
        self.desk.deadline().map(|at| at.saturating_sub(self.now()))
    }

    pub fn tick(&mut self, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |desk, now| desk.tick(now))
    }

    pub fn submit(&mut self, id: &TaskId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let submission = Submission {
            description: String::new(),
            metadata: Map::new(),
            priority: Priority::Normal,
            max_retries: 2,
            needed_capabilities: Vec::new(),
            extra: Map::new(),
            submitted_by: String::new(),
        };
        self.act(outs, |desk, now| desk.submit(id.to_string(), submission, now))
    }

    pub fn cancel(&mut self, id: &TaskId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |desk, now| {
            // A task that has ended stays as it is.
            let _ = desk.cancel(id.as_str(), "operator", now);
        })
    }

    /// Whether a command would be taken.
    pub fn can_command(&self) -> bool {
        self.desk.connected_count() > 0 || self.desk.restarts().open_for(AGENT).is_some()
    }

    pub fn command(&mut self, number: u8, force: bool, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let request = RestartRequest { reason: "r".into(), deadline_ms: None, force, by: "o".into() };
        self.act(outs, |desk, now| {
            desk.command_restart(command_id(number), AGENT, request, now);
        })
    }

    pub fn gone(&mut self, conn: ConnId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |desk, now| desk.disconnected(conn, now))
    }

    /// Kill -9 of the hub: what was stored is all that is left. Every connection is gone.
    pub fn crashes(&mut self) {
        let tasks = self.desk.tasks().list().into_iter().cloned().collect();
        let mut restarts: Vec<_> = self.desk.restarts().of_agent(AGENT).into_iter().cloned().collect();
        restarts.reverse();
        self.desk = Desk::load(tasks, restarts, policy(), self.now());
    }

    pub fn hears(&mut self, conn: ConnId, run: u8, said: &ToHub, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let from = outs.len();
        if let ToHub::Identify { status, restarted } = said {
            let identify = Identify {
                agent_id: AGENT.into(),
                token: String::new(),
                name: None,
                status: Some(status.clone()),
                capabilities: Vec::new(),
                client_type: None,
                pm2_info: None,
                ollama_url: None,
                boot_id: Some(format!("b{run}")),
                version: None,
                restarted: restarted.as_ref().map(|from| Restarted {
                    command_id: from.restart.command_id.clone(),
                    reason: from.restart.reason.clone(),
                    forced: from.restart.forced,
                    gap_ms: from.gap_ms,
                }),
            };
            return self.act(outs, |desk, now| desk.identified(conn, &identify, now));
        }
        let Some(frame) = frame(said) else { return Ok(()) };
        self.act(outs, |desk, now| desk.heard(conn, frame, now))?;
        let verdict = match said {
            ToHub::TaskComplete { task_id, generation, .. } => Some((task_id.to_string(), *generation)),
            ToHub::TaskFailed { task_id, generation, .. } => Some((task_id.clone(), *generation)),
            _ => None,
        };
        let taken = outs[from..].iter().any(|out| matches!(out, Out::Say(_, FromHub::VerdictAcknowledged { .. })));
        if let (Some((task_id, generation)), true) = (verdict, taken) {
            outs.push(Out::Counted(task_id, generation));
        }
        Ok(())
    }

    /// One step of the desk, its words, and what must hold of the step.
    fn act(&mut self, outs: &mut Vec<Out>, step: impl FnOnce(&mut Desk, u64)) -> Result<(), Violation> {
        let now = self.now();
        let generation = |desk: &Desk| desk.tasks().task_of(AGENT).map(|task| (task.id.clone(), task.generation));
        let fenced = self.desk.restarts().open_for(AGENT).is_some();
        let before = (generation(&self.desk), self.phases());
        step(&mut self.desk, now);
        self.desk.take_changes();
        let mut receipts = Vec::new();
        for say in self.desk.take_says() {
            match say {
                Say::Frame { conn, text, receipt } => {
                    receipts.extend(receipt);
                    let frame = HubFrame::parse(&text);
                    let heard = frame.map_err(|error| violated("wire", format!("the hub said {text}: {error}")))?;
                    outs.extend(hear(heard).map(|heard| Out::Say(conn, heard)));
                }
                Say::Close { conn, code: _, reason: _ } => outs.push(Out::Close(conn)),
            }
        }
        for command_id in receipts {
            self.desk.delivered(&command_id, now);
            self.desk.take_changes();
        }
        let after = generation(&self.desk);
        if fenced && self.desk.restarts().open_for(AGENT).is_some() && after.is_some() && after != before.0 {
            return Err(violated("fence", format!("{after:?} was handed out while a restart was open")));
        }
        for ((id, from), (_, to)) in before.1.iter().zip(self.phases()) {
            let late = *from == Phase::Overdue && to == Phase::Back;
            if !from.is_open() && *from != to && !late {
                return Err(violated(
                    "one_end",
                    format!("command {id} ended as {} and then as {}", from.name(), to.name()),
                ));
            }
        }
        self.back_is_a_return()
    }

    /// What ends a command as back is a run that came after the one that was told to end.
    fn back_is_a_return(&self) -> Result<(), Violation> {
        let number = |boot: &Option<String>| boot.as_ref().and_then(|boot| boot.strip_prefix('b')?.parse::<u8>().ok());
        for restart in self.desk.restarts().of_agent(AGENT) {
            let (before, after) = (number(&restart.boot_before), number(&restart.boot_after));
            if restart.phase == Phase::Back && after <= before {
                let detail = format!("run {before:?} was told to end, and run {after:?} counts as its return");
                return Err(violated("back_is_a_return", detail));
            }
        }
        Ok(())
    }

    /// The commands in order, and how far each has come.
    pub fn phases(&self) -> Vec<(String, Phase)> {
        let mut all: Vec<_> =
            self.desk.restarts().of_agent(AGENT).iter().map(|r| (r.command_id.clone(), r.phase)).collect();
        all.reverse();
        all
    }

    /// The task's status, generation, and whether it is accepted for that.
    pub fn task(&self, id: &TaskId) -> Option<(bool, u64, bool)> {
        let task = self.desk.tasks().get(id.as_str())?;
        let accepted = matches!(task.status, Status::Assigned { accepted: true, .. });
        Some((task.status.is_final(), task.generation, accepted))
    }

    pub fn is_held(&self, id: &TaskId) -> bool {
        self.desk.tasks().get(id.as_str()).is_some_and(|task| matches!(task.status, Status::Assigned { .. }))
    }

    pub fn restart_is_open(&self) -> bool {
        self.desk.restarts().open_for(AGENT).is_some()
    }
}

/// As the shell says it. What only shows (status, pings, signs of life) is left unsaid: it decides nothing here.
fn frame(said: &ToHub) -> Option<SidecarFrame> {
    Some(match said {
        ToHub::Identify { .. }
        | ToHub::Ping
        | ToHub::Status { .. }
        | ToHub::TaskProgress { .. }
        | ToHub::WakeResult { .. } => return None,
        ToHub::TaskAccepted { task_id } => SidecarFrame::TaskAccepted { task_id: task_id.to_string() },
        ToHub::TaskRejected { task_id, generation, reason } => {
            let reason = match reason {
                RejectReason::Busy => "busy",
                RejectReason::Restarting => "restarting",
                RejectReason::Invalid => "invalid",
                RejectReason::Draining => "draining",
            };
            SidecarFrame::TaskRejected {
                task_id: task_id.clone(),
                generation: Some(*generation),
                reason: reason.to_string(),
            }
        }
        ToHub::TaskComplete { task_id, generation, result: _ } => SidecarFrame::TaskComplete(Verdict {
            task_id: task_id.to_string(),
            generation: *generation,
            result: Some(Map::new()),
            rest: Map::new(),
        }),
        ToHub::TaskFailed { task_id, generation, reason } => SidecarFrame::TaskFailed {
            task_id: task_id.clone(),
            generation: *generation,
            reason: Some(reason.clone()),
            error: None,
        },
        ToHub::TaskRecovering { task, last_status } => SidecarFrame::TaskRecovering {
            task_id: task.id.to_string(),
            last_status: Some((*last_status).to_string()),
            rest: Map::new(),
        },
        ToHub::StateReport { task_id, generation, status, assigned_at } => SidecarFrame::StateReport {
            task_id: task_id.to_string(),
            status: Some((*status).to_string()),
            generation: Some(*generation),
            assigned_at: *assigned_at,
        },
        ToHub::Cordon { on } => SidecarFrame::Cordon { on: *on },
        ToHub::RestartAck { command_id, answer } => {
            let (outcome, detail, deadline_ms) = match answer {
                RestartAnswer::Accepted { deadline_ms } => (RestartAckOutcome::Accepted, None, Some(*deadline_ms)),
                RestartAnswer::Duplicate => (RestartAckOutcome::Duplicate, None, None),
                RestartAnswer::Refused { detail } => (RestartAckOutcome::Refused, Some(detail.clone()), None),
            };
            SidecarFrame::RestartAck(RestartAck { command_id: command_id.clone(), outcome, detail, deadline_ms })
        }
        ToHub::AgentRestarting { restart, task_id, long_form: _ } => SidecarFrame::AgentRestarting(Restarting {
            reason: restart.reason.clone(),
            command_id: restart.command_id.clone(),
            forced: Some(restart.forced),
            expected_back_ms: Some(0),
            task_id: task_id.as_ref().map(ToString::to_string),
        }),
    })
}

/// As the shell hears it.
fn hear(frame: HubFrame) -> Option<FromHub> {
    Some(match frame {
        HubFrame::Identified { .. } => {
            FromHub::Identified { features: Features { restart_v2: true, task_rejected: true, cordon: true } }
        }
        HubFrame::Error(error) => {
            let (complete, why) = match error.error.split_once(": ")? {
                ("task_complete_failed", why) => (true, why),
                ("task_fail_failed", why) => (false, why),
                _ => return None,
            };
            let why = if why == "not_found" { VerdictRefusal::Never } else { VerdictRefusal::NotNow };
            FromHub::VerdictRefused { complete, why }
        }
        HubFrame::TaskAssign(assignment) => FromHub::Assigned {
            task: Task {
                id: TaskId::new(&assignment.task_id).ok()?,
                generation: assignment.generation,
                payload: "{}".into(),
            },
            assigned_at: None,
        },
        HubFrame::TaskAck { task_id, status } => match status {
            TaskAckStatus::Accepted => FromHub::AcceptAcknowledged { task_id },
            TaskAckStatus::Complete
            | TaskAckStatus::Failed
            | TaskAckStatus::Retried
            | TaskAckStatus::DeadLetter
            | TaskAckStatus::Other => FromHub::VerdictAcknowledged { task_id },
        },
        HubFrame::TaskContinue { task_id, generation } => FromHub::TaskContinue { task_id, generation },
        HubFrame::TaskReassign { task_id } => FromHub::TaskReassigned { task_id },
        HubFrame::TaskCancelled { task_id } => FromHub::TaskCancelled { task_id },
        HubFrame::StateReportAck { task_id, action } => {
            FromHub::ReportAnswered { task_id, go_on: action == StateAction::Continue }
        }
        HubFrame::RestartSidecar(command) => FromHub::RestartCommanded(RestartOrder {
            reason: command.reason.unwrap_or_default(),
            command_id: command.command_id,
            deadline_ms: command.deadline_ms,
            force: command.force,
            by: command.by,
        }),
        HubFrame::RateLimited { .. }
        | HubFrame::Pong { .. }
        | HubFrame::RateLimitWarning {}
        | HubFrame::AgentLeft { .. } => return None,
    })
}
