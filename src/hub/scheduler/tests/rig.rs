//! A scheduler on a bench: a clock that the test moves, and what was said in short. It judges nothing.

use serde_json::{Value, json};

use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::{RestartPhase, RestartRequest};
use crate::hub::scheduler::restart_ledger::Commanded;
use crate::hub::scheduler::task::{Priority, Submission};
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::protocol::{FEATURE_TASK_REASSIGN, Identify, JsonFields, JsonText, SidecarFrame};

/// A scheduler, a clock, and what was said.
pub(crate) struct Rig {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: u64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::at(0)
    }

    /// A scheduler that is opened at that time.
    pub(crate) fn at(now: u64) -> Self {
        Self { scheduler: Scheduler::load(Vec::new(), Vec::new(), Policy::default(), now), now }
    }

    pub(crate) fn join(&mut self, conn: ConnId, agent_id: &str, boot: Option<&str>) -> Vec<String> {
        let identify = Identify { agent_id: agent_id.into(), boot_id: boot.map(str::to_owned), ..Identify::default() };
        self.scheduler.identified(conn, &identify, "10.0.0.1:1", self.now);
        self.said()
    }

    /// An agent of this version, which keeps its work when a task is reclaimed.
    pub(crate) fn join_today(&mut self, conn: ConnId, agent_id: &str, boot: &str) -> Vec<String> {
        self.join_as(conn, Identify { agent_id: agent_id.into(), boot_id: Some(boot.into()), ..Identify::default() })
    }

    /// The same, with what else it says of itself.
    pub(crate) fn join_as(&mut self, conn: ConnId, identify: Identify) -> Vec<String> {
        let identify = Identify { features: vec![FEATURE_TASK_REASSIGN.into()], ..identify };
        self.scheduler.identified(conn, &identify, &format!("10.0.0.{conn}:1"), self.now);
        self.said()
    }

    /// The hub is killed, and starts again from what was stored.
    pub(crate) fn hub_crash(&mut self) {
        let tasks = self.scheduler.tasks().list().into_iter().cloned().collect();
        let restarts = self.scheduler.restarts().of_agent("a").into_iter().cloned().collect();
        self.scheduler = Scheduler::load(tasks, restarts, Policy::default(), self.now);
    }

    pub(crate) fn submit(&mut self, task_id: &str) -> Vec<String> {
        self.submit_with(task_id, JsonFields::default())
    }

    /// With these fields besides.
    pub(crate) fn submit_with(&mut self, task_id: &str, extra: JsonFields) -> Vec<String> {
        let submission = Submission { extra, ..submission(Priority::Normal) };
        self.scheduler.submit(task_id.into(), submission, self.now);
        self.said()
    }

    pub(crate) fn hear(&mut self, conn: ConnId, frame: SidecarFrame) -> Vec<String> {
        self.scheduler.frame_received(conn, frame, self.now);
        self.said()
    }

    pub(crate) fn drop_conn(&mut self, conn: ConnId) -> Vec<String> {
        self.scheduler.disconnected(conn, self.now);
        self.said()
    }

    pub(crate) fn restart(&mut self, force: bool) -> Option<Commanded> {
        self.restart_as(format!("c{}", self.now), force)
    }

    /// Under this command id.
    pub(crate) fn restart_as(&mut self, command_id: String, force: bool) -> Option<Commanded> {
        let request = RestartRequest { reason: "update".into(), deadline_ms: None, force, by: "ops".into() };
        self.scheduler.command_restart(command_id, "a", request, self.now)
    }

    pub(crate) fn tick_at(&mut self, now: u64) -> Vec<String> {
        self.now = now;
        self.scheduler.tick(now);
        self.said()
    }

    /// What was said since the last look, as `connection:type` (and `#generation` of an assignment).
    pub(crate) fn said(&mut self) -> Vec<String> {
        let short = |say: Outgoing| match say {
            Outgoing::Close { conn, code, reason: _ } => format!("{conn}:close {code}"),
            Outgoing::Frame { conn, text, receipt: _ } => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let detail = match frame["type"].as_str().unwrap() {
                    "task_assign" => format!(" {}#{}", frame["task_id"].as_str().unwrap(), frame["generation"]),
                    "task_reassign" if frame["generation"].is_u64() => format!(" #{}", frame["generation"]),
                    "task_continue" => format!(" #{}", frame["generation"]),
                    "task_ack" => format!(" {}", frame["status"].as_str().unwrap()),
                    "state_report_ack" => format!(" {}", frame["action"].as_str().unwrap()),
                    "error" => format!(" {}", frame["error"].as_str().unwrap()),
                    "restart_sidecar" => format!(" {} force={}", frame["command_id"], frame["force"] == true),
                    _ => String::new(),
                };
                format!("{conn}:{}{detail}", frame["type"].as_str().unwrap())
            }
        };
        self.scheduler.take_outgoing().into_iter().map(short).collect()
    }

    pub(crate) fn losses(&self, task_id: &str) -> u64 {
        self.scheduler.tasks().get(task_id).unwrap().losses
    }

    pub(crate) fn status(&self, task_id: &str) -> String {
        let task = self.scheduler.tasks().get(task_id).unwrap();
        format!("{}#{}", task.status.name(), task.generation)
    }

    pub(crate) fn fsm(&self, agent_id: &str) -> String {
        let agents = agents_of(&self.scheduler, self.now);
        let found = agents.iter().find(|agent| agent["agent_id"] == agent_id);
        found.map_or("gone".into(), |agent| agent["fsm_state"].as_str().unwrap().into())
    }

    pub(crate) fn phase(&self) -> RestartPhase {
        self.scheduler.restarts().of_agent("a")[0].phase
    }
}

