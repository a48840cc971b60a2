//! The scheduler's handling of an agent's frames: pure, and one match arm for each frame.

use serde_json::{Map, Value, json};

use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::verdicts::{Failed, VerdictError};
use crate::protocol::schema::frames::frame_fields;
use crate::protocol::{
    HubError, HubFrame, Limit, RestartAck, Restarting, SidecarFrame, StateAction, TaskAckStatus, Verdict, clip,
};

impl Scheduler {
    /// Applies a frame of an identified agent. A frame from a superseded connection is ignored.
    pub fn frame_received(&mut self, conn: ConnId, frame: SidecarFrame, now_ms: u64) {
        let Some(agent_id) = self.agents.on(conn).map(str::to_owned) else { return };
        let agent_id = agent_id.as_str();
        match frame {
            // Identities are checked by the owner of the tokens before a frame gets here.
            SidecarFrame::Identify(_) => {
                let error = HubError { error: "already_identified".to_owned(), ..HubError::default() };
                self.say(agent_id, &HubFrame::Error(error));
            }
            SidecarFrame::Ping {} => self.say(agent_id, &HubFrame::Pong { timestamp: json!(now_ms) }),
            SidecarFrame::Status { status } => self.hear_status(agent_id, status),
            SidecarFrame::TaskAccepted { task_id } => {
                if self.hear_life(agent_id, &task_id, now_ms) {
                    self.tasks.accepted(agent_id, &task_id, now_ms);
                    self.ack(agent_id, &task_id, TaskAckStatus::Accepted);
                }
            }
            SidecarFrame::TaskRejected { task_id, generation, reason } => {
                self.hear_rejection(agent_id, &task_id, generation, &reason, now_ms);
            }
            SidecarFrame::TaskProgress { task_id, progress: _, execution_event: _ }
            | SidecarFrame::WakeResult { task_id, status: _, attempt: _, error: _, reason: _ } => {
                self.hear_life(agent_id, &task_id, now_ms);
            }
            SidecarFrame::TaskComplete(verdict) => self.hear_complete(agent_id, verdict, now_ms),
            SidecarFrame::TaskFailed { task_id, generation, reason, error } => {
                let reason = error.or(reason).unwrap_or_else(|| "unknown".to_owned());
                self.hear_failed(agent_id, &task_id, generation, &reason, now_ms);
            }
            SidecarFrame::TaskRecovering { task_id, last_status, rest: _ } => {
                self.hear_recovering(agent_id, task_id, last_status.as_deref(), now_ms);
            }
            SidecarFrame::StateReport { task_id, status: _, generation, assigned_at: _ } => {
                self.hear_state_report(agent_id, task_id, generation, now_ms);
            }
            SidecarFrame::ResourceReport { rest } => self.hear_resources(agent_id, rest),
            SidecarFrame::Cordon { on } => self.hear_cordon(agent_id, on),
            SidecarFrame::AgentRestarting(said) => self.hear_restarting(agent_id, &said, now_ms),
            SidecarFrame::RestartAck(ack) => self.hear_restart_ack(agent_id, &ack, now_ms),
        }
        self.settle(now_ms);
    }

