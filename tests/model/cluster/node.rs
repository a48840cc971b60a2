//! A hub's process: it stands by, or leads. A leader does one batch after the other: apply, commit, say.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use agentcom::codec::{Identity, decode_frame, encode_frame};
use agentcom::common::secret::Secret;
use agentcom::hub::scheduler::agents::{ConnId, SILENCE_BOUND_MS};
use agentcom::hub::scheduler::restart::RestartRequest;
use agentcom::hub::scheduler::task::{Priority, Submission};
use agentcom::hub::scheduler::{Outgoing, Scheduler};
use agentcom::machine::{FromHub, Task, ToHub};
use agentcom::protocol::{JsonFields, JsonText, Pm2Info, SidecarFrame};

use super::actions::{Action, Pace, pay};
use super::database::{Commit, Database, Landed, Records};
use super::scopes::{Ask, Rule};
use super::world::{AGENTS, World};
use crate::model::connection::{End, Up};
use crate::model::violation::Violation;

/// A hub's process, which is started again whenever it ends.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// It stands still: whatever comes waits.
    pub stopped: bool,
    role: Role,
}

#[derive(Debug, Clone)]
enum Role {
    /// With the records, if it has read them.
    Standby(Option<Arc<Records>>),
    Leading(Leading),
}

/// A hub that takes itself for the leader.
#[derive(Debug, Clone)]
pub struct Leading {
    pub epoch: u64,
    /// The number that its next commit expects.
    commit_no: u64,
    pub scheduler: Arc<Scheduler>,
    /// Commands that were written to their sockets, and not recorded as such.
    pub written: Vec<String>,
    /// The batch in which it stands still.
    rest: Option<Rest>,
}

/// What is left to do of a batch.
#[derive(Debug, Clone, Default)]
struct Rest {
    commit: Option<Commit>,
    words: VecDeque<Word>,
    /// How many of its steps are done.
    point: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Word {
    Frame {
        conn: ConnId,
        said: FromHub,
        command_id: Option<String>,
    },
    Close(ConnId),
    /// The answer to a request.
    Answer(Ask),
}

impl Default for Role {
    fn default() -> Self {
        Self::Standby(None)
    }
}

impl Node {
    pub fn leading(&self) -> Option<&Leading> {
        match &self.role {
            Role::Standby(_) => None,
            Role::Leading(leading) => Some(leading),
        }
    }

    fn leading_mut(&mut self) -> Option<&mut Leading> {
        match &mut self.role {
            Role::Standby(_) => None,
            Role::Leading(leading) => Some(leading),
        }
    }

    /// Whether it leads, in its own view, and does not stand still.
    pub fn is_serving(&self) -> bool {
        !self.stopped && self.leading().is_some()
    }

    /// Whether nothing is left to do of any batch.
    pub fn is_at_rest(&self) -> bool {
        self.leading().is_some_and(|it| it.rest.is_none() && it.written.is_empty())
    }

    pub fn reads(&mut self, database: &Database) {
        self.role = Role::Standby(Some(Arc::new(database.records.clone())));
    }

    pub fn has_read(&self) -> bool {
        matches!(self.role, Role::Standby(Some(_)))
    }

    pub fn state_hash(&self, now: u64, database: &Database, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        self.stopped.hash(hasher);
        match &self.role {
            Role::Standby(records) => records.iter().for_each(|records| records.state_hash(now, hasher)),
            Role::Leading(Leading { epoch, commit_no, scheduler, written, rest }) => {
                (epoch, *commit_no == database.commit_no, written).hash(hasher);
                scheduler.state_hash(now, &rank, hasher);
                if let Some(Rest { commit, words, point }) = rest {
                    (point, commit.is_some()).hash(hasher);
                    commit.iter().for_each(|commit| commit.state_hash(now, hasher));
                    for word in words {
                        match word {
                            Word::Frame { conn, said, command_id } => (rank(*conn), said, command_id).hash(hasher),
                            Word::Close(conn) => rank(*conn).hash(hasher),
                            Word::Answer(ask) => ask.hash(hasher),
                        }
                    }
                }
            }
        }
    }
}

impl World {
    /// The hub that a batch is of.
    pub fn hub_of(&self, action: Action) -> usize {
        match action {
            Action::Asked(_, hub, _) | Action::HubTicks(hub, _) | Action::HubWrote(hub, _) => hub,
            Action::HubHears(link, _) | Action::HubSeesEnd(link, _) => self.links[link].hub,
            other => unreachable!("{other:?} is no batch"),
        }
    }

