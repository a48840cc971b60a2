//! What holds for the scheduler after every event, whatever the events: random agents, tasks, restarts, drops, jumps of time
//! and crashes of the hub, against a store that keeps only what the scheduler said was to be stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::hub::scheduler::drains::DrainRequest;
use crate::hub::scheduler::inventory::Flush;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::task::Priority;
use crate::hub::scheduler::*;
use crate::protocol::{
    FEATURE_TASK_REASSIGN, Identify, JsonFields, JsonText, RestartAck, RestartAckOutcome, Restarting, SidecarFrame,
};

mod clocks;

const AGENTS: u8 = 3;

/// The kind of peer.
#[derive(Debug, Clone, Copy)]
enum Speaks {
    /// Hears whenever a task is reclaimed, and keeps its work.
    Today,
    /// Version 0.1.0.
    V2,
    Original,
    /// Names neither its run nor itself.
    Plain,
}

impl Speaks {
    fn identify(self, agent: u8, run: u32) -> Identify {
        let (boot_id, client_type) = match self {
            Self::Today | Self::V2 => (Some(format!("boot-{run}")), None),
            Self::Original => (None, Some("sidecar".to_owned())),
            Self::Plain => (None, None),
        };
        let features = match self {
            Self::Today => vec![FEATURE_TASK_REASSIGN.to_owned()],
            Self::V2 | Self::Original | Self::Plain => Vec::new(),
        };
        Identify { agent_id: name(agent), boot_id, client_type, features, ..Identify::default() }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Join {
        agent: u8,
        speaks: Speaks,
        new_run: bool,
    },
    /// A connection is opened, and nothing said on it yet.
    Open {
        agent: u8,
    },
    /// What was said on it is read.
    JoinLate {
        agent: u8,
        speaks: Speaks,
    },
    Drop {
        agent: u8,
    },
    Submit {
        gpu: bool,
        urgent: bool,
    },
    Command {
        agent: u8,
        force: bool,
    },
    /// The hub drains the agent for so long, with this deadline.
    Drain {
        agent: u8,
        until: Option<u16>,
        deadline: Option<u16>,
    },
    Resume {
        agent: u8,
    },
    Written,
    Ack {
        agent: u8,
        outcome: u8,
    },
    Goodbye {
        agent: u8,
    },
    Accept {
        agent: u8,
    },
    Complete {
        agent: u8,
        off_by: u8,
    },
    Fail {
        agent: u8,
    },
    Reject {
        agent: u8,
        invalid: bool,
    },
    Recover {
        agent: u8,
        status: u8,
        nth: Option<u8>,
    },
    Report {
        agent: u8,
        off_by: u8,
        nth: Option<u8>,
    },
    Progress {
        agent: u8,
        nth: Option<u8>,
    },
    Cancel {
        nth: u8,
    },
    Revive {
        nth: u8,
    },
    /// The last token of the name is revoked, and a new owner may get the first of its own at once.
    OwnerLeaves {
        agent: u8,
        next: bool,
    },
    Wait {
        ms: u32,
    },
    Tick,
    HubCrash,
}

fn op() -> impl Strategy<Value = Op> {
    let agent = 0..AGENTS;
    let speaks = prop_oneof![3 => Just(Speaks::Today), 1 => Just(Speaks::V2), 1 => Just(Speaks::Original), 1 => Just(Speaks::Plain)];
    let nth = prop_oneof![2 => Just(None), 1 => any::<u8>().prop_map(Some)];
    prop_oneof![
        4 => (agent.clone(), speaks.clone(), any::<bool>()).prop_map(|(agent, speaks, new_run)| Op::Join { agent, speaks, new_run }),
        1 => agent.clone().prop_map(|agent| Op::Open { agent }),
        1 => (agent.clone(), speaks).prop_map(|(agent, speaks)| Op::JoinLate { agent, speaks }),
        2 => agent.clone().prop_map(|agent| Op::Drop { agent }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(gpu, urgent)| Op::Submit { gpu, urgent }),
        3 => (agent.clone(), any::<bool>()).prop_map(|(agent, force)| Op::Command { agent, force }),
        2 => (agent.clone(), any::<Option<u16>>(), any::<Option<u16>>()).prop_map(|(agent, until, deadline)| Op::Drain { agent, until, deadline }),
        1 => agent.clone().prop_map(|agent| Op::Resume { agent }),
        1 => Just(Op::Written),
        2 => (agent.clone(), 0..3u8).prop_map(|(agent, outcome)| Op::Ack { agent, outcome }),
        2 => agent.clone().prop_map(|agent| Op::Goodbye { agent }),
        3 => agent.clone().prop_map(|agent| Op::Accept { agent }),
        3 => (agent.clone(), 0..2u8).prop_map(|(agent, off_by)| Op::Complete { agent, off_by }),
        1 => agent.clone().prop_map(|agent| Op::Fail { agent }),
        2 => (agent.clone(), any::<bool>()).prop_map(|(agent, invalid)| Op::Reject { agent, invalid }),
        2 => (agent.clone(), 0..4u8, nth.clone()).prop_map(|(agent, status, nth)| Op::Recover { agent, status, nth }),
        2 => (agent.clone(), 0..3u8, nth.clone()).prop_map(|(agent, off_by, nth)| Op::Report { agent, off_by, nth }),
        2 => (agent.clone(), nth).prop_map(|(agent, nth)| Op::Progress { agent, nth }),
        1 => (agent, any::<bool>()).prop_map(|(agent, next)| Op::OwnerLeaves { agent, next }),
        1 => any::<u8>().prop_map(|nth| Op::Cancel { nth }),
        1 => any::<u8>().prop_map(|nth| Op::Revive { nth }),
        2 => (0..200_000u32).prop_map(|ms| Op::Wait { ms }),
        2 => Just(Op::Tick),
        1 => Just(Op::HubCrash),
    ]
}

/// The scheduler, the world around it, and the store as a crash would find it.
struct World {
    scheduler: Scheduler,
    now: u64,
    tasks: BTreeMap<String, Task>,
    restarts: BTreeMap<String, Restart>,
    /// What is known of agents, and the time up to which that is complete.
    records: BTreeMap<String, AgentRecord>,
    moment: u64,
    /// Each agent's run that was heard last, and how often that has changed: at least, and at most.
    heard: HashMap<u8, (Option<String>, u64, u64)>,
    conns: HashMap<u8, ConnId>,
    /// Opened, with the run that did, and not heard on yet.
    opened: HashMap<u8, (ConnId, u32)>,
    /// The newest connection that each agent was heard on, for as long as the hub runs.
    newest: HashMap<u8, ConnId>,
    agent_of: HashMap<ConnId, String>,
    runs: HashMap<u8, u32>,
    next: u64,
    submitted: Vec<String>,
    generations: HashMap<String, u64>,
    unread: Vec<String>,
    completed: HashSet<String>,
    /// The agents that are drained from the hub, each with the time at which that ends.
    drained: HashMap<String, Option<u64>>,
    /// What each agent has in hand by the frames of its present connection.
    in_hand: HashMap<String, String>,
    /// The work of the agents of this version, which outlives connections and runs.
    work: HashMap<String, Work>,
    /// The clock was set: of two dates, the later one is not the larger one.
    dates_tell_nothing: bool,
}

/// A task that an agent works on.
#[derive(Debug, Clone)]
struct Work {
    task_id: String,
    generation: u64,
    /// When the agent's connection closed, while it is away.
    left_at: Option<u64>,
    /// The agent was away for longer than the grace: the hub owes it nothing.
    forfeited: bool,
}

fn name(agent: u8) -> String {
    format!("agent-{agent}")
}

impl World {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 0),
            now: 0,
            tasks: BTreeMap::new(),
            restarts: BTreeMap::new(),
            records: BTreeMap::new(),
            moment: 0,
            heard: HashMap::new(),
            conns: HashMap::new(),
            opened: HashMap::new(),
            newest: HashMap::new(),
            agent_of: HashMap::new(),
            runs: HashMap::new(),
            next: 0,
            submitted: Vec::new(),
            generations: HashMap::new(),
            unread: Vec::new(),
            completed: HashSet::new(),
            drained: HashMap::new(),
            in_hand: HashMap::new(),
            work: HashMap::new(),
            dates_tell_nothing: false,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn apply(&mut self, op: &Op) {
        self.now += 1;
        match *op {
            Op::Join { agent, speaks, new_run } => self.join(agent, speaks, new_run),
            Op::Open { agent } => {
                let (conn, run) = (self.fresh(), self.runs.get(&agent).copied().unwrap_or_default());
                self.opened.entry(agent).or_insert((conn, run));
            }
            Op::JoinLate { agent, speaks } => self.join_late(agent, speaks),
            Op::Drop { agent } => {
                if let Some(conn) = self.conns.remove(&agent) {
                    self.scheduler.disconnected(conn, self.now);
                    self.in_hand.remove(&name(agent));
                    self.leaves(&name(agent));
                }
            }
            Op::Submit { gpu, urgent } => self.submit(gpu, urgent),
            Op::Command { agent, force } => {
                let request = RestartRequest { reason: "r".into(), deadline_ms: None, force, by: "ops".into() };
                let id = format!("c{}", self.fresh());
                self.scheduler.command_restart(id, &name(agent), request, self.now);
            }
            Op::Drain { agent, until, deadline } => self.drain(agent, until, deadline),
            Op::Resume { agent } => {
                self.scheduler.resume(&name(agent), self.now);
                self.drained.remove(&name(agent));
            }
            Op::Written => {
                for id in std::mem::take(&mut self.unread) {
                    self.scheduler.delivered(&id, self.now);
                }
            }
            Op::Ack { agent, outcome } => {
                let open = self.scheduler.restarts.open_for(&name(agent)).map(|open| open.command_id.clone());
                let outcomes = [RestartAckOutcome::Accepted, RestartAckOutcome::Duplicate, RestartAckOutcome::Refused];
                let outcome = outcomes[usize::from(outcome)];
                let command_id = open.unwrap_or_else(|| "none".into());
                self.hear(
                    agent,
                    SidecarFrame::RestartAck(RestartAck {
                        command_id,
                        outcome,
                        detail: None,
                        deadline_ms: None,
                        retry_after_ms: None,
                    }),
                );
            }
            Op::Goodbye { agent } => self.hear(agent, SidecarFrame::AgentRestarting(Restarting::default())),
            Op::Accept { agent } => {
                let (task_id, _) = self.held(agent);
                self.hear(agent, SidecarFrame::TaskAccepted { task_id, generation: None });
            }
            Op::Complete { agent, off_by } => {
                let (task_id, generation) = self.held(agent);
                let generation = generation.saturating_sub(off_by.into());
                let frame = json!({"type": "task_complete", "task_id": task_id, "generation": generation});
                self.hear(agent, SidecarFrame::parse(&frame.to_string()).unwrap());
            }
            Op::Fail { agent } => {
                let (task_id, generation) = self.held(agent);
                self.hear(agent, SidecarFrame::TaskFailed { task_id, generation, reason: None, error: None });
            }
            Op::Reject { agent, invalid } => {
                let (task_id, generation) = self.held(agent);
                let reason = if invalid { "invalid" } else { "busy" }.to_owned();
                self.in_hand.remove(&name(agent));
                self.work.retain(|agent_id, work| *agent_id != name(agent) || work.task_id != task_id);
                self.hear(agent, SidecarFrame::TaskRejected { task_id, generation: Some(generation), reason });
            }
            Op::Recover { agent, status, nth } => {
                let (task_id, _) = self.named(agent, nth);
                let status = ["accepted", "waking", "working", "failed"][usize::from(status)];
                let last_status = Some(status.to_owned());
                self.hear(agent, SidecarFrame::TaskRecovering { task_id, last_status, rest: JsonFields::default() });
            }
            Op::Report { agent, off_by, nth } => {
                let (task_id, generation) = self.named(agent, nth);
                let generation = Some(generation.saturating_sub(off_by.into()));
                self.hear(agent, SidecarFrame::StateReport { task_id, status: None, generation, assigned_at: None });
            }
            Op::Progress { agent, nth } => {
                let (task_id, _) = self.named(agent, nth);
                self.hear(agent, SidecarFrame::TaskProgress { task_id, progress: None, execution_event: None });
            }
            Op::Cancel { nth } => {
                if let Some(id) = self.nth_task(nth) {
                    let _ = self.scheduler.cancel(&id, "ops", self.now);
                }
            }
            Op::Revive { nth } => {
                if let Some(id) = self.nth_task(nth) {
                    let _ = self.scheduler.revive(&id, self.now);
                }
            }
            Op::OwnerLeaves { agent, next } => self.owner_leaves(agent, next),
            Op::Wait { ms } => self.now += u64::from(ms),
            Op::Tick => self.tick(),
            Op::HubCrash => {
                let (tasks, restarts) = (self.tasks.values().cloned(), self.restarts.values().cloned());
                let records = self.records.values().cloned().collect();
                self.scheduler = Scheduler::load(tasks.collect(), restarts.collect(), Policy::default(), self.now)
                    .with_agents(records, self.moment);
                for agent in std::mem::take(&mut self.conns).into_keys() {
                    self.leaves(&name(agent));
                }
                self.in_hand.clear();
                self.opened.clear();
                self.newest.clear();
                self.unread.clear();
            }
        }
    }

