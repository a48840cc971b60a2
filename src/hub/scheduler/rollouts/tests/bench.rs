//! A scheduler with a store that keeps what it was told to keep, agents that come and go, and a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hub::scheduler::inventory::Flush;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::{Restart, RestartPhase, RestartRequest};
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::refused::StartRefused;
use crate::hub::scheduler::rollouts::rollout::{Rollout, RolloutState};
use crate::hub::scheduler::rollouts::start::RolloutRequest;
use crate::hub::scheduler::rollouts::target::{Target, TargetState};
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::protocol::{Identify, RestartAck, RestartAckOutcome, SidecarFrame};

/// The version of the agents.
pub(super) const VERSION: &str = "1.0.0";

/// What a crash of the hub leaves.
#[derive(Default)]
pub(super) struct Disk {
    restarts: BTreeMap<String, Vec<u8>>,
    pub(super) rollouts: BTreeMap<String, Vec<u8>>,
    pub(super) targets: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<String, Vec<u8>>,
    moment: u64,
}

fn write<T: Serialize>(table: &mut BTreeMap<String, Vec<u8>>, changes: Vec<(String, Option<&T>)>) {
    for (key, record) in changes {
        match record {
            Some(record) => table.insert(key, serde_json::to_vec(record).unwrap()),
            None => table.remove(&key),
        };
    }
}

fn read<T: DeserializeOwned>(table: &BTreeMap<String, Vec<u8>>) -> Vec<T> {
    table.values().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
}

/// What one commit held of the rollout `r`, for those who watch it.
pub(super) struct Step {
    /// The rollout then.
    pub(super) rollout: Rollout,
    /// Its new commands, by agent.
    pub(super) new: Vec<(String, String)>,
    /// The number of targets that were unavailable.
    pub(super) unavailable: usize,
}

/// The bench.
pub(super) struct Bench {
    /// What was committed, if anybody watches.
    pub(super) steps: Option<Vec<Step>>,
    pub(super) scheduler: Scheduler,
    pub(super) now: u64,
    pub(super) disk: Disk,
    /// The connection of each agent, and the number of its run.
    pub(super) agents: BTreeMap<String, (Option<u64>, u32)>,
    next_conn: u64,
    /// The restarts that were sent and not read by the test.
    sent: Vec<(String, String)>,
}

