//! The shipped hub: its scheduler with its folds (queue, restart ledger, registry), fed with the shipped wire types. It adds
//! no rule; it carries the scheduler's words to the connections they are for, and judges what only the hub can see.

use std::hash::Hasher;
use std::sync::LazyLock;

use agentcom::codec::{Identity, decode_frame, encode_frame};
use agentcom::common::secret::Secret;
use agentcom::hub::scheduler::agents::{ConnId, SILENCE_BOUND_MS};
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::{RestartPhase, RestartRequest};
use agentcom::hub::scheduler::task::{Priority, Status, Submission};
use agentcom::hub::scheduler::{Outgoing, Scheduler};
use agentcom::machine::{FromHub, Task, TaskId, ToHub};
use agentcom::protocol::{HubFrame, JsonFields, JsonText, Pm2Info, SidecarFrame};

use super::hub::{Out, command_id};
use super::rebase::NEVER_MS;
use super::violation::{Violation, violated};

const AGENT: &str = "a";
/// How long a holder may be away.
const GRACE_MS: u64 = 12_000;
/// Where the hub's clock begins.
const EPOCH_MS: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
pub struct OurHub {
    scheduler: Scheduler,
    /// Time passed since the beginning. The scheduler's dates count from there; its digest counts from the present.
    elapsed_ms: u64,
}

fn policy() -> Policy {
    Policy {
        accept_timeout_ms: 40_000,
        reconnect_grace_ms: GRACE_MS,
        stale_timeout_ms: NEVER_MS,
        reconcile_ms: 3_000,
        reject_retry_ms: 5_000,
        restart_deadline_ms: super::scope::RESTART_DEADLINE_MS,
        drain_deadline_ms: super::scope::DRAIN_DEADLINE_MS,
        restart_margin_ms: 30_000,
        silence_timeout_ms: NEVER_MS,
        keep_finished: 10,
        keep_restarts: 10,
        keep_restarts_in_all: 100,
        keep_restart_bytes: 1 << 20,
        ..Policy::default()
    }
}

impl OurHub {
    pub fn state_hash(&self, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        self.scheduler.state_hash(self.now(), rank, hasher);
    }

    pub fn new() -> Self {
        Self { scheduler: Scheduler::load(Vec::new(), Vec::new(), policy(), EPOCH_MS), elapsed_ms: 0 }
    }

    fn now(&self) -> u64 {
        EPOCH_MS + self.elapsed_ms
    }

    pub fn passes(&mut self, ms: u64) {
        self.elapsed_ms += ms;
    }

    /// How long until something is due, ms; 0 is now.
    pub fn due_in(&self) -> Option<u64> {
        self.scheduler.deadline().map(|at| at.saturating_sub(self.now()))
    }