    /// Drains the agent if it is known: what it holds stays with it.
    fn drain(&mut self, agent: u8, until: Option<u16>, deadline: Option<u16>) {
        let from_now = |ms: Option<u16>| ms.map(|ms| self.now + u64::from(ms) + 1);
        let (until, deadline) = (from_now(until), from_now(deadline));
        let request = DrainRequest { by: "ops".into(), reason: None, until, deadline };
        let held = self.held(agent);
        let drained = self.scheduler.drain(&name(agent), request, self.now);
        assert_eq!(self.held(agent), held, "{} lost its task by being drained", name(agent));
        assert_eq!(drained.is_some(), self.heard.contains_key(&agent));
        if drained.is_some() {
            self.drained.insert(name(agent), until);
        }
    }

    fn join(&mut self, agent: u8, speaks: Speaks, new_run: bool) {
        let run = self.runs.entry(agent).or_default();
        *run += u32::from(new_run);
        let run = *run;
        let conn = self.fresh();
        self.joined(agent, speaks, conn, run);
    }

    /// A connection that was opened before others is heard after them: where one of them is the agent's, nothing changes.
    fn join_late(&mut self, agent: u8, speaks: Speaks) {
        let Some((conn, run)) = self.opened.remove(&agent) else { return };
        if self.newest.get(&agent).is_none_or(|newest| *newest < conn) {
            return self.joined(agent, speaks, conn, run);
        }
        let before = self.print();
        self.scheduler.identified(conn, &speaks.identify(agent, run), "10.0.0.1:1", self.now);
        assert_eq!(self.print(), before, "a connection that was heard late changed something");
        let outgoing: Vec<Outgoing> = self.scheduler.take_outgoing();
        assert!(
            matches!(outgoing[..], [Outgoing::Close { conn: closed, code: 4001, .. }] if closed == conn),
            "{outgoing:?}"
        );
    }

