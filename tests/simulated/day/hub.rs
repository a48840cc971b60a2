//! The hub: rounds as its actor's. A batch is applied, stored, and only then spoken of; what was stored is all that a
//! crash leaves.

use std::collections::VecDeque;

use agentcom::hub::hub_state::HubState;
use agentcom::hub::scheduler::inventory::Flush;
use agentcom::hub::scheduler::inventory::close::Closing;
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::{Restart, RestartRequest};
use agentcom::hub::scheduler::task::{Submission, Task};
use agentcom::hub::scheduler::{Changes, Outgoing, Scheduler};
use agentcom::hub::state::roles::Role;
use agentcom::hub::state::settings::Settings;
use agentcom::hub::state::tokens::{Principal, Tokens};
use agentcom::protocol::{JsonFields, JsonText, SidecarFrame};

use super::books::{Facts, Needs, TaskFact, task_id, task_number};
use super::disk::{Batch, Disk};
use super::log::What;
use super::rollout::Fleet;
use super::sidecar::{name, number};
use super::{About, Checked, Day, EPOCH_MS, Ev, Options, Violation, of_agent, of_task};
use crate::rng::Rng;

/// As in the actor.
const BATCH: usize = 256;
const LONGEST_SLEEP_MS: u64 = 1_000;
const INVENTORY_PAUSE_MS: u64 = 1_000;
const INVENTORY_LATEST_MS: u64 = 4_000;
const USES_AT_ONCE: usize = 512;

/// What the actor is told.
pub enum Message {
    Frame(u32, SidecarFrame),
    Gone(u32, Closing),
    Written(String),
    Submit(u32),
    Cancel(u32),
    Restart { command_id: String, agent: u32, force: bool },
    StartRollout,
    ResumeRollout,
}

/// A batch between its application and its commit.
pub struct Round {
    batch: Batch,
    facts: Facts,
    outgoing: Vec<Outgoing>,
    submitted: Vec<u32>,
}

/// The hub, and what stays of it.
pub struct Hub {
    /// `None` while no process runs.
    pub state: Option<HubState>,
    pub disk: Disk,
    /// The number of its process.
    pub boot: u32,
    inbox: VecDeque<Message>,
    under_way: Option<Round>,
    /// When its next round is planned.
    wakes_at: u64,
    inventory_stored_at: u64,
    rng: Rng,
    pub fleet: Fleet,
}

impl Hub {
    /// A hub that knows all agents, and their tokens.
    pub fn new(options: &Options, rng: Rng) -> (Self, Vec<String>) {
        let mut tokens = Tokens::default();
        let issue = |agent: u32| {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&agent.to_le_bytes());
            tokens.issue(secret, Principal::new(&name(agent), Role::Agent, EPOCH_MS), true).expect("a new name")
        };
        let texts = (0..options.agents).map(issue).collect();
        let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), EPOCH_MS);
        let state = HubState::new(scheduler, tokens, Settings::default(), Vec::new());
        let hub = Self {
            state: Some(state),
            disk: Disk::default(),
            boot: 0,
            inbox: VecDeque::new(),
            under_way: None,
            wakes_at: u64::MAX,
            inventory_stored_at: EPOCH_MS,
            rng,
            fleet: Fleet::new(options.agents),
        };
        (hub, texts)
    }
}

/// What is committed, less its bytes.
fn facts_of(changes: &Changes<'_>) -> Facts {
    let task = |(id, task): &(String, Option<&Task>)| (task_number(id), task.map(TaskFact::of));
    let restart = |(id, restart): &(String, Option<&Restart>)| (id.clone(), restart.map(Facts::restart));
    Facts { tasks: changes.tasks.iter().map(task).collect(), restarts: changes.restarts.iter().map(restart).collect() }
}

impl Day {
    /// A message for the actor.
    pub(super) fn tell_hub(&mut self, message: Message) {
        if self.hub.state.is_some() {
            self.hub.inbox.push_back(message);
            self.wake_hub(self.now());
        }
    }

    pub(super) fn wake_hub(&mut self, at: u64) {
        if at < self.hub.wakes_at && self.hub.under_way.is_none() {
            self.hub.wakes_at = at;
            self.agenda.plan(at, Ev::Round);
        }
    }

