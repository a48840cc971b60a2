//! The scheduler's handling of an agent's frames: pure, and one match arm for each frame.

use serde_json::json;

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::task::Task;
use crate::hub::scheduler::verdicts::{Failed, VerdictError};
use crate::protocol::schema::frames::frame_fields;
use crate::protocol::{
    HubError, HubFrame, JsonFields, JsonText, Limit, RestartAck, Restarting, STATUS_PARKED, STATUS_UNWELL,
    SidecarFrame, StateAction, TaskAckStatus, TaskCompletion, clip,
};

/// The time in which a run that is alive takes its place again, in ms: it is told to wait for 1 s.
pub(super) const HOLDER_RETURN_MS: u64 = 5_000;

impl Scheduler {
    /// Applies a frame of an identified agent. A frame from a superseded connection is ignored.
    pub fn frame_received(&mut self, conn: ConnId, frame: SidecarFrame, now_ms: u64) {
        let Some(agent_id) = self.agents.agent_on(conn).map(str::to_owned) else { return };
        let agent_id = agent_id.as_str();
        match frame {
            // Identities are checked by the owner of the tokens before a frame gets here.
            SidecarFrame::Identify(_) => {
                let error = HubError { error: "already_identified".to_owned(), ..HubError::default() };
                self.send(agent_id, &HubFrame::Error(error));
            }
            SidecarFrame::Ping {} => self.send(agent_id, &HubFrame::Pong { timestamp: JsonText::of(&now_ms) }),
            SidecarFrame::Status { status } => self.handle_status(agent_id, status, now_ms),
            SidecarFrame::TaskAccepted { task_id, generation } => {
                self.handle_accepted(agent_id, &task_id, generation, now_ms);
            }
            SidecarFrame::TaskRejected { task_id, generation, reason } => {
                self.handle_rejection(agent_id, &task_id, generation, &reason, now_ms);
            }
            SidecarFrame::TaskProgress { task_id, progress, execution_event } => {
                if self.handle_sign_of_life(agent_id, &task_id, now_ms) {
                    self.inventory.progressed(agent_id, &task_id, progress, execution_event.as_ref(), now_ms);
                }
            }
            SidecarFrame::WakeResult { task_id, status: _, attempt: _, error: _, reason: _ } => {
                self.handle_sign_of_life(agent_id, &task_id, now_ms);
            }
            SidecarFrame::TaskComplete(verdict) => self.handle_complete(agent_id, verdict, now_ms),
            SidecarFrame::TaskFailed { task_id, generation, reason, error } => {
                let reason = error.or(reason).unwrap_or_else(|| "unknown".to_owned());
                self.handle_failed(agent_id, &task_id, generation, &reason, now_ms);
            }
            SidecarFrame::TaskRecovering { task_id, last_status, rest: _ } => {
                self.handle_recovering(agent_id, task_id, last_status.as_deref(), now_ms);
            }
            SidecarFrame::StateReport { task_id, status, generation, assigned_at: _ } => {
                let parked = status.as_deref() == Some(STATUS_PARKED);
                self.handle_state_report(agent_id, task_id, generation, parked, now_ms);
            }
            SidecarFrame::ResourceReport { rest } => self.handle_resources(agent_id, rest),
            SidecarFrame::Cordon { on } => self.handle_cordon(agent_id, on),
            SidecarFrame::AgentRestarting(restarting) => self.handle_restarting(agent_id, &restarting, now_ms),
            SidecarFrame::RestartAck(ack) => self.handle_restart_ack(agent_id, &ack, now_ms),
        }
        self.dispatch(now_ms);
        self.note_state(agent_id, now_ms);
    }