    fn print(&self) -> u64 {
        use std::hash::Hasher as _;
        let mut hasher = std::hash::DefaultHasher::new();
        self.scheduler.state_hash(self.now, |conn| usize::try_from(conn).unwrap(), &mut hasher);
        hasher.finish()
    }

    fn joined(&mut self, agent: u8, speaks: Speaks, conn: ConnId, run: u32) {
        self.newest.insert(agent, conn);
        self.conns.insert(agent, conn);
        self.agent_of.insert(conn, name(agent));
        self.in_hand.remove(&name(agent));
        self.returns(&name(agent), speaks);
        // The first agent can do more than the others.
        let capabilities = if agent == 0 { vec![JsonText::of("gpu")] } else { Vec::new() };
        let identify = Identify { capabilities, ..speaks.identify(agent, run) };
        let displaces = self.scheduler.is_connected(&name(agent));
        self.scheduler.identified(conn, &identify, "10.0.0.1:1", self.now);
        if self.scheduler.agents.connected(&name(agent)).is_some_and(|(_, current)| current == conn) {
            self.count_restart(agent, identify.boot_id, displaces);
        }
    }

    /// A run in the place of one whose connection has closed is a restart. In the place of one that is still connected it
    /// may be a copy.
    fn count_restart(&mut self, agent: u8, boot_id: Option<String>, displaces: bool) {
        let Some((before, least, most)) = self.heard.get_mut(&agent) else {
            self.heard.insert(agent, (boot_id, 0, 0));
            return;
        };
        // Those that do not name their runs here cannot be told apart, but for what they announce.
        let is_other = *before != boot_id;
        *least += u64::from(is_other && !displaces);
        *most += u64::from(is_other || boot_id.is_none());
        *before = boot_id;
    }