/// The agents as `GET /api/agents` shows them.
pub(crate) fn agents_of(scheduler: &Scheduler, now: u64) -> Vec<Value> {
    let view = scheduler.view();
    view.agents_after(None).map(|id| serde_json::to_value(view.agent(id, now)).unwrap()).collect()
}

/// Their states as `GET /api/agents/states` shows them.
pub(crate) fn states_of(scheduler: &Scheduler, now: u64) -> Vec<Value> {
    let view = scheduler.view();
    view.agents_after(None).map(|id| view.agent_state(id, now).unwrap()).collect()
}

/// What somebody hands in, in that lane.
pub(crate) fn submission(priority: Priority) -> Submission {
    Submission {
        description: "d".into(),
        metadata: JsonText::empty_object(),
        priority,
        max_retries: 3,
        needed_capabilities: Vec::new(),
        extra: JsonFields::default(),
        submitted_by: "ops".into(),
        submitter_since: None,
    }
}

pub(crate) fn accepted(task_id: &str) -> SidecarFrame {
    SidecarFrame::TaskAccepted { task_id: task_id.into(), generation: None }
}

pub(crate) fn complete(task_id: &str, generation: u64) -> SidecarFrame {
    let text = json!({"type": "task_complete", "task_id": task_id, "generation": generation}).to_string();
    SidecarFrame::parse(&text).unwrap()
}

pub(crate) fn rejected(reason: &str) -> SidecarFrame {
    SidecarFrame::TaskRejected { task_id: "t".into(), generation: Some(1), reason: reason.into() }
}

pub(crate) fn report(generation: u64) -> SidecarFrame {
    SidecarFrame::StateReport { task_id: "t".into(), status: None, generation: Some(generation), assigned_at: None }
}

pub(crate) fn progress(task_id: &str) -> SidecarFrame {
    SidecarFrame::TaskProgress { task_id: task_id.into(), progress: None, execution_event: None }
}

pub(crate) fn woken(task_id: &str) -> SidecarFrame {
    let frame = json!({"type": "wake_result", "task_id": task_id, "status": "success"});
    SidecarFrame::parse(&frame.to_string()).unwrap()
}