    /// One round of the actor, up to the commit.
    pub(super) fn round(&mut self) -> Checked {
        let now = self.now();
        if self.hub.wakes_at != now || self.hub.under_way.is_some() {
            return Ok(());
        }
        self.hub.wakes_at = u64::MAX;
        let Some(mut state) = self.hub.state.take() else { return Ok(()) };
        self.figures.rounds += 1;
        let mut submitted = Vec::new();
        let most = BATCH.min(self.hub.inbox.len());
        for _ in 0..most {
            let Some(message) = self.hub.inbox.pop_front() else { break };
            self.apply(&mut state, message, &mut submitted, now)?;
        }
        if state.deadline().is_some_and(|at| at <= now) {
            state.tick(now);
        }
        let tokens = state.tokens.take_dirty();
        let (presence, _) = (state.take_presence(), state.take_news());
        let changes = state.scheduler.take_changes();
        let (batch, facts) = (Batch::of(&changes, tokens), facts_of(&changes));
        let rollout = self.hub.fleet.apply(&changes, &presence);
        self.judge_rollout(&state, rollout)?;
        let outgoing = state.take_outgoing();
        self.hub.state = Some(state);
        let round = Round { batch, facts, outgoing, submitted };
        if round.batch.is_empty() {
            return self.conclude(round);
        }
        let commit_ms = self.hub.rng.between(2, 9);
        self.hub.under_way = Some(round);
        self.agenda.plan(now + commit_ms, Ev::Committed(self.hub.boot));
        Ok(())
    }

    /// The commit of a hub's process is on disk.
    pub(super) fn committed(&mut self, boot: u32) -> Checked {
        if boot != self.hub.boot {
            return Ok(());
        }
        let Some(mut round) = self.hub.under_way.take() else { return Ok(()) };
        self.store(&mut round)?;
        self.conclude(round)
    }

    /// Stores a batch, and enters it in the books.
    fn store(&mut self, round: &mut Round) -> Checked {
        let now = self.now();
        round.batch.digest(&mut self.figures.digest);
        self.figures.commits += 1;
        self.figures.records += round.batch.records();
        self.hub.disk.commit(std::mem::take(&mut round.batch));
        for (task, fact) in round.facts.tasks.drain(..) {
            let what = fact.map_or(What::Dropped, |fact| What::Stored(fact.status, fact.generation));
            self.log.note(fact.and_then(|fact| fact.agent), Some(task), what);
            let moved = self.books.stored(task, fact, &self.sessions, now)?;
            self.figures.moved(moved);
        }
        for (command_id, fact) in round.facts.restarts.drain(..) {
            if let Some(phase) = self.books.restart_stored(&command_id, fact)? {
                self.figures.ended(phase);
            }
        }
        Ok(())
    }

    /// Says what the batch has led to, stores what has time, and plans the next round.
    fn conclude(&mut self, round: Round) -> Checked {
        let now = self.now();
        for outgoing in round.outgoing {
            match outgoing {
                Outgoing::Frame { conn, text, receipt } => {
                    let conn = u32::try_from(conn).expect("counted as such");
                    if self.send_down(conn, text) {
                        self.hub.inbox.extend(receipt.map(Message::Written));
                    }
                }
                Outgoing::Close { conn, code, reason } => {
                    self.close_down(u32::try_from(conn).expect("counted as such"), code, reason);
                }
            }
        }
        let waited_ms = now - self.hub.inventory_stored_at;
        let is_due = waited_ms >= INVENTORY_PAUSE_MS && self.hub.inbox.is_empty();
        if is_due || waited_ms >= INVENTORY_LATEST_MS {
            self.hub.inventory_stored_at = now;
            self.store_inventory()?;
        }
        let deadline = self.hub.state.as_ref().and_then(HubState::deadline).unwrap_or(u64::MAX);
        self.wake_hub(match self.hub.inbox.is_empty() {
            true => deadline.clamp(now + 1, now + LONGEST_SLEEP_MS),
            false => now,
        });
        Ok(())
    }

    fn store_inventory(&mut self) -> Checked {
        let now = self.now();
        let Some(state) = &mut self.hub.state else { return Ok(()) };
        let tokens = state.tokens.take_used(USES_AT_ONCE);
        let is_any = state.scheduler.flush_inventory(Flush::Part, now);
        if !is_any && tokens.is_empty() {
            return Ok(());
        }
        let changes = state.scheduler.take_changes();
        let (batch, facts) = (Batch::of(&changes, tokens), facts_of(&changes));
        self.store(&mut Round { batch, facts, outgoing: Vec::new(), submitted: Vec::new() })
    }