    /// What is left of the owner is forgotten by all: its sidecar, too, is another one from here on.
    fn owner_leaves(&mut self, agent: u8, next: bool) {
        let agent_id = name(agent);
        if let Some(conn) = self.conns.remove(&agent) {
            self.scheduler.expel(conn, &Closing::revoked(), self.now);
        }
        self.scheduler.owner_left(&agent_id, self.now);
        self.in_hand.remove(&agent_id);
        self.work.remove(&agent_id);
        // A connection that was opened meanwhile has no token that counts.
        self.opened.remove(&agent);
        self.newest.remove(&agent);
        self.heard.remove(&agent);
        self.drained.remove(&agent_id);
        assert!(self.scheduler.tasks.task_of(&agent_id).is_none() && self.scheduler.agents.get(&agent_id).is_none());
        assert!(self.scheduler.restarts.open_for(&agent_id).is_none(), "{agent_id} is fenced and has no owner");
        if next {
            self.scheduler.owner_came(&agent_id);
            self.store_and_read();
            assert!(self.restarts.values().all(|restart| restart.agent_id != agent_id), "{agent_id} inherits");
        }
    }

    fn leaves(&mut self, agent_id: &str) {
        if let Some(work) = self.work.get_mut(agent_id) {
            work.left_at = work.left_at.or(Some(self.now));
        }
    }