    fn handle_status(&mut self, agent_id: &str, status: String, now_ms: u64) {
        // The status is free text: it does not decide whether the agent is free.
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.unwell_since = status.starts_with(STATUS_UNWELL).then(|| agent.unwell_since.unwrap_or(now_ms));
            agent.status = status;
        }
        self.send_text(agent_id, json!({"type": "status_updated"}).to_string(), None);
    }

    /// Records that the agent accepted the task. An acceptance of an older generation shows that the agent missed the
    /// newer assignment.
    fn handle_accepted(&mut self, agent_id: &str, task_id: &str, generation: Option<u64>, now_ms: u64) {
        let current = self.tasks.held_task(agent_id, task_id).map(|task| task.generation);
        if generation.is_some() && current.is_some() && generation != current {
            return self.send_assignment(agent_id);
        }
        if self.handle_sign_of_life(agent_id, task_id, now_ms) {
            self.tasks.accepted(agent_id, task_id, now_ms);
            self.ack(agent_id, task_id, TaskAckStatus::Accepted);
        }
    }

    /// Records a sign of life of the task. If the sender does not hold the task, it is told so and the result is
    /// `false`: it may have missed that the task was reclaimed, and would work on it beside another agent.
    fn handle_sign_of_life(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let holds = self.tasks.record_sign_of_life(agent_id, task_id, now_ms);
        if !holds {
            match self.tasks.get(task_id).filter(|task| !task.has_ended_for_good()).map(|task| task.generation) {
                Some(generation) => self.send_reclaimed(agent_id, task_id, generation),
                None => self.send_cancelled(agent_id, task_id),
            }
        }
        holds
    }

    fn handle_rejection(&mut self, agent_id: &str, task_id: &str, generation: Option<u64>, reason: &str, now_ms: u64) {
        let task = self.tasks.held_task(agent_id, task_id);
        if task.is_none_or(|task| generation.is_some_and(|reported| reported != task.generation)) {
            return;
        }
        if reason == "invalid" {
            let why = format!("rejected as invalid by {agent_id}");
            self.tasks.move_to_dead_letters(agent_id, &why, now_ms);
            self.agent_changed(agent_id);
            return;
        }
        if reason == "busy" && self.is_legacy(agent_id) && self.tasks.has_accepted(agent_id) {
            // A legacy sidecar answers so for a task that it already works on.
            self.tasks.record_sign_of_life(agent_id, task_id, now_ms);
            return;
        }
        // A word; its history keeps it as often as it comes.
        self.tasks.reclaim(agent_id, &format!("rejected: {}", clip(reason, Limit::Status)), now_ms);
        self.agents.set_unavailable(agent_id, now_ms + self.policy.reject_retry_ms);
        self.touched.push(agent_id.to_owned());
    }

    fn handle_complete(&mut self, agent_id: &str, verdict: TaskCompletion, now_ms: u64) {
        let TaskCompletion { task_id, generation, result, rest: mut report } = verdict;
        let result = result.unwrap_or_else(JsonText::empty_object);
        if report.get("tokens_used").is_none() {
            let within = JsonFields::of_unchecked(result.as_str(), |name| name == "tokens_used");
            if let Some(tokens) = within.read::<u64>("tokens_used") {
                report.set("tokens_used", &tokens);
            }
        }
        match self.tasks.complete(agent_id, &task_id, generation, result, report, now_ms) {
            Ok(()) => self.ack(agent_id, &task_id, TaskAckStatus::Complete),
            Err(why) => self.refuse_verdict(agent_id, "task_complete_failed", &task_id, generation, why),
        }
        self.agent_changed(agent_id);
    }

    fn handle_failed(&mut self, agent_id: &str, task_id: &str, generation: u64, reason: &str, now_ms: u64) {
        match self.tasks.fail(agent_id, task_id, generation, &clip(reason, Limit::Reason), now_ms) {
            Ok(Failed::Retried) => self.ack(agent_id, task_id, TaskAckStatus::Retried),
            Ok(Failed::DeadLetter) => self.ack(agent_id, task_id, TaskAckStatus::DeadLetter),
            Err(why) => self.refuse_verdict(agent_id, "task_fail_failed", task_id, generation, why),
        }
        self.agent_changed(agent_id);
    }

    /// Answers the question of a process that found the task in the journal of the process before it.
    fn handle_recovering(&mut self, agent_id: &str, task_id: String, last_status: Option<&str>, now_ms: u64) {
        if self.is_legacy(agent_id) {
            self.handle_carried_over_task(agent_id, &task_id, last_status, now_ms);
        }
        if self.holder_may_return(agent_id, &task_id, now_ms) {
            return;
        }
        let held = self.tasks.record_sign_of_life(agent_id, &task_id, now_ms);
        let parks_work = self.agents.parks_work(agent_id);
        let task = self.tasks.get(&task_id);
        let (generation, ended) = (task.map(|task| task.generation), task.is_some_and(Task::has_ended_for_good));
        let answer = match held {
            true => HubFrame::TaskContinue { task_id, generation },
            false if parks_work && ended => HubFrame::TaskCancelled { task_id },
            false => HubFrame::TaskReassign { task_id, generation: generation.filter(|_| parks_work) },
        };
        self.send(agent_id, &answer);
        self.touched.push(agent_id.to_owned());
    }

    /// Returns whether the run that holds the task may be alive beside the connected one, which has just taken its place:
    /// then that one (with a copy of its journal) is not answered yet. A holder that lives is back within seconds;
    /// otherwise the question comes again.
    fn holder_may_return(&self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let held = self.tasks.assignments.get(agent_id).filter(|held| *held.task_id == *task_id);
        let holder = held.and_then(|held| held.run.as_ref()?.boot_id.as_deref());
        self.agents.connected(agent_id).is_some_and(|(agent, _)| {
            let is_other = holder.is_some() && agent.run.boot_id.as_deref() != holder;
            is_other && now_ms < agent.connected_at + HOLDER_RETURN_MS
        })
    }

    /// Answers a state report: the agent may continue only what it holds. If it reports another generation, or work that
    /// it only keeps, it must receive the current assignment first: a peer that adopts running work gets it (again,
    /// since it may have been lost with another connection), and any other must abort the work.
    fn handle_state_report(
        &mut self,
        agent_id: &str,
        task_id: String,
        reported: Option<u64>,
        parked: bool,
        now_ms: u64,
    ) {
        let current = self.tasks.held_task(agent_id, &task_id).map(|task| task.generation);
        let same = !parked && current.is_some_and(|current| reported.is_none_or(|reported| reported == current));
        if same {
            self.tasks.record_sign_of_life(agent_id, &task_id, now_ms);
        }
        if !same && !parked && self.continue_older_work(agent_id, &task_id, now_ms) {
            return;
        }
        let may_continue = same || (current.is_some() && self.adopts_work(agent_id));
        if may_continue && !same {
            self.send_assignment(agent_id);
        }
        if self.tasks.get(&task_id).is_some_and(Task::has_ended_for_good) {
            self.send_cancelled(agent_id, &task_id);
        } else if !parked {
            let action = if may_continue { StateAction::Continue } else { StateAction::Abort };
            self.send(agent_id, &HubFrame::StateReportAck { task_id, action });
        }
        if !may_continue && !parked {
            self.agent_changed(agent_id);
        }
    }

    fn handle_resources(&mut self, agent_id: &str, mut report: JsonFields) {
        // /api/agents shows these fields without a token, so unknown ones are dropped.
        let fields = frame_fields("resource_report").unwrap_or_default();
        report.retain(|key: &str, _| fields.iter().any(|field| field.is(key)));
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.resources = report.into();
        }
    }

    fn handle_cordon(&mut self, agent_id: &str, on: bool) {
        self.agents.cordon(agent_id, on);
        self.inventory.cordon(agent_id, on);
        self.agent_changed(agent_id);
    }

    fn handle_restarting(&mut self, agent_id: &str, restarting: &Restarting, now_ms: u64) {
        self.restarts.draining(agent_id, restarting, now_ms);
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.leaving = true;
            agent.expected_back_ms = restarting.expected_back_ms.unwrap_or_default();
            agent.status = clip(&format!("restarting: {}", restarting.reason), Limit::Status);
        }
        // An agent that announces a restart and stays must not be fenced for ever.
        let gone_by = now_ms.saturating_add(self.policy.exit_ms());
        self.agents.set_unavailable(agent_id, gone_by);
        self.touched.push(agent_id.to_owned());
    }

    fn handle_restart_ack(&mut self, agent_id: &str, ack: &RestartAck, now_ms: u64) {
        if self.restarts.acknowledged(agent_id, ack, now_ms) {
            self.touched.push(agent_id.to_owned());
        }
    }

    /// Records that the agent's state changed: it may be free, and an earlier rejection no longer counts.
    fn agent_changed(&mut self, agent_id: &str) {
        self.agents.set_available(agent_id);
        self.touched.push(agent_id.to_owned());
    }

    fn ack(&mut self, agent_id: &str, task_id: &str, status: TaskAckStatus) {
        self.send(agent_id, &HubFrame::TaskAck { task_id: task_id.to_owned(), status });
    }

    /// Answers a verdict that does not count. A peer that adopts work and holds the task under a newer generation may
    /// have missed that assignment (it was lost with another connection), so it is sent again. One that would keep its
    /// work on a task that has ended is told to forget it.
    fn refuse_verdict(&mut self, agent_id: &str, what: &str, task_id: &str, generation: u64, why: VerdictError) {
        let name: &'static str = why.into();
        let error = HubError {
            error: format!("{what}: {name}"),
            task_id: Some(task_id.to_owned()),
            generation: Some(generation),
            ..HubError::default()
        };
        self.send(agent_id, &HubFrame::Error(error));
        let holds = self.tasks.held_task(agent_id, task_id).is_some();
        if why == VerdictError::StaleGeneration && holds && self.adopts_work(agent_id) {
            self.send_assignment(agent_id);
        }
        if self.agents.parks_work(agent_id) && self.tasks.get(task_id).is_some_and(Task::has_ended_for_good) {
            self.send_cancelled(agent_id, task_id);
        }
    }

    fn adopts_work(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.is_v2())
    }
}
