//! The hub's decisions, as pure code: events in, changes and frames out. No clock, no sockets and no storage: its one
//! caller, the actor, passes the time, stores the changes, and only then sends the frames.
//!
//! Two invariants:
//!
//! - An agent with an open restart command is fenced: it gets no task from the step on that records the command.
//! - After every event, no agent is idle while a task is queued that it could do.

mod absence;
pub mod agents;
pub mod amount;
pub mod arrival;
pub mod assignments;
mod clock_moves;
pub mod crowds;
pub mod drains;
mod frames;
pub mod healing;
pub mod idle_agents;
pub mod inventory;
mod legacy_agents;
pub mod lost_assignments;
mod owners;
pub mod policy;
pub mod queue;
pub mod restart;
pub mod restart_ledger;
pub mod restart_table;
pub mod retention;
pub mod rivals;
pub mod rollouts;
pub mod selector;
pub mod state_hash;
pub mod task;
pub mod task_table;
pub mod tasks;
#[cfg(test)]
pub(crate) mod tests;
pub mod verdicts;
pub mod view;
pub mod waiting;
mod waits;

use crate::hub::scheduler::agents::{Agent, Agents, ConnId};
use crate::hub::scheduler::assignments::{Away, Due, OVERDUE, STALE};
use crate::hub::scheduler::drains::Drains;
use crate::hub::scheduler::healing::Healing;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::idle_agents::IdleAgents;
use crate::hub::scheduler::inventory::Inventory;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::queue::Requirement;
use crate::hub::scheduler::restart::{Restart, RestartRequest, RunIdentity};
use crate::hub::scheduler::restart_ledger::{Commanded, Restarts};
use crate::hub::scheduler::rivals::Rivals;
use crate::hub::scheduler::rollouts::Rollouts;
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::Target;
use crate::hub::scheduler::task::{Status, Submission, Task};
use crate::hub::scheduler::tasks::Tasks;
use crate::protocol::HubFrame;

/// An order to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Write a frame.
    Frame {
        /// The connection to write to.
        conn: ConnId,
        /// The frame as JSON text.
        text: String,
        /// The id of the restart command in the frame, to be reported as written.
        receipt: Option<String>,
    },
    /// Close the socket.
    Close {
        /// The connection to close.
        conn: ConnId,
        /// The WebSocket close code.
        code: u16,
        /// The reason, as text for people.
        reason: String,
    },
}