    fn returns(&mut self, agent_id: &str, speaks: Speaks) {
        match speaks {
            Speaks::Today => {}
            Speaks::V2 | Speaks::Original | Speaks::Plain => drop(self.work.remove(agent_id)),
        }
        if let Some(work) = self.work.get_mut(agent_id)
            && let Some(left_at) = work.left_at.take()
        {
            work.forfeited |= left_at + Policy::default().reconnect_grace_ms <= self.now;
        }
    }

    fn submit(&mut self, gpu: bool, urgent: bool) {
        let id = format!("t{}", self.fresh());
        let submission = Submission {
            description: "d".into(),
            metadata: JsonText::empty_object(),
            priority: if urgent { Priority::Urgent } else { Priority::Normal },
            max_retries: 2,
            needed_capabilities: if gpu { vec!["gpu".into()] } else { Vec::new() },
            extra: JsonFields::default(),
            submitted_by: "ops".into(),
            submitter_since: None,
        };
        self.submitted.push(id.clone());
        self.scheduler.submit(id, submission, self.now);
    }

    /// Jumps to the next deadline and does what is due; afterwards nothing may be due at the same time.
    fn tick(&mut self) {
        if let Some(at) = self.scheduler.deadline() {
            self.now = self.now.max(at);
            self.scheduler.tick(self.now);
            assert!(self.scheduler.deadline().is_none_or(|next| next > self.now), "the desk spins at {}", self.now);
            self.drained.retain(|_, until| until.is_none_or(|until| until > self.now));
        }
    }

    fn hear(&mut self, agent: u8, frame: SidecarFrame) {
        if let Some(conn) = self.conns.get(&agent)
            && !self.would_lie(agent, &frame)
        {
            self.scheduler.frame_received(*conn, frame, self.now);
        }
    }

    /// Whether an agent of this version would claim to work on what it was given and never got.
    fn would_lie(&self, agent: u8, frame: &SidecarFrame) -> bool {
        let claimed = match frame {
            SidecarFrame::TaskAccepted { task_id, .. }
            | SidecarFrame::TaskProgress { task_id, .. }
            | SidecarFrame::TaskRecovering { task_id, .. }
            | SidecarFrame::StateReport { task_id, .. } => task_id,
            SidecarFrame::Identify(_)
            | SidecarFrame::Ping {}
            | SidecarFrame::Status { .. }
            | SidecarFrame::TaskRejected { .. }
            | SidecarFrame::TaskComplete(_)
            | SidecarFrame::TaskFailed { .. }
            | SidecarFrame::WakeResult { .. }
            | SidecarFrame::ResourceReport { .. }
            | SidecarFrame::Cordon { .. }
            | SidecarFrame::AgentRestarting(_)
            | SidecarFrame::RestartAck(_) => return false,
        };
        let works = self.work.get(&name(agent)).is_some_and(|work| work.task_id == *claimed);
        let today = self.scheduler.agents.get(&name(agent)).is_some_and(|agent| agent.parks_work);
        today && !works && self.held(agent).0 == *claimed
    }