    fn hear_status(&mut self, agent_id: &str, status: String) {
        // The status is free text: it does not decide whether the agent is free.
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.status = status;
        }
        self.say_text(agent_id, json!({"type": "status_updated"}).to_string(), None);
    }

    /// Records a sign of life of the task. If the sender does not hold the task, it is sent a cancellation and the
    /// result is `false`: it may have missed that the task was reclaimed, and would work on it beside another agent.
    fn hear_life(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        let holds = self.tasks.alive(agent_id, task_id, now_ms) || self.has_it_still(agent_id, task_id, now_ms);
        if !holds {
            self.say_cancelled(agent_id, task_id);
        }
        holds
    }

    fn hear_rejection(&mut self, agent_id: &str, task_id: &str, generation: Option<u64>, reason: &str, now_ms: u64) {
        let task = self.tasks.task_of(agent_id).filter(|task| task.id == task_id);
        if task.is_none_or(|task| generation.is_some_and(|said| said != task.generation)) {
            return;
        }
        if reason == "invalid" {
            let why = format!("rejected as invalid by {agent_id}");
            self.tasks.condemn(agent_id, &why, now_ms);
            self.changed(agent_id);
            return;
        }
        if reason == "busy" {
            // A legacy sidecar answers so for a task that it already works on.
            self.tasks.still_in_hand(agent_id, task_id);
        }
        if self.is_busy_with_it(agent_id, task_id, reason, now_ms) {
            self.tasks.alive(agent_id, task_id, now_ms);
            return;
        }
        self.tasks.take_back(agent_id, &format!("rejected: {reason}"), now_ms);
        self.agents.set_unavailable(agent_id, now_ms + self.policy.reject_retry_ms);
        self.touched.push(agent_id.to_owned());
    }

    fn hear_complete(&mut self, agent_id: &str, verdict: Verdict, now_ms: u64) {
        let Verdict { task_id, generation, result, rest: mut report } = verdict;
        let result = result.unwrap_or_default();
        report.remove("protocol_version");
        if let (false, Some(tokens)) = (report.contains_key("tokens_used"), result.get("tokens_used")) {
            report.insert("tokens_used".to_owned(), tokens.clone());
        }
        self.take_late_verdict(agent_id, &task_id, generation, now_ms);
        match self.tasks.complete(agent_id, &task_id, generation, result, report, now_ms) {
            Ok(()) => self.ack(agent_id, &task_id, TaskAckStatus::Complete),
            Err(why) => self.refuse(agent_id, "task_complete_failed", &task_id, why),
        }
        self.changed(agent_id);
    }

    fn hear_failed(&mut self, agent_id: &str, task_id: &str, generation: u64, reason: &str, now_ms: u64) {
        self.take_late_verdict(agent_id, task_id, generation, now_ms);
        match self.tasks.fail(agent_id, task_id, generation, &clip(reason, Limit::Reason), now_ms) {
            Ok(Failed::Retried) => self.ack(agent_id, task_id, TaskAckStatus::Retried),
            Ok(Failed::DeadLetter) => self.ack(agent_id, task_id, TaskAckStatus::DeadLetter),
            Err(why) => self.refuse(agent_id, "task_fail_failed", task_id, why),
        }
        self.changed(agent_id);
    }

    fn hear_recovering(&mut self, agent_id: &str, task_id: String, last_status: Option<&str>, now_ms: u64) {
        // Sent by a process that found the task in the journal of the process before it.
        self.tasks.began_anew(agent_id);
        self.settle_what_was_carried_over(agent_id, &task_id, last_status, now_ms);
        let held = self.tasks.alive(agent_id, &task_id, now_ms);
        let generation = self.tasks.get(&task_id).map(|task| task.generation);
        let answer = match held {
            true => HubFrame::TaskContinue { task_id, generation },
            false => HubFrame::TaskReassign { task_id },
        };
        self.say(agent_id, &answer);
        self.has_reported(agent_id);
    }

    /// Answers a state report: the agent may continue only what it holds. If it reports another generation, it must
    /// receive the current assignment first: a peer that adopts running work gets it (again, since it may have been
    /// lost with another connection), and any other must abort the work.
    fn hear_state_report(&mut self, agent_id: &str, task_id: String, said: Option<u64>, now_ms: u64) {
        self.tasks.still_in_hand(agent_id, &task_id);
        if self.goes_on_under(agent_id, &task_id, said, now_ms) {
            return self.say(agent_id, &HubFrame::StateReportAck { task_id, action: StateAction::Continue });
        }
        let current = self.tasks.task_of(agent_id).filter(|task| task.id == task_id).map(|task| task.generation);
        let same = current.is_some_and(|current| said.is_none_or(|said| said == current))
            || self.knows_it_under(agent_id, &task_id, said, now_ms);
        if same {
            self.tasks.alive(agent_id, &task_id, now_ms);
        }
        let go_on = same || (current.is_some() && self.adopts(agent_id));
        if go_on && !same {
            self.say_assignment(agent_id);
        }
        let action = if go_on { StateAction::Continue } else { StateAction::Abort };
        self.say(agent_id, &HubFrame::StateReportAck { task_id, action });
        if !go_on {
            self.changed(agent_id);
        }
    }

    fn hear_resources(&mut self, agent_id: &str, mut report: Map<String, Value>) {
        // /api/agents shows these fields without a token, so unknown ones are dropped.
        let figures = frame_fields("resource_report").unwrap_or_default();
        report.retain(|key, _| figures.iter().any(|field| field.is(key)));
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.resources = report;
        }
    }

    fn hear_cordon(&mut self, agent_id: &str, on: bool) {
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.cordoned = on;
        }
        self.changed(agent_id);
    }

    fn hear_restarting(&mut self, agent_id: &str, said: &Restarting, now_ms: u64) {
        self.restarts.draining(agent_id, said, now_ms);
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.leaving = true;
            agent.status = clip(&format!("restarting: {}", said.reason), Limit::Status);
        }
        // An agent that announces a restart and stays must not be fenced for ever.
        let gone_by = now_ms.saturating_add(self.policy.drain_deadline_ms + self.policy.restart_margin_ms);
        self.agents.set_unavailable(agent_id, gone_by);
        self.touched.push(agent_id.to_owned());
    }

    fn hear_restart_ack(&mut self, agent_id: &str, ack: &RestartAck, now_ms: u64) {
        if self.restarts.acknowledged(agent_id, ack, now_ms) {
            self.touched.push(agent_id.to_owned());
        }
    }

    /// Records that the agent's state changed: it may be free, and an earlier rejection no longer counts.
    fn changed(&mut self, agent_id: &str) {
        self.agents.set_available(agent_id);
        self.touched.push(agent_id.to_owned());
    }

    fn ack(&mut self, agent_id: &str, task_id: &str, status: TaskAckStatus) {
        self.say(agent_id, &HubFrame::TaskAck { task_id: task_id.to_owned(), status });
    }

    /// Answers a verdict that does not count. A peer that adopts work and holds the task under a newer generation may
    /// have missed that assignment (it was lost with another connection, and `task_accepted` names no generation), so
    /// it is sent again.
    fn refuse(&mut self, agent_id: &str, what: &str, task_id: &str, why: VerdictError) {
        let name: &'static str = why.into();
        self.say(agent_id, &HubFrame::Error(HubError { error: format!("{what}: {name}"), ..HubError::default() }));
        let holds = self.tasks.task_of(agent_id).is_some_and(|task| task.id == task_id);
        if why == VerdictError::StaleGeneration && holds && self.adopts(agent_id) {
            self.say_assignment(agent_id);
        }
    }

    fn adopts(&self, agent_id: &str) -> bool {
        self.agents.get(agent_id).is_some_and(|agent| agent.is_v2())
    }
}