    /// Whether the batch commits, and how many words it says.
    pub fn points(&self, action: Action) -> (bool, u8) {
        let mut world = self.clone();
        let hub = self.hub_of(action);
        world.begin_batch(action);
        let rest = world.nodes[hub].leading().and_then(|it| it.rest.as_ref());
        rest.map_or((false, 0), |rest| (rest.commit.is_some(), u8::try_from(rest.words.len()).unwrap_or(u8::MAX)))
    }

    /// The node leads from here on: exactly what a hub's start does, under the next epoch.
    pub fn takes_over(&mut self, hub: usize) {
        let records = match &self.nodes[hub].role {
            Role::Standby(Some(early)) if self.scope.lacks(Rule::LoadsAfterTheEpoch) => (**early).clone(),
            Role::Standby(_) | Role::Leading(_) => self.database.records.clone(),
        };
        let database = Arc::make_mut(&mut self.database);
        database.raise_epoch(&self.scope);
        let (epoch, commit_no) = (database.epoch, database.commit_no);
        let Records { tasks, restarts } = records;
        let mut restarts: Vec<_> = restarts.into_values().collect();
        restarts.sort_by_key(|restart| restart.seq);
        let now = self.now();
        let scheduler = Scheduler::load(tasks.into_values().collect(), restarts, self.scope.hub_policy(), now);
        let leading = Leading { epoch, commit_no, scheduler: scheduler.into(), written: Vec::new(), rest: None };
        self.nodes[hub] = Node { stopped: false, role: Role::Leading(leading) };
    }

    /// The process ends: its sockets close, and nothing of it is left but what is stored.
    pub fn hub_ends(&mut self, hub: usize) {
        self.nodes[hub] = Node::default();
        self.links.iter_mut().filter(|link| link.hub == hub).for_each(|link| link.conn.hub_closes());
    }

    /// Applies what has come to the hub's memory, and leaves the rest to [`Self::finish_batch`].
    pub fn begin_batch(&mut self, action: Action) {
        let hub = self.hub_of(action);
        let now = self.now();
        let mut heard = None;
        let mut ended = None;
        match action {
            Action::HubHears(index, _) => heard = self.heard(index),
            Action::HubSeesEnd(index, _) => {
                self.links[index].conn.hub_closes();
                ended = Some(self.links[index].conn.id);
            }
            _ => {}
        }
        if let Some((conn, None)) = &heard {
            ended = Some(*conn);
        }
        let asked = match action {
            Action::Asked(number, ..) => Some(self.scope.asks[number]),
            _ => None,
        };
        asked.iter().for_each(|ask| *self.ghost.asked.entry(*ask).or_default() += 1);
        let scope = self.scope.clone();
        let Some(leading) = self.nodes[hub].leading_mut() else { return };
        let scheduler = Arc::make_mut(&mut leading.scheduler);
        let mut words = VecDeque::new();
        match (action, heard) {
            (_, Some((conn, Some(SidecarFrame::Identify(identify))))) => {
                scheduler.identified(conn, &identify, "", now);
            }
            (_, Some((conn, Some(frame)))) => scheduler.frame_received(conn, frame, now),
            (Action::HubTicks(..), _) => scheduler.tick(now),
            (Action::HubWrote(..), _) => {
                for command_id in std::mem::take(&mut leading.written) {
                    scheduler.delivered(&command_id, now);
                }
            }
            _ => {}
        }
        if let Some(conn) = ended {
            scheduler.disconnected(conn, now);
        }
        if let Some(ask) = asked
            && does(scheduler, ask, now)
        {
            words.push_back(Word::Answer(ask));
        }
        let commit = Commit::of(scheduler.take_changes(), leading.epoch, leading.commit_no);
        words.extend(scheduler.take_outgoing().into_iter().map(word));
        // A batch that speaks and changes nothing commits nothing but the fence.
        let speaks = !words.is_empty() && !scope.lacks(Rule::FencedWords);
        let commit = (speaks || !commit.is_empty()).then_some(commit);
        leading.rest = Some(Rest { commit, words, point: 0 });
    }

    /// The next frame on a connection, as the hub reads it; no frame if the connection is closed by it.
    fn heard(&mut self, index: usize) -> Option<(ConnId, Option<SidecarFrame>)> {
        let link = &mut self.links[index];
        let (agent, conn) = (link.agent, &mut link.conn);
        conn.hub = End::Open;
        match conn.up.pop_front()? {
            Up::Frame(said) => Some((conn.id, Some(frame(said, agent, conn.run)))),
            Up::Close => {
                conn.graceful = true;
                conn.hub_closes();
                Some((conn.id, None))
            }
        }
    }