    fn held(&self, agent: u8) -> (String, u64) {
        let task = self.scheduler.tasks.task_of(&name(agent));
        task.map_or_else(|| ("none".into(), 0), |task| (task.id.clone(), task.generation))
    }

    /// The nth task there is, or the one that it holds.
    fn named(&self, agent: u8, nth: Option<u8>) -> (String, u64) {
        let named = nth.and_then(|nth| self.nth_task(nth)).and_then(|id| self.scheduler.tasks.get(&id));
        named.map_or_else(|| self.held(agent), |task| (task.id.clone(), task.generation))
    }

    fn nth_task(&self, nth: u8) -> Option<String> {
        let n = self.submitted.len();
        (n > 0).then(|| self.submitted[usize::from(nth) % n].clone())
    }

    /// Stores what is to be stored, then reads what was said, as the core does.
    fn store_and_read(&mut self) {
        self.scheduler.flush_inventory(Flush::Part, self.now);
        self.store_what_must_be_and_read();
    }

    /// The same without what has time.
    fn store_what_must_be_and_read(&mut self) {
        let changes = self.scheduler.take_changes();
        self.moment = changes.moment.unwrap_or(self.moment);
        for (id, record) in changes.agents {
            match record {
                Some(record) => self.records.insert(id, record.clone()),
                None => self.records.remove(&id),
            };
        }
        for (id, task) in changes.tasks {
            match task {
                Some(task) => self.tasks.insert(id, task.clone()),
                None => self.tasks.remove(&id),
            };
        }
        for (id, restart) in changes.restarts {
            match restart {
                Some(restart) => self.restarts.insert(id, restart.clone()),
                None => self.restarts.remove(&id),
            };
        }
        for say in self.scheduler.take_outgoing() {
            let Outgoing::Frame { conn, text, receipt } = say else { continue };
            self.unread.extend(receipt);
            let frame: Value = serde_json::from_str(&text).unwrap();
            self.agent_reads(conn, &frame);
            self.agent_works(conn, &frame);
            if frame["type"] == "task_assign" {
                self.check_assignment(&self.agent_of[&conn], &frame);
            }
            if frame["type"] == "task_ack" && frame["status"] == "complete" {
                let id = frame["task_id"].as_str().unwrap().to_owned();
                assert!(self.completed.insert(id.clone()), "{id} was completed twice");
            }
        }
    }

    /// As a sidecar does. (It says its verdict and lets go at once; a word on its connection of before does not reach it.)
    fn agent_reads(&mut self, conn: ConnId, frame: &Value) {
        let agent_id = &self.agent_of[&conn];
        if !self.conns.iter().any(|(agent, current)| *current == conn && name(*agent) == *agent_id) {
            return;
        }
        let task_id = frame["task_id"].as_str().unwrap_or_default();
        let about_it = self.in_hand.get(agent_id).is_some_and(|in_hand| in_hand == task_id);
        let lets_go = match frame["type"].as_str().unwrap() {
            "task_cancelled" | "task_reassign" => about_it,
            "state_report_ack" => about_it && frame["action"] == "abort",
            "task_ack" => about_it && frame["status"] != "accepted",
            "error" => frame["error"].as_str().unwrap().contains("_failed: "),
            _ => false,
        };
        if lets_go {
            self.in_hand.remove(agent_id);
        }
        if frame["type"] == "task_assign" {
            self.in_hand.insert(agent_id.clone(), task_id.to_owned());
        }
    }

