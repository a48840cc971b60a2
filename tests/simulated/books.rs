//! The hub of a seed: the shipped scheduler with what it stored, or the existing hub's rules. It says what is to be said on
//! each connection and stores what changed; what may be said is judged in `judge`.

use std::collections::BTreeMap;

use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::{Restart, RestartPhase, RestartRequest};
use agentcom::hub::scheduler::task::{Priority, Submission, Task};
use agentcom::hub::scheduler::{Outgoing, Scheduler};
use agentcom::protocol::{JsonFields, JsonText, SidecarFrame};
use tokio::sync::mpsc;

use crate::shared::{AGENT, Order, Shared, TOKEN};
use crate::support::legacy_hub::core::{Core, Out};
use crate::support::legacy_hub::options::Options;
use crate::support::legacy_hub::tasks as legacy;

/// The rules: the shipped hub's scheduler with what it stored, or the existing hub's.
pub enum Rules {
    Ours { scheduler: Box<Scheduler>, tasks: BTreeMap<String, Task>, restarts: BTreeMap<String, Restart> },
    Legacy(Box<Core>),
}

pub fn policy() -> Policy {
    Policy {
        accept_timeout_ms: 5_000,
        stale_timeout_ms: 15_000,
        reconcile_ms: 1_000,
        reject_retry_ms: 1_000,
        restart_deadline_ms: 3_000,
        drain_deadline_ms: 1_000,
        restart_margin_ms: 5_000,
        silence_timeout_ms: 5_000,
        reconnect_grace_ms: 4_000,
        ..Policy::default()
    }
}

impl Rules {
    /// Two seeds in three have the shipped hub.
    pub fn new(seed: u64, now: u64) -> Self {
        if seed.is_multiple_of(3) {
            let options = Options {
                acceptance_ms: 5_000,
                silence_ms: Some(5_000),
                evict_after_ms: None,
                stuck_after_ms: Some(15_000),
                cooldowns_ms: [1_000, 2_000, 3_000],
                ..Options::default()
            };
            let mut core = Core::new(options);
            core.register(AGENT, TOKEN);
            return Self::Legacy(Box::new(core));
        }
        let scheduler = Box::new(Scheduler::load(Vec::new(), Vec::new(), policy(), now));
        Self::Ours { scheduler, tasks: BTreeMap::new(), restarts: BTreeMap::new() }
    }
}

impl Shared {
    /// Stores what changed, then says what is to be said.
    pub fn flush(&mut self) {
        let mut out = Vec::new();
        match &mut self.rules {
            Rules::Ours { scheduler, tasks, restarts } => {
                let changes = scheduler.take_changes();
                for (id, task) in changes.tasks {
                    match task {
                        Some(task) => drop(tasks.insert(id, task.clone())),
                        None => drop(tasks.remove(&id)),
                    }
                }
                for (id, restart) in changes.restarts {
                    match restart {
                        Some(restart) => {
                            let before = restarts.insert(id.clone(), restart.clone()).map(|before| before.phase);
                            let late = (Some(RestartPhase::Overdue), RestartPhase::Back);
                            if before.is_some_and(|before| !before.is_open() && before != restart.phase)
                                && (before, restart.phase) != late
                            {
                                let two = format!("{id} ended twice: {before:?}, then {:?}", restart.phase);
                                self.violations.push(two);
                            }
                        }
                        None => drop(restarts.remove(&id)),
                    }
                }
                out.extend(scheduler.take_outgoing().into_iter().map(|say| match say {
                    Outgoing::Frame { conn, text, receipt } => (conn, Order::Say(text, receipt)),
                    Outgoing::Close { conn, code, reason } => (conn, Order::Close(code, reason)),
                }));
            }
            Rules::Legacy(core) => out.extend(core.take_outs().into_iter().map(|out| match out {
                Out::Say(conn, frame) => {
                    self.counts.forgotten += u64::from(frame["type"] == "agent_left");
                    (conn, Order::Say(frame.to_string(), None))
                }
                Out::Close(conn, code, reason) => (conn, Order::Close(code, reason)),
                Out::Drop(conn) => (conn, Order::Drop),
            })),
        }
        for (conn, order) in out {
            if matches!(order, Order::Close(4001, _)) && conn == self.newest {
                self.violations.push(format!("the newest connection, {conn}, was taken for an older one"));
            }
            if let Some(orders) = self.orders.get(&conn) {
                // A connection that ended meanwhile hears nothing.
                let _ = orders.send(order);
            }
        }
    }

    pub fn opened(&mut self, conn: u64, orders: mpsc::UnboundedSender<Order>) {
        self.counts.half_open += u64::from(!self.orders.is_empty());
        self.orders.insert(conn, orders);
        if let Rules::Legacy(core) = &mut self.rules {
            core.opened(conn, self.now);
        }
    }