    /// Does what is left of a batch: commits, then speaks.
    pub fn finish_batch(&mut self, hub: usize, pace: Pace) -> Result<(), Violation> {
        let Some(mut rest) = self.nodes[hub].leading_mut().and_then(|it| it.rest.take()) else { return Ok(()) };
        loop {
            match pace {
                Pace::StopsAt(point) if point == rest.point => {
                    pay(&mut self.left.hub_stops);
                    self.nodes[hub].stopped = true;
                    if let Some(leading) = self.nodes[hub].leading_mut() {
                        leading.rest = Some(rest);
                    }
                    return Ok(());
                }
                Pace::DiesAt(point) if point == rest.point => {
                    pay(&mut self.left.hub_deaths);
                    self.hub_ends(hub);
                    return Ok(());
                }
                Pace::Whole | Pace::StopsAt(_) | Pace::DiesAt(_) | Pace::DiesInCommit | Pace::CommitsAgain => {}
            }
            if let Some(commit) = rest.commit.take() {
                if !self.commits(hub, commit, pace)? {
                    return Ok(());
                }
            } else if let Some(word) = rest.words.pop_front() {
                self.says(hub, word);
            } else {
                return Ok(());
            }
            rest.point += 1;
        }
    }

    /// Returns whether the batch goes on: the commit has landed, and the hub is there.
    fn commits(&mut self, hub: usize, commit: Commit, pace: Pace) -> Result<bool, Violation> {
        let database = Arc::make_mut(&mut self.database);
        match pace {
            Pace::DiesInCommit => {
                pay(&mut self.left.lost_commits);
                database.under_way.push(commit);
                self.hub_ends(hub);
                return Ok(false);
            }
            Pace::CommitsAgain => {
                pay(&mut self.left.lost_commits);
                database.under_way.push(commit.clone());
            }
            Pace::Whole | Pace::StopsAt(_) | Pace::DiesAt(_) => {}
        }
        match database.commit(&commit, &self.scope)? {
            Landed::Yes => {
                let commit_no = database.commit_no;
                self.nodes[hub].leading_mut().into_iter().for_each(|leading| leading.commit_no = commit_no);
                Ok(true)
            }
            Landed::Deposed => {
                self.hub_ends(hub);
                Ok(false)
            }
        }
    }

    fn says(&mut self, hub: usize, word: Word) {
        match word {
            Word::Answer(ask) => {
                self.ghost.answered.insert(ask);
            }
            Word::Frame { conn, said, command_id } => {
                if let (Some(leading), Some(command_id)) = (self.nodes[hub].leading_mut(), command_id) {
                    leading.written.push(command_id);
                }
                let believes_all = self.scope.lacks(Rule::CurrentConnection);
                let link = self.links.iter_mut().find(|link| link.conn.id == conn && link.conn.hub == End::Open);
                let Some(link) = link else { return };
                match link.conn.side {
                    End::Opening | End::Open => link.conn.down.push_back(said),
                    End::Closed if believes_all => link.late.push_back(said),
                    End::Closed => {}
                }
            }
            Word::Close(conn) => {
                let link = self.links.iter_mut().find(|link| link.conn.id == conn);
                link.into_iter().for_each(|link| link.conn.hub_closes());
            }
        }
    }
}

/// Does what is asked, unless it is done already. Returns whether it is.
fn does(scheduler: &mut Scheduler, ask: Ask, now: u64) -> bool {
    match ask {
        Ask::Task(id) if scheduler.tasks().get(id).is_some() => true,
        Ask::Task(id) => {
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
            scheduler.submit(id.to_owned(), submission, now);
            true
        }
        Ask::Restart(id) if scheduler.restarts().get(id).is_some() => true,
        Ask::Restart(id) => {
            let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "o".into() };
            scheduler.command_restart(id.to_owned(), AGENTS[0], request, now).is_some()
        }
    }
}

fn word(outgoing: Outgoing) -> Word {
    match outgoing {
        Outgoing::Frame { conn, text, receipt } => {
            // The agent's name decides only what an existing hub means.
            let said = match decode_frame(&text, "") {
                FromHub::Assigned { task, assigned_at: _, timeout_ms: _ } => {
                    let task = Task { payload: "{}".into(), ..task };
                    FromHub::Assigned { task, assigned_at: None, timeout_ms: None }
                }
                other => other,
            };
            Word::Frame { conn, said, command_id: receipt }
        }
        Outgoing::Close { conn, code: _, reason: _ } => Word::Close(conn),
    }
}

/// What a sidecar says, as the frame that the hub reads.
fn frame(said: ToHub, agent: usize, run: u8) -> SidecarFrame {
    let identity = Identity {
        agent_id: AGENTS[agent].into(),
        token: Secret::new(""),
        capabilities: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        ollama_url: None,
        boot_id: format!("{}{run}", AGENTS[agent]),
        previous: None,
        expected_back_ms: 0,
        silence_bound_ms: SILENCE_BOUND_MS,
    };
    encode_frame(said, &identity, Pm2Info::default)
}