    /// What an agent of this version makes of a frame on its present connection.
    fn agent_works(&mut self, conn: ConnId, frame: &Value) {
        let agent_id = self.agent_of[&conn].clone();
        let agent = self.scheduler.agents.get(&agent_id).filter(|agent| agent.conn == Some(conn));
        if !agent.is_some_and(|agent| agent.parks_work) {
            return;
        }
        let task_id = frame["task_id"].as_str().unwrap_or_default();
        let generation = frame["generation"].as_u64().unwrap_or_default();
        let in_hand = self.work.get(&agent_id).filter(|work| work.task_id == task_id).map(|work| work.generation);
        let lets_go = match frame["type"].as_str().unwrap() {
            "task_cancelled" => in_hand.is_some(),
            "task_reassign" => in_hand.is_some_and(|in_hand| in_hand <= generation),
            "state_report_ack" => in_hand.is_some() && frame["action"] == "abort",
            "task_ack" => in_hand.is_some() && frame["status"] != "accepted",
            // A verdict ends the work, whatever the hub makes of it.
            "error" => in_hand == Some(generation),
            _ => false,
        };
        if lets_go {
            self.work.remove(&agent_id);
        }
        if frame["type"] == "task_assign" || (frame["type"] == "task_continue" && in_hand.is_some()) {
            self.check_claims(&agent_id, task_id);
            let work = Work { task_id: task_id.to_owned(), generation, left_at: None, forfeited: false };
            self.work.insert(agent_id, work);
        }
    }

    /// Nobody is given a task that another agent works on, unless that one was away for too long.
    fn check_claims(&self, agent_id: &str, task_id: &str) {
        let grace_ms = Policy::default().reconnect_grace_ms;
        for (other, work) in &self.work {
            let late = work.left_at.is_some_and(|left_at| left_at + grace_ms <= self.now);
            assert!(
                other == agent_id || work.task_id != task_id || work.forfeited || late,
                "{agent_id} is given {task_id}, which {other} works on: {work:?} at {}",
                self.now
            );
        }
    }

    /// Property 17: when frames stop, the hub and each agent that is connected name the same task and generation, or
    /// none.
    fn books_agree(&mut self) {
        for _ in 0..3 {
            for agent in 0..AGENTS {
                if let Some(Work { task_id, generation, .. }) = self.work.get(&name(agent)).cloned() {
                    let (status, assigned_at) = (Some("working".to_owned()), None);
                    let generation = Some(generation);
                    self.hear(agent, SidecarFrame::StateReport { task_id, status, generation, assigned_at });
                    self.store_and_read();
                }
            }
            // What was not mentioned is sent again, or reclaimed.
            self.now += Policy::default().accept_timeout_ms;
            self.scheduler.tick(self.now);
            self.store_and_read();
        }
        for agent in 0..AGENTS {
            let agent_id = name(agent);
            if !self.scheduler.agents.connected(&agent_id).is_some_and(|(agent, _)| agent.parks_work) {
                continue;
            }
            let hub = self.scheduler.tasks.task_of(&agent_id).map(|task| (task.id.clone(), task.generation));
            let mine = self.work.get(&agent_id).map(|work| (work.task_id.clone(), work.generation));
            assert_eq!(hub, mine, "what the hub and {agent_id} name");
        }
    }

    /// Every agent that still has a task says a word on it; then nobody works on what it does not hold.
    fn everybody_speaks(&mut self) {
        for agent in 0..AGENTS {
            if let Some(task_id) = self.in_hand.get(&name(agent)).cloned() {
                self.hear(agent, SidecarFrame::TaskProgress { task_id, progress: None, execution_event: None });
                self.store_and_read();
            }
        }
        for (agent_id, task_id) in &self.in_hand {
            assert_eq!(
                self.scheduler.tasks.task_of(agent_id).map(|task| &task.id),
                Some(task_id),
                "{agent_id} works on it"
            );
        }
    }

    /// Whoever gets a task is not fenced, and holds it on disk under this generation.
    fn check_assignment(&self, agent_id: &str, frame: &Value) {
        let open = self.scheduler.restarts.open_for(agent_id).map(|open| open.commanded_at);
        let stored = &self.tasks[frame["task_id"].as_str().unwrap()];
        // Said again after a return, an assignment may be older than the fence or the drain.
        let since = frame["assigned_at"].as_u64().unwrap();
        let drain = self.scheduler.inventory().get(agent_id).and_then(|record| record.hub_drain.as_ref());
        if !self.dates_tell_nothing {
            assert!(drain.is_none_or(|drain| since < drain.since), "{agent_id} is drained and got {frame}");
            assert!(open.is_none_or(|commanded_at| since < commanded_at), "{agent_id} is fenced and got {frame}");
        }
        assert_eq!(stored.holder(), Some(agent_id));
        assert_eq!(json!(stored.generation), frame["generation"]);
    }