    fn apply(&mut self, state: &mut HubState, message: Message, submitted: &mut Vec<u32>, now: u64) -> Checked {
        match message {
            Message::Frame(conn, SidecarFrame::Identify(identify)) => {
                if let Err(why) = state.identify(u64::from(conn), &identify, "10.0.0.1:1", now) {
                    return Err(of_agent(number(&identify.agent_id), format!("it is refused: {why:?}")));
                }
            }
            Message::Frame(conn, frame) => state.scheduler.frame_received(u64::from(conn), frame, now),
            Message::Gone(conn, closing) => state.gone(u64::from(conn), &closing, now),
            Message::Written(command_id) => state.scheduler.delivered(&command_id, now),
            Message::Submit(task) => {
                let submission = self.submission(task);
                if state.scheduler.tasks().has_room(1_024) {
                    state.scheduler.submit(task_id(task), submission, now);
                    submitted.push(task);
                } else {
                    self.figures.refused_submissions += 1;
                    self.agenda.plan(now + 30_000, Ev::Submit(task));
                }
            }
            Message::Cancel(task) => {
                // One that has ended stays as it is.
                let _ = state.scheduler.cancel(&task_id(task), "ops", now);
            }
            Message::Restart { command_id, agent, force } => {
                let request =
                    RestartRequest { reason: "by hand".to_owned(), deadline_ms: None, force, by: "ops".to_owned() };
                state.scheduler.command_restart(command_id, &name(agent), request, now);
            }
            Message::StartRollout => self.start_rollout(state, now)?,
            Message::ResumeRollout => self.resume_rollout(state, now),
        }
        Ok(())
    }

    fn submission(&self, task: u32) -> Submission {
        let book = &self.books.tasks[task as usize];
        let mut extra = JsonFields::default();
        let needed: &[&str] = match book.needs {
            Needs::Anybody => &["code"],
            Needs::Gpu => &["code", "gpu"],
            Needs::Agent(agent) => {
                extra.set("assign_to", &name(agent));
                &[]
            }
        };
        Submission {
            description: "Write a function that adds two numbers, and a test for it.".to_owned(),
            metadata: JsonText::empty_object(),
            priority: book.priority,
            max_retries: 3,
            needed_capabilities: needed.iter().map(|name| (*name).to_owned()).collect(),
            extra,
            submitted_by: "ops".to_owned(),
            submitter_since: None,
        }
    }

    /// The hub's process is gone, in the middle of whatever it did.
    pub(super) fn hub_dies(&mut self, with_its_host: bool) -> Checked {
        let now = self.now();
        if self.hub.state.take().is_none() {
            return Ok(());
        }
        self.log.note(None, None, What::HubDies);
        self.figures.hub_deaths += 1;
        let mut unanswered = Vec::new();
        if let Some(mut round) = self.hub.under_way.take() {
            unanswered.append(&mut round.submitted);
            // Nobody heard whether the commit was on disk.
            if self.hub.rng.one_in(2) {
                self.store(&mut round)?;
            }
        }
        for message in self.hub.inbox.drain(..) {
            if let Message::Submit(task) = message {
                unanswered.push(task);
            }
        }
        for task in unanswered {
            self.submit_again(task);
        }
        self.hub.boot += 1;
        self.hub.wakes_at = u64::MAX;
        self.hub_left(with_its_host);
        let down_ms = self.hub.rng.between(2_000, 20_000);
        self.agenda.plan(now + down_ms, Ev::HubStarts);
        Ok(())
    }

    /// The next process starts from what was committed: all that was promised is there.
    pub(super) fn hub_starts(&mut self) -> Checked {
        let now = self.now();
        self.log.note(None, None, What::HubStarts);
        let state = self.hub.disk.load(Policy::default(), now);
        self.judge_tasks(&state.scheduler)?;
        self.hub.fleet.load(&state.scheduler);
        self.hub.state = Some(state);
        self.hub.inventory_stored_at = now;
        self.wake_hub(now);
        Ok(())
    }

    /// Every task that was accepted and has not ended is there, as it was committed.
    pub(super) fn judge_tasks(&self, scheduler: &Scheduler) -> Checked {
        for (task, book) in (0..).zip(&self.books.tasks).filter(|(_, book)| book.is_open()) {
            let Some(found) = scheduler.tasks().get(&task_id(task)) else {
                return Err(of_task(task, "it was accepted, and is lost".to_owned()));
            };
            if found.generation < book.generation() {
                return Err(of_task(task, format!("generation {} after {}", found.generation, book.generation())));
            }
        }
        Ok(())
    }

    /// Returns what the hub keeps beyond its limits, once everything has ended.
    pub(super) fn excess(&self) -> Option<Violation> {
        let (state, policy) = (self.hub.state.as_ref()?, Policy::default());
        let tasks = state.scheduler.tasks().list();
        let ended = tasks.iter().filter(|task| task.status.is_final()).count();
        let restarts = state.scheduler.view().restarts().before(None).count();
        let (agents, known) = (self.options.agents as usize, state.scheduler.inventory().all().len());
        let what = match () {
            () if ended > policy.keep_finished => format!("{} tasks are kept", tasks.len()),
            () if restarts > policy.keep_restarts_in_all => format!("{restarts} restarts are kept"),
            () if self.parcels.on_their_way() > 4 * agents => "frames pile up on their way".to_owned(),
            () if known != agents => format!("{known} agents are known"),
            () if state.scheduler.connected_count() != agents => {
                format!("{} agents are connected", state.scheduler.connected_count())
            }
            () => return None,
        };
        Some(Violation { what, about: About::All })
    }
}