    pub fn tick(&mut self, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |scheduler, now| scheduler.tick(now))
    }

    pub fn submit(&mut self, id: &TaskId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let submission = Submission {
            description: String::new(),
            metadata: JsonText::empty_object(),
            priority: Priority::Normal,
            max_retries: 2,
            needed_capabilities: Vec::new(),
            extra: JsonFields::default(),
            submitted_by: String::new(),
            submitter_since: None,
        };
        self.act(outs, |scheduler, now| scheduler.submit(id.to_string(), submission, now))
    }

    pub fn cancel(&mut self, id: &TaskId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |scheduler, now| {
            // A task that has ended stays as it is.
            let _ = scheduler.cancel(id.as_str(), "operator", now);
        })
    }

    /// Whether a command would be taken.
    pub fn can_command(&self) -> bool {
        self.scheduler.connected_count() > 0 || self.scheduler.restarts().open_for(AGENT).is_some()
    }

    pub fn command(&mut self, number: u8, force: bool, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let request = RestartRequest { reason: "r".into(), deadline_ms: None, force, by: "o".into() };
        self.act(outs, |scheduler, now| {
            scheduler.command_restart(command_id(number), AGENT, request, now);
        })
    }

    pub fn gone(&mut self, conn: ConnId, outs: &mut Vec<Out>) -> Result<(), Violation> {
        self.act(outs, |scheduler, now| scheduler.disconnected(conn, now))
    }

    /// Kill -9 of the hub: what was stored is all that is left. Every connection is gone.
    pub fn crashes(&mut self) {
        let tasks = self.scheduler.tasks().list().into_iter().cloned().collect();
        let mut restarts: Vec<_> = self.scheduler.restarts().of_agent(AGENT).into_iter().cloned().collect();
        restarts.reverse();
        self.scheduler = Scheduler::load(tasks, restarts, policy(), self.now());
    }

    pub fn hears(&mut self, conn: ConnId, run: u8, said: &ToHub, outs: &mut Vec<Out>) -> Result<(), Violation> {
        let from = outs.len();
        if only_shows(said) {
            return Ok(());
        }
        let frame = encode_frame(said.clone(), &WHO, Pm2Info::default);
        self.act(outs, |scheduler, now| match frame {
            SidecarFrame::Identify(mut identify) => {
                identify.boot_id = Some(format!("b{run}"));
                // An address is only shown.
                scheduler.identified(conn, &identify, "", now);
            }
            other => scheduler.frame_received(conn, other, now),
        })?;
        let verdict = match said {
            ToHub::TaskComplete { task_id, generation, .. } => Some((task_id.to_string(), *generation)),
            ToHub::TaskFailed { task_id, generation, .. } => Some((task_id.clone(), *generation)),
            _ => None,
        };
        let taken = outs[from..].iter().any(|out| matches!(out, Out::Outgoing(_, FromHub::VerdictAcknowledged { .. })));
        if let (Some((task_id, generation)), true) = (verdict, taken) {
            outs.push(Out::Counted(task_id, generation));
        }
        Ok(())
    }

    /// One step of the scheduler, its words, and what must hold of the step.
    fn act(&mut self, outs: &mut Vec<Out>, step: impl FnOnce(&mut Scheduler, u64)) -> Result<(), Violation> {
        let now = self.now();
        let generation =
            |scheduler: &Scheduler| scheduler.tasks().task_of(AGENT).map(|task| (task.id.clone(), task.generation));
        let fenced = self.scheduler.restarts().open_for(AGENT).is_some();
        let before = (generation(&self.scheduler), self.phases());
        step(&mut self.scheduler, now);
        self.scheduler.take_changes();
        let mut receipts = Vec::new();
        for say in self.scheduler.take_outgoing() {
            match say {
                Outgoing::Frame { conn, text, receipt } => {
                    receipts.extend(receipt);
                    HubFrame::parse(&text)
                        .map_err(|error| violated("wire", format!("the hub said {text}: {error}")))?;
                    outs.extend(frame_received(&text).map(|frame_received| Out::Outgoing(conn, frame_received)));
                }
                Outgoing::Close { conn, code: _, reason: _ } => outs.push(Out::Close(conn)),
            }
        }
        for command_id in receipts {
            self.scheduler.delivered(&command_id, now);
            self.scheduler.take_changes();
        }
        let after = generation(&self.scheduler);
        if fenced && self.scheduler.restarts().open_for(AGENT).is_some() && after.is_some() && after != before.0 {
            return Err(violated("fence", format!("{after:?} was handed out while a restart was open")));
        }
        for ((id, from), (_, to)) in before.1.iter().zip(self.phases()) {
            let late = *from == RestartPhase::Overdue && to == RestartPhase::Back;
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
        for restart in self.scheduler.restarts().of_agent(AGENT) {
            let (before, after) = (number(&restart.boot_before), number(&restart.boot_after));
            if restart.phase == RestartPhase::Back && after <= before {
                let detail = format!("run {before:?} was told to end, and run {after:?} counts as its return");
                return Err(violated("back_is_a_return", detail));
            }
        }
        Ok(())
    }

    /// The commands in order, and how far each has come.
    pub fn phases(&self) -> Vec<(String, RestartPhase)> {
        let mut all: Vec<_> =
            self.scheduler.restarts().of_agent(AGENT).iter().map(|r| (r.command_id.clone(), r.phase)).collect();
        all.reverse();
        all
    }

    /// The task that the hub names for the agent, with its generation; nothing while it waits for a word on it.
    pub fn names(&self) -> Option<Option<(String, u64)>> {
        let task = self.scheduler.tasks().task_of(AGENT);
        let settled = !self.scheduler.tasks().awaits_confirmation(AGENT);
        settled.then(|| task.map(|task| (task.id.clone(), task.generation)))
    }

    /// The task's status, generation, and whether it is accepted for that.
    pub fn task(&self, id: &TaskId) -> Option<(bool, u64, bool)> {
        let task = self.scheduler.tasks().get(id.as_str())?;
        let accepted = matches!(task.status, Status::Assigned { accepted: true, .. });
        Some((task.status.is_final(), task.generation, accepted))
    }

    pub fn is_held(&self, id: &TaskId) -> bool {
        self.scheduler.tasks().get(id.as_str()).is_some_and(|task| matches!(task.status, Status::Assigned { .. }))
    }

    pub fn restart_is_open(&self) -> bool {
        self.scheduler.restarts().open_for(AGENT).is_some()
    }
}

/// What only shows (status, pings, signs of life) is left unsaid: it decides nothing here.
fn only_shows(said: &ToHub) -> bool {
    matches!(said, ToHub::Ping | ToHub::Status { .. } | ToHub::TaskProgress { .. } | ToHub::WakeResult { .. })
}

/// Who says it, in whatever run of the process.
static WHO: LazyLock<Identity> = LazyLock::new(|| Identity {
    agent_id: AGENT.into(),
    token: Secret::new(""),
    capabilities: Vec::new(),
    labels: std::collections::BTreeMap::new(),
    ollama_url: None,
    boot_id: String::new(),
    previous: None,
    expected_back_ms: 0,
    silence_bound_ms: SILENCE_BOUND_MS,
});

/// As the shell hears it, less what the machine only passes on, which has dates in it.
fn frame_received(text: &str) -> Option<FromHub> {
    match decode_frame(text, AGENT) {
        FromHub::SignOfLife => None,
        FromHub::Assigned { task, assigned_at: _, timeout_ms: _ } => {
            Some(FromHub::Assigned { task: Task { payload: "{}".into(), ..task }, assigned_at: None, timeout_ms: None })
        }
        other => Some(other),
    }
}