/// The records that changed and are to be stored.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Tasks by id; `None` means deleted.
    pub tasks: Vec<(String, Option<&'a Task>)>,
    /// Restarts by command id; `None` means deleted.
    pub restarts: Vec<(String, Option<&'a Restart>)>,
    /// Rollouts by id; `None` means deleted.
    pub rollouts: Vec<(String, Option<&'a Rollout>)>,
    /// Targets of rollouts by their keys; `None` means deleted.
    pub targets: Vec<(String, Option<&'a Target>)>,
    /// What healing rules did, by its key; `None` means deleted.
    pub healing: Vec<(String, Option<&'a HealingRecord>)>,
    /// What is known of agents, by name; `None` means deleted.
    pub agents: Vec<(String, Option<&'a AgentRecord>)>,
    /// The time up to which the stored records of agents are complete, in ms since the epoch.
    pub moment: Option<u64>,
}

impl Changes<'_> {
    /// Returns whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        let Self { tasks, restarts, rollouts, targets, healing, agents, moment } = self;
        let has_no_rollouts = rollouts.is_empty() && targets.is_empty() && healing.is_empty();
        tasks.is_empty() && restarts.is_empty() && has_no_rollouts && agents.is_empty() && moment.is_none()
    }
}

/// The scheduler's state.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    pub(super) policy: Policy,
    pub(super) tasks: Tasks,
    pub(super) restarts: Restarts,
    pub(super) agents: Agents,
    pub(super) outgoing: Vec<Outgoing>,
    /// Agents whose state may have changed in this event.
    pub(super) touched: Vec<String>,
    pub(super) idle_agents: IdleAgents,
    pub(super) rivals: Rivals,
    pub(super) inventory: Inventory,
    pub(super) rollouts: Rollouts,
    /// Until when agents may be away because the hub has just started, in ms since the epoch.
    pub(super) agents_return_until: u64,
    pub(super) drains: Drains,
    pub(super) healing: Healing,
}

impl Scheduler {
    /// Restores the scheduler from what was stored, for a hub that starts: no agent is connected, and all are awaited.
    pub fn load(tasks: Vec<Task>, restarts: Vec<Restart>, policy: Policy, now_ms: u64) -> Self {
        let mut scheduler = Self::load_to_edit(tasks, restarts, policy, now_ms);
        // An agent that came back while the hub was down could not report it: it gets the time that every holder gets.
        scheduler.restarts.postpone_overdue(now_ms + policy.accept_timeout_ms.max(policy.takeover_wait_ms));
        let fenced: Vec<String> = scheduler.restarts.fenced().map(str::to_owned).collect();
        for agent_id in fenced {
            let away = Away { since: now_ms, until: None, planned: true };
            scheduler.tasks.assignments.holder_left(&agent_id, away);
        }
        scheduler
    }

    /// Restores the scheduler from what was stored, for a change that is made while no hub runs.
    pub fn load_to_edit(tasks: Vec<Task>, restarts: Vec<Restart>, policy: Policy, now_ms: u64) -> Self {
        Self {
            policy,
            tasks: Tasks::load(tasks, policy, now_ms),
            restarts: Restarts::load(restarts, policy),
            ..Self::default()
        }
    }

    /// Records that a restart frame was written to its socket.
    pub fn delivered(&mut self, command_id: &str, now_ms: u64) {
        self.restarts.delivered(command_id, now_ms);
    }

    /// Adds a new task.
    pub fn submit(&mut self, task_id: String, submission: Submission, now_ms: u64) {
        self.tasks.submit(task_id, submission, now_ms);
        self.dispatch(now_ms);
    }

    /// Cancels the task.
    ///
    /// # Errors
    /// Returns the name of the status that the task already ended in, or `not_found`.
    pub fn cancel(&mut self, task_id: &str, by: &str, now_ms: u64) -> Result<(), &'static str> {
        if let Some(holder) = self.tasks.cancel(task_id, by, now_ms)? {
            self.send_cancelled(&holder, task_id);
            self.touched.push(holder);
        }
        self.dispatch(now_ms);
        Ok(())
    }

    /// Queues a dead letter again, with all its tries.
    ///
    /// # Errors
    /// Returns the name of the task's status if it is no dead letter, or `not_found`.
    pub fn revive(&mut self, task_id: &str, now_ms: u64) -> Result<(), &'static str> {
        self.tasks.revive(task_id, now_ms)?;
        self.dispatch(now_ms);
        Ok(())
    }

    /// Commands a restart and fences the agent, in one step. Returns `None` if the agent is not connected and no
    /// command is open.
    pub fn command_restart(
        &mut self,
        command_id: String,
        agent_id: &str,
        request: RestartRequest,
        now_ms: u64,
    ) -> Option<Commanded> {
        let commanded = self.order_restart(command_id, agent_id, request, now_ms)?;
        self.dispatch(now_ms);
        Some(commanded)
    }

    /// Does what [`Self::command_restart`] does, and leaves what follows from it to the caller.
    fn order_restart(
        &mut self,
        command_id: String,
        agent_id: &str,
        request: RestartRequest,
        now_ms: u64,
    ) -> Option<Commanded> {
        let run = match self.agents.connected(agent_id) {
            Some((agent, _)) => agent.run.clone(),
            // A repeat; there is no connection to send it to.
            None => self.restarts.open_for(agent_id).map(|_| RunIdentity::default())?,
        };
        let commanded = self.restarts.command(command_id, agent_id, &run, request, now_ms);
        // A peer that does not know command ids would restart once more for every repeat.
        let knows_repeats = run.boot_id.is_some();
        if commanded.send && (knows_repeats || !commanded.repeated) {
            self.send_restart(&commanded.command_id);
        }
        self.touched.push(agent_id.to_owned());
        Some(commanded)
    }

    /// Does everything that is due by now.
    pub fn tick(&mut self, now_ms: u64) {
        for agent_id in self.restarts.expire(now_ms) {
            self.tasks.assignments.restart_overdue(&agent_id);
            self.touched.push(agent_id);
        }
        for due in self.tasks.due(now_ms) {
            match due {
                Due::Reclaim { agent_id, why: STALE } if self.ask_legacy_agent(&agent_id, now_ms) => {}
                Due::Reclaim { agent_id, why } => self.reclaim_from_holder(&agent_id, why, now_ms),
                Due::Expired { agent_id, planned } => {
                    self.holder_lost(&agent_id, planned, now_ms);
                    self.touched.push(agent_id);
                }
                Due::Resend { agent_id } => self.send_assignment(&agent_id),
            }
        }
        self.tick_drains(now_ms);
        let again = self.agents.available_again(now_ms);
        self.touched.extend(again);
        self.heal(now_ms);
        self.dispatch(now_ms);
    }

    /// Reclaims the task of a connected agent for a reason that is not the agent's doing, and tells the agent.
    pub(super) fn reclaim_from_holder(&mut self, agent_id: &str, why: &'static str, now_ms: u64) {
        let Some(task) = self.tasks.task_of(agent_id) else { return };
        let (task_id, generation) = (task.id.clone(), task.generation);
        self.send_reclaimed(agent_id, &task_id, generation);
        match why {
            STALE => self.tasks.record_loss(agent_id, why, None, now_ms),
            _ => drop(self.tasks.reclaim(agent_id, why, now_ms)),
        }
        if why == OVERDUE && self.agents.parks_work(agent_id) {
            // The agent does its work. Others get the task first; it takes it up again if there are none.
            self.dispatch(now_ms);
        } else {
            // An agent that left a task lying is not the first to get it again.
            self.agents.set_unavailable(agent_id, now_ms + self.policy.reject_retry_ms);
        }
        self.touched.push(agent_id.to_owned());
    }

    /// Returns when `tick` will next have something to do, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        let Self { restarts, tasks, agents, rollouts, drains, healing, .. } = self;
        let of_fleet = [rollouts.deadline(), drains.deadline(), healing.deadline()];
        let due = [restarts.deadline(), tasks.deadline(), agents.deadline()].into_iter().chain(of_fleet);
        due.flatten().min()
    }

    /// Returns the changes that must be stored before any frame is sent.
    pub fn take_changes(&mut self) -> Changes<'_> {
        let task_ids = self.tasks.take_dirty();
        let command_ids = self.restarts.take_dirty();
        let (agent_ids, moment) = (self.inventory.take_dirty(), self.inventory.take_moment());
        let changed = self.rollouts.take_dirty();
        let pairs = self.healing.take_dirty();
        let Self { tasks, restarts, inventory, rollouts, healing, .. } = self;
        Changes {
            tasks: task_ids.into_iter().map(|id| (id.clone(), tasks.get(&id))).collect(),
            restarts: command_ids.into_iter().map(|id| (id.clone(), restarts.get(&id))).collect(),
            rollouts: changed.rollouts.into_iter().map(|id| (id.as_ref().to_owned(), rollouts.get(&id))).collect(),
            targets: changed
                .targets
                .into_iter()
                .map(|(id, number)| (Target::key(&id, number), rollouts.target(&id, number)))
                .collect(),
            healing: pairs.iter().map(|pair| (HealingRecord::key(&pair.0, &pair.1), healing.record(pair))).collect(),
            agents: agent_ids.into_iter().map(|id| (id.as_ref().to_owned(), inventory.get(&id))).collect(),
            moment,
        }
    }

    /// Returns the frames to send, in order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// Returns all tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Returns all commanded restarts.
    pub fn restarts(&self) -> &Restarts {
        &self.restarts
    }

    /// Returns whether the agent is connected.
    pub fn is_connected(&self, agent_id: &str) -> bool {
        self.agents.connected(agent_id).is_some()
    }

    /// Returns the number of connected agents.
    pub fn connected_count(&self) -> usize {
        self.agents.connected_count()
    }

    /// Sends a frame to the agent, if it is connected.
    pub(super) fn send(&mut self, agent_id: &str, frame: &HubFrame) {
        self.send_text(agent_id, frame.to_text(), None);
    }

    pub(super) fn send_text(&mut self, agent_id: &str, text: String, receipt: Option<String>) {
        if let Some((_, conn)) = self.agents.connected(agent_id) {
            self.outgoing.push(Outgoing::Frame { conn, text, receipt });
        }
    }

    fn send_restart(&mut self, command_id: &str) {
        let Some(restart) = self.restarts.get(command_id) else { return };
        let agent_id = restart.agent_id.clone();
        let v2 = self.agents.get(&agent_id).is_some_and(|agent| agent.is_v2());
        let frame = HubFrame::RestartSidecar(restart.frame(v2));
        self.send_text(&agent_id, frame.to_text(), Some(command_id.to_owned()));
    }

    /// Tells the agent that it does not hold the task any more under any generation up to this one. Required wherever a
    /// task is reclaimed from its holder. An agent that can keeps its work, in case the task comes back to it.
    pub(super) fn send_reclaimed(&mut self, agent_id: &str, task_id: &str, generation: u64) {
        if self.agents.parks_work(agent_id) {
            let (task_id, generation) = (task_id.to_owned(), Some(generation));
            self.send(agent_id, &HubFrame::TaskReassign { task_id, generation });
        } else {
            self.send_cancelled(agent_id, task_id);
        }
    }

    /// Tells the agent to forget the task.
    pub(super) fn send_cancelled(&mut self, agent_id: &str, task_id: &str) {
        self.send(agent_id, &HubFrame::TaskCancelled { task_id: task_id.to_owned() });
    }

    pub(super) fn send_assignment(&mut self, agent_id: &str) {
        if let Some(assignment) = self.tasks.task_of(agent_id).map(Task::assignment) {
            self.send(agent_id, &HubFrame::TaskAssign(assignment));
        }
    }

    /// Tells agents that may have kept work on a task that it has ended.
    fn send_ended(&mut self) {
        for (agent_id, task_id) in self.tasks.take_ended() {
            if self.agents.parks_work(&agent_id) {
                self.send_cancelled(&agent_id, &task_id);
            }
        }
    }

    /// Restores the idle invariant, and lets the rollouts act on what was touched.
    pub(super) fn dispatch(&mut self, now_ms: u64) {
        self.dispatch_tasks(now_ms);
        while self.step_rollouts(now_ms) {
            self.dispatch_tasks(now_ms);
        }
    }

    /// Restores the idle invariant: an agent that became free takes the first task that it can do, then new tasks go
    /// to idle agents.
    fn dispatch_tasks(&mut self, now_ms: u64) {
        self.send_ended();
        for agent_id in std::mem::take(&mut self.touched) {
            self.rollouts.touch(&agent_id);
            self.note_state(&agent_id, now_ms);
            self.note_drained(&agent_id, now_ms);
            if !self.is_free(&agent_id) {
                self.idle_agents.leave(&agent_id);
                self.forget_if_gone(&agent_id);
                continue;
            }
            let first =
                self.agents.get(&agent_id).and_then(|agent| self.tasks.first_for(&agent_id, &agent.capability_names));
            match first {
                Some(task_id) => self.assign(&task_id, &agent_id, now_ms),
                None => {
                    if let Some(agent) = self.agents.get(&agent_id) {
                        self.idle_agents.join(&agent_id, &agent.capability_names);
                    }
                }
            }
        }
        for task_id in self.tasks.take_queued() {
            let Some(task) = self.tasks.get(&task_id).filter(|task| task.status == Status::Queued) else { continue };
            let idle = match Requirement::of(&task.submission) {
                Requirement::Agent(wanted) => self.idle_agents.contains(&wanted).then_some(wanted),
                Requirement::Capabilities(needed) => self.idle_agents.first_with(&needed).map(str::to_owned),
            };
            let Some(agent_id) = idle else { continue };
            self.assign(&task_id, &agent_id, now_ms);
        }
    }

    /// Forgets an agent that is not connected and that neither a task nor a restart waits for.
    fn forget_if_gone(&mut self, agent_id: &str) {
        let awaited = self.tasks.task_of(agent_id).is_some() || self.restarts.open_for(agent_id).is_some();
        if self.agents.connected(agent_id).is_none() && !awaited {
            self.agents.remove(agent_id);
        }
    }

    fn is_free(&self, agent_id: &str) -> bool {
        let willing =
            |(agent, _): (&Agent, _)| !agent.leaving && !agent.takes_no_task() && agent.unavailable_until.is_none();
        self.agents.connected(agent_id).is_some_and(willing)
            && self.restarts.open_for(agent_id).is_none()
            && self.tasks.task_of(agent_id).is_none()
    }

    fn assign(&mut self, task_id: &str, agent_id: &str, now_ms: u64) {
        self.idle_agents.leave(agent_id);
        let Some(run) = self.agents.get(agent_id).map(|agent| agent.run.clone()) else { return };
        if self.tasks.assign(task_id, agent_id, &run, now_ms) {
            self.send_assignment(agent_id);
            self.note_state(agent_id, now_ms);
        }
    }
}