impl Bench {
    /// A hub with these agents, all of them connected.
    pub(super) fn with(agents: &[&str]) -> Self {
        let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 0);
        let (disk, agents_here, sent) = (Disk::default(), BTreeMap::new(), Vec::new());
        let mut bench = Self { scheduler, now: 1_000, disk, agents: agents_here, next_conn: 0, sent, steps: None };
        agents.iter().for_each(|agent_id| bench.join(agent_id));
        bench
    }

    /// The agent connects, in the run that it has.
    pub(super) fn join(&mut self, agent_id: &str) {
        self.join_as(agent_id, Identify { version: Some(VERSION.into()), ..Identify::default() });
    }

    /// The same, with what else it says of itself.
    pub(super) fn join_as(&mut self, agent_id: &str, identify: Identify) {
        self.next_conn += 1;
        let entry = self.agents.entry(agent_id.to_owned()).or_default();
        entry.0 = Some(self.next_conn);
        let boot_id = identify.boot_id.or_else(|| Some(format!("{agent_id}-boot-{}", entry.1)));
        let boot_id = boot_id.filter(|boot_id| !boot_id.is_empty());
        let identify = Identify { agent_id: agent_id.into(), boot_id, ..identify };
        self.scheduler.identified(self.next_conn, &identify, "10.0.0.1:1", self.now);
        self.store();
    }

    /// The agent's connection breaks.
    pub(super) fn leave(&mut self, agent_id: &str) {
        if let Some(conn) = self.agents.get_mut(agent_id).and_then(|agent| agent.0.take()) {
            self.scheduler.disconnected(conn, self.now);
            self.store();
        }
    }

    /// The agent's process ends, and the next one connects.
    pub(super) fn restarts(&mut self, agent_id: &str) {
        self.leave(agent_id);
        self.agents.entry(agent_id.to_owned()).or_default().1 += 1;
        self.join(agent_id);
    }

    pub(super) fn says(&mut self, agent_id: &str, frame: SidecarFrame) {
        if let Some(conn) = self.agents.get(agent_id).and_then(|agent| agent.0) {
            self.scheduler.frame_received(conn, frame, self.now);
            self.store();
        }
    }

    /// The agent refuses the command that it is on.
    pub(super) fn refuses(&mut self, agent_id: &str, detail: &str, retry_after_ms: Option<u64>) {
        let Some(open) = self.scheduler.restarts().open_for(agent_id) else { return };
        let (command_id, outcome) = (open.command_id.clone(), RestartAckOutcome::Refused);
        let ack = RestartAck { command_id, outcome, detail: Some(detail.into()), deadline_ms: None, retry_after_ms };
        self.says(agent_id, SidecarFrame::RestartAck(ack));
    }

    /// Somebody restarts the agent by hand.
    pub(super) fn by_hand(&mut self, agent_id: &str) {
        let request = RestartRequest { reason: "by hand".into(), deadline_ms: None, force: false, by: "ops".into() };
        self.next_conn += 1;
        self.scheduler.command_restart(format!("hand-{}", self.next_conn), agent_id, request, self.now);
        self.store();
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.tick_at(self.now + ms);
    }

    /// The clock is set by so many ms, as far back as it goes.
    pub(super) fn clock_is_set(&mut self, ms: i64) {
        let ms = ms.max(-self.now.cast_signed());
        self.now = self.now.saturating_add_signed(ms);
        self.scheduler.clock_moved(ms, self.now);
        self.store();
    }

    pub(super) fn tick_at(&mut self, now: u64) {
        self.now = now;
        self.scheduler.tick(now);
        self.store();
    }

    /// Everything is stored, and what is sent is read.
    pub(super) fn store(&mut self) {
        self.scheduler.flush_inventory(Flush::Last, self.now);
        self.commit();
    }

    /// What has to be stored before anything is sent is stored.
    pub(super) fn commit(&mut self) {
        let changes = self.scheduler.take_changes();
        let is_new = |restart: &&Restart| {
            !self.disk.restarts.contains_key(&restart.command_id) && restart.command_id.starts_with("r-")
        };
        let new: Vec<&Restart> = changes.restarts.iter().filter_map(|(_, restart)| *restart).filter(is_new).collect();
        let new = new.into_iter().map(|restart| (restart.agent_id.clone(), restart.command_id.clone())).collect();
        write(&mut self.disk.restarts, changes.restarts);
        write(&mut self.disk.rollouts, changes.rollouts);
        write(&mut self.disk.targets, changes.targets);
        write(&mut self.disk.agents, changes.agents);
        self.disk.moment = changes.moment.unwrap_or(self.disk.moment);
        self.watch(new);
        for outgoing in self.scheduler.take_outgoing() {
            let Outgoing::Frame { text, receipt: Some(command_id), .. } = outgoing else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(frame["type"], "restart_sidecar");
            let agent_id = self.scheduler.restarts().get(&command_id).unwrap().agent_id.clone();
            self.sent.push((command_id, agent_id));
        }
    }

    fn watch(&mut self, new: Vec<(String, String)>) {
        let unavailable = self.steps.as_ref().map(|_| self.unavailable());
        if let Some((steps, unavailable)) = self.steps.as_mut().zip(unavailable) {
            let rollout = self.scheduler.rollouts().get("r").unwrap().clone();
            steps.push(Step { rollout, new, unavailable });
        }
    }

    /// The number of targets that are unavailable, counted anew from the facts.
    fn unavailable(&self) -> usize {
        let scheduler = &self.scheduler;
        let is_unavailable = |target: &&Arc<Target>| {
            let was_commanded = target.command_id.is_some() && target.state != TargetState::Cancelled;
            let away_since_command = was_commanded && !scheduler.is_connected(&target.agent_id);
            let is_on_it = matches!(target.state, TargetState::Restarting | TargetState::Soaking { .. });
            let by_anybody = scheduler.restarts().open_for(&target.agent_id).is_some();
            scheduler.inventory().get(&target.agent_id).is_some() && (by_anybody || is_on_it || away_since_command)
        };
        self.rollout().targets.values().filter(is_unavailable).count()
    }

    /// The hub is killed, and starts again from what was stored. All agents are away then.
    pub(super) fn crash(&mut self) {
        self.scheduler = self.reloaded();
        self.sent.clear();
        self.agents.values_mut().for_each(|agent| agent.0 = None);
    }

    /// A hub as it starts from what was stored.
    pub(super) fn reloaded(&self) -> Scheduler {
        let records: Vec<AgentRecord> = read(&self.disk.agents);
        let restarts: Vec<Restart> = read(&self.disk.restarts);
        let (rollouts, targets): (Vec<Rollout>, Vec<Target>) = (read(&self.disk.rollouts), read(&self.disk.targets));
        Scheduler::load(Vec::new(), restarts, Policy::default(), self.now)
            .with_agents(records, self.disk.moment)
            .with_rollouts(rollouts, targets, Some(self.now))
    }

    /// Starts a rollout `r` over these agents.
    pub(super) fn start(&mut self, plan: Plan, agents: &[&str]) {
        self.try_start("r", plan, agents).unwrap();
    }

    /// The same, watching each step from the first one on.
    pub(super) fn start_watched(&mut self, plan: Plan, agents: &[&str]) {
        let owned: Vec<String> = agents.iter().map(|agent_id| (*agent_id).to_owned()).collect();
        self.scheduler.start_rollout("r", request(plan), &owned, self.now).unwrap();
        self.steps = Some(Vec::new());
        self.store();
    }

    pub(super) fn try_start(&mut self, id: &str, plan: Plan, agents: &[&str]) -> Result<(), StartRefused> {
        let agents: Vec<String> = agents.iter().map(|agent_id| (*agent_id).to_owned()).collect();
        let started = self.scheduler.start_rollout(id, request(plan), &agents, self.now).map(drop);
        self.store();
        started
    }

    /// The agents that were commanded since the last look, in this order.
    pub(super) fn commanded(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, agent_id)| agent_id).collect()
    }

    /// Does what operators do, and stores it.
    pub(super) fn operate<T>(&mut self, work: impl FnOnce(&mut Scheduler, u64) -> T) -> T {
        let answer = work(&mut self.scheduler, self.now);
        self.store();
        answer
    }

    pub(super) fn rollout(&self) -> &Rollout {
        self.scheduler.rollouts().get("r").unwrap()
    }

    pub(super) fn state(&self) -> RolloutState {
        self.rollout().state
    }

    /// The state of the agent's target, as `phase` or `phase(why)`.
    pub(super) fn target(&self, agent_id: &str) -> String {
        let target = self.rollout().targets.values().find(|target| *target.agent_id == *agent_id).unwrap();
        let phase: &'static str = target.state.phase().into();
        target.state.why().map_or_else(|| phase.to_owned(), |why| format!("{phase}({why})"))
    }

    /// The states of all targets, in their order.
    pub(super) fn targets(&self) -> Vec<String> {
        self.rollout().targets.values().map(|target| self.target(&target.agent_id)).collect()
    }

    pub(super) fn phase(&self, command_id: &str) -> RestartPhase {
        self.scheduler.restarts().get(command_id).unwrap().phase
    }
}

/// What somebody asks for.
pub(super) fn request(plan: Plan) -> RolloutRequest {
    RolloutRequest { reason: "update".into(), by: "ops".into(), selector: "all".into(), plan }
}