    pub fn closed(&mut self, conn: u64) {
        if self.orders.remove(&conn).is_none() {
            return;
        }
        match &mut self.rules {
            Rules::Ours { scheduler, .. } => scheduler.disconnected(conn, self.now),
            Rules::Legacy(core) => core.closed(conn, self.now),
        }
        self.flush();
    }

    /// The hub's process dies: what was stored stays.
    pub fn hub_dies(&mut self) {
        self.orders.clear();
        match &mut self.rules {
            Rules::Ours { scheduler, tasks, restarts } => {
                let (tasks, restarts) = (tasks.values().cloned().collect(), restarts.values().cloned().collect());
                **scheduler = Scheduler::load(tasks, restarts, policy(), self.now);
            }
            Rules::Legacy(core) => core.crashed(),
        }
        self.flush();
    }

    pub fn tick(&mut self) {
        match &mut self.rules {
            Rules::Ours { scheduler, .. } => scheduler.tick(self.now),
            Rules::Legacy(core) => {
                core.tick(self.now);
                if self.calm && core.overlooks_a_task(self.now) {
                    self.counts.overlooked += 1;
                    return self.submit();
                }
            }
        }
        self.flush();
    }

    pub fn submit(&mut self) {
        let id = format!("task-{}", self.submitted.len() + 1);
        self.submitted.push(id.clone());
        self.counts.tasks += 1;
        self.note(&format!("submit {id}"));
        match &mut self.rules {
            Rules::Ours { scheduler, .. } => {
                let submission = Submission {
                    description: "work".into(),
                    metadata: JsonText::empty_object(),
                    priority: Priority::Normal,
                    max_retries: 3,
                    needed_capabilities: Vec::new(),
                    extra: JsonFields::default(),
                    submitted_by: "operator".into(),
                    submitter_since: None,
                };
                scheduler.submit(id, submission, self.now);
            }
            Rules::Legacy(core) => core.submit(legacy::Task::new(&id, "work"), self.now),
        }
        self.flush();
    }

    pub fn command_restart(&mut self, force: bool) {
        self.note(&format!("command a restart, force {force}"));
        match &mut self.rules {
            Rules::Ours { scheduler, restarts, .. } => {
                let id = format!("c{}", restarts.len() + 1);
                let request =
                    RestartRequest { reason: "why".into(), deadline_ms: Some(3_000), force, by: "operator".into() };
                scheduler.command_restart(id, AGENT, request, self.now);
            }
            Rules::Legacy(core) => drop(core.restart(AGENT, "why")),
        }
        self.flush();
    }

    /// What has not come to its end yet.
    pub fn unfinished(&self) -> Vec<String> {
        let no_run = (self.boots.len() < self.await_boots).then(|| "no new run has come".to_owned());
        match &self.rules {
            Rules::Ours { scheduler, tasks, restarts } => {
                let tasks = tasks.values().filter(|task| !task.status.is_final());
                let open = restarts.values().filter(|restart| restart.phase.is_open());
                let away = (scheduler.connected_count() == 0).then(|| "the agent is not connected".to_owned());
                tasks
                    .map(|task| format!("{} is {} {:?}", task.id, task.status.name(), task.generation))
                    .chain(open.map(|restart| format!("{} is {}", restart.command_id, restart.phase.name())))
                    .chain(away)
                    .chain(no_run)
                    .collect()
            }
            Rules::Legacy(core) => {
                let open = |id: &&String| {
                    let status = core.tasks.get(id).map(|task| task.status);
                    !matches!(status, Some(legacy::Status::Completed | legacy::Status::DeadLetter))
                };
                let lost = core.registered(AGENT).is_none() || core.forgotten(AGENT).is_some();
                let away = lost.then(|| "the agent is not connected".to_owned());
                self.submitted.iter().filter(open).map(|id| format!("{id} is open")).chain(away).chain(no_run).collect()
            }
        }
    }

    pub fn written(&mut self, receipt: Option<String>) {
        if let (Rules::Ours { scheduler, .. }, Some(command_id)) = (&mut self.rules, receipt) {
            scheduler.delivered(&command_id, self.now);
            self.flush();
        }
    }

    /// A frame of the sidecar: judged, then given to the hub.
    pub fn frame_received(&mut self, conn: u64, text: &str) {
        self.frame(conn, "->", text);
        let frame = match SidecarFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return self.violations.push(format!("{error}: {text}")),
        };
        self.judge(conn, &frame);
        match &mut self.rules {
            Rules::Ours { scheduler, .. } => {
                if let SidecarFrame::Identify(identify) = &frame {
                    scheduler.identified(conn, identify, "", self.now);
                } else {
                    scheduler.frame_received(conn, frame, self.now);
                }
            }
            Rules::Legacy(core) => core.said(conn, text, self.now),
        }
        self.flush();
    }
}