    fn check(&mut self) {
        assert!(self.scheduler.tasks.assignments.index_is_right() && self.scheduler.restarts.index_is_right());
        assert!(self.scheduler.drains_are_right());
        let mut held = HashMap::new();
        for id in &self.submitted {
            let task = self.scheduler.tasks.get(id).unwrap_or_else(|| panic!("{id} is lost"));
            assert_eq!(self.tasks.get(id), Some(task), "{id} is not stored as it is");
            let last = self.generations.insert(id.clone(), task.generation).unwrap_or_default();
            assert!(last <= task.generation, "{id} went back from generation {last}");
            assert!(task.losses < Policy::default().max_losses || task.status.is_final(), "{id} goes round for ever");
            if let Status::Assigned { agent_id, .. } = &task.status {
                assert_eq!(held.insert(agent_id.clone(), id.clone()), None, "{agent_id} holds two tasks");
                assert_eq!(self.scheduler.tasks.task_of(agent_id).map(|task| &task.id), Some(id));
            }
        }
        for agent in 0..AGENTS {
            let agent_id = name(agent);
            assert_eq!(self.scheduler.tasks.task_of(&agent_id).map(|task| &task.id), held.get(&agent_id));
            let open =
                self.scheduler.restarts.of_agent(&agent_id).iter().filter(|restart| restart.phase.is_open()).count();
            assert!(open <= 1, "{agent_id} has {open} open restarts");
            assert_eq!(open == 1, self.scheduler.restarts.open_for(&agent_id).is_some());
            for restart in self.scheduler.restarts.of_agent(&agent_id) {
                assert_eq!(self.restarts.get(&restart.command_id), Some(restart), "a restart is not stored as it is");
                assert!(restart.steps.len() <= 32, "{agent_id} has {} steps", restart.steps.len());
            }
            if let Some(task_id) = self.in_hand.get(&agent_id) {
                let holds = self.scheduler.tasks.task_of(&agent_id).map(|task| &task.id);
                assert_eq!(holds, Some(task_id), "{agent_id} was not told that its task was taken from it");
            }
            self.check_record(agent, &agent_id);
            if self.scheduler.is_free(&agent_id) {
                let able = &self.scheduler.agents.get(&agent_id).unwrap().capability_names;
                assert_eq!(
                    self.scheduler.tasks.first_for(&agent_id, able),
                    None,
                    "{agent_id} is idle beside work it could do"
                );
            }
        }
    }

    /// Whoever was heard has a record, which agrees with the registry and with the store and has lost no restart.
    fn check_record(&self, agent: u8, agent_id: &str) {
        let record = self.scheduler.inventory().get(agent_id);
        // What is reported of a task is stored later.
        let all_but_progress = |record: &AgentRecord| AgentRecord { progress: None, ..record.clone() };
        let stored = self.records.get(agent_id).map(all_but_progress);
        assert_eq!(stored, record.map(all_but_progress), "the record of {agent_id} is not stored as it is");
        assert_eq!(record.is_some(), self.heard.contains_key(&agent), "{agent_id} has a record");
        let Some((record, (_, least, most))) = record.zip(self.heard.get(&agent)) else { return };
        let is_connected = self.scheduler.is_connected(agent_id);
        assert_eq!(record.presence.is_connected(), is_connected, "{agent_id}: {:?}", record.presence);
        assert!(record.presence.since() <= self.now && record.first_seen <= record.presence.since());
        assert!(is_connected || record.last_close.is_some(), "{agent_id} is away, and nobody knows why");
        let counted = record.restarts.planned + record.restarts.unplanned;
        assert!((*least..=*most).contains(&counted), "{agent_id}: {counted} of {least} to {most} restarts");
        let until = record.hub_drain.as_ref().map(|drain| drain.until);
        assert_eq!(until, self.drained.get(agent_id).copied(), "how {agent_id} is drained");
        let connected = || self.scheduler.agents.all().values().filter(|agent| agent.conn.is_some());
        let crowd = self.scheduler.agents.crowds().with(&Default::default());
        assert_eq!(crowd.connected, connected().count());
        assert_eq!(crowd.cordoned, connected().filter(|agent| agent.takes_no_task()).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_given_to_the_fenced(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.store_and_read();
            world.check();
        }
        world.everybody_speaks();
        world.books_agree();
    }
}
