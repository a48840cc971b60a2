//! One state of everything: the sidecar's process and disk, its connections, the hub, the agent's session and files,
//! the supervisor, and what is left of the budget. Data only; `step` moves it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::machine::invariants::History;
use agentcom::machine::{Disk, Job, Journal, Machine, Phase, Stage, TaskId, Timestamp};

use super::asked::Asked;
use super::connection::{Conn, End};
use super::hub::Hub;
use super::scope::Budget;
use super::violation::Violation;

/// The sidecar's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Process {
    Runs(Arc<Machine>),
    /// The supervisor will bring it back.
    Down,
    /// It will not.
    GivenUp,
}

/// How a disk fails a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskFault {
    /// Nothing is written.
    Refuses,
    /// It is written, and said not to be: the folder's fsync fails after the rename.
    Misreports,
}

/// A wake command that runs. It outlives the process that ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WakeRun {
    pub task: TaskId,
    pub generation: u64,
    pub attempt: u8,
    /// The process that ordered it lives and will hear how it went.
    pub frame_received: bool,
    /// It has started the agent's session.
    pub launched: bool,
}

/// The agent's session at work on a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    pub task: TaskId,
    pub started: bool,
}

/// What a result file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultFile {
    Success,
    Failure,
}

/// The results folder, for one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Files {
    pub started: bool,
    pub result: Option<ResultFile>,
}

/// What only a spectator remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The sidecar's own properties, over all its lives.
    pub history: Arc<History>,
    /// Hand-outs that started an agent's session.
    pub launched: BTreeSet<(TaskId, u64)>,
    /// Hand-outs that the sidecar said `task_accepted` for. (The frame names no generation: what a hub takes for the
    /// acceptance of a later assignment is no promise.)
    pub promised: BTreeSet<(TaskId, u64)>,
    /// Hand-outs whose verdict a hub counted.
    pub counted: BTreeSet<(String, u64)>,
    /// Commands that ended a process.
    pub carried_out: BTreeSet<String>,
    /// Tasks that an agent's session is known to be at work on: the machine was told, and neither an end nor a reboot
    /// came since.
    pub at_work: BTreeSet<TaskId>,
    /// This process has said `agent_restarting`.
    pub announced: bool,
    /// An operator on the machine took a restart back, or it was refused. An existing hub has no word for that, and may
    /// repeat its command.
    pub taken_back: bool,
    /// When the restart that is under way was accepted.
    pub accepted_at: Option<Timestamp>,
    /// When those that ended a process had been accepted.
    pub restarts: Vec<Timestamp>,
    /// By when the process that accepted a restart, or was told to stop, must be gone.
    pub gone_by: Option<Timestamp>,
}

/// A task's id and generation, or none.
pub type Named = Option<(String, u64)>;

#[derive(Debug, Clone)]
pub struct World {
    pub process: Process,
    /// Names the process's run.
    pub run: u8,
    pub reboots: u8,
    /// `queue.json`.
    pub disk: Arc<Journal>,
    pub disk_fault: Option<DiskFault>,
    /// What the process waits to be told.
    pub asked: Asked,
    /// Oldest first.
    pub conns: Vec<Conn>,
    /// How many connections have been dialled.
    pub dials: ConnId,
    pub hub: Arc<Hub>,
    pub commands: u8,
    pub tasks: u8,
    pub wakes: Vec<WakeRun>,
    pub sessions: Vec<Session>,
    /// By task.
    pub files: Vec<Files>,
    pub left_behind: Budget,
    pub ghost: Ghost,
    pub violation: Option<Violation>,
}

/// How many connections have been before decides nothing: they are known by their rank among those that live.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { process, run, reboots, disk, disk_fault, asked, conns, dials: _, hub, commands, .. } = self;
        (process, run, reboots, disk, disk_fault, asked, conns, commands).hash(hasher);
        hub.state_hash(|id| conns.iter().filter(|conn| conn.id <= id).count(), hasher);
        let Self { tasks, wakes, sessions, files, left_behind, ghost, violation, .. } = self;
        (tasks, wakes, sessions, files, left_behind, ghost, violation).hash(hasher);
    }
}

/// Equal is what has one digest, as for stateright.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let print = |world: &Self| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        print(self) == print(other)
    }
}

/// The n-th task.
pub fn task_id(number: usize) -> TaskId {
    TaskId::new(["t1", "t2"][number]).expect("a plain name")
}

impl World {
    pub fn machine(&self) -> Option<&Arc<Machine>> {
        match &self.process {
            Process::Runs(machine) => Some(machine),
            Process::Down | Process::GivenUp => None,
        }
    }

    /// The connection that the sidecar's process holds.
    pub fn own_conn(&self) -> Option<usize> {
        self.conns.iter().position(|conn| conn.side != End::Closed)
    }

    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..usize::from(self.tasks)).map(task_id)
    }

    pub fn files(&self, id: &TaskId) -> Option<&Files> {
        self.task_ids().position(|known| known == *id).and_then(|index| self.files.get(index))
    }

    pub fn files_mut(&mut self, id: &TaskId) -> Option<&mut Files> {
        let index = self.task_ids().position(|known| known == *id)?;
        self.files.get_mut(index)
    }

    /// Whether what is on disk answers for the task: as work in hand or as a verdict. (What is parked waits for
    /// the hub to hand the task out anew.)
    pub fn disk_answers_for(&self, id: &TaskId) -> bool {
        self.disk.job.as_ref().is_some_and(|persisted| persisted.task.id == *id) || self.disk_holds_verdict(id)
    }

    pub fn disk_holds_verdict(&self, id: &TaskId) -> bool {
        self.disk.outbox.iter().any(|verdict| verdict.task_id == *id)
    }

    /// Whether nothing is on its way between the sidecar and the hub, and they are connected.
    pub fn is_quiet(&self) -> bool {
        self.conns.len() == 1 && self.conns.iter().all(Conn::is_quiet)
    }

    /// The task and generation that our hub names and that the sidecar names, once nothing more is said.
    pub fn books(&self) -> Option<(Named, Named)> {
        let Hub::Ours(hub) = &*self.hub else { return None };
        let machine = self.machine()?;
        let said = machine.outbox.head().is_none()
            && machine.deferred.is_none()
            && machine.disk == Disk::Ready
            && machine.connection.can_send()
            && !machine.state.job().is_some_and(Job::is_in_question);
        let stays = matches!(machine.state.phase(), Phase::Idle | Phase::Working | Phase::RestartPending);
        if !(said && stays && self.is_quiet()) {
            return None;
        }
        let task = machine.state.job().map(Job::task);
        Some((hub.names()?, task.map(|task| (task.id.to_string(), task.generation))))
    }

    /// Whether the machine waits for somebody who is not there: the task counts as running, and neither is a session at
    /// work on it nor has one left its result.
    pub fn waits_for_nobody(&self) -> Option<TaskId> {
        let job =
            self.machine()?.state.job().filter(|job| job.persisted.stage == Stage::Running && !job.is_recovering())?;
        let id = &job.task().id;
        let may_end = self.sessions.iter().any(|session| session.task == *id && session.started)
            || self.files(id).is_some_and(|files| files.result.is_some());
        (!may_end).then(|| id.clone())
    }

    /// The supervisor gave up, and the hub has let go of the agent: no command is open, and it holds no task. (Who commands
    /// an existing hub's restarts keeps his own count.)
    pub fn is_let_go(&self) -> bool {
        let open = matches!(*self.hub, Hub::Ours(_)) && self.hub.restart_is_open();
        self.process == Process::GivenUp && !open && !self.task_ids().any(|id| self.hub.is_held(&id))
    }

    /// The good end: every task ended, every command ended, the sidecar idle and connected, nothing left to say.
    pub fn is_well(&self) -> bool {
        let Some(machine) = self.machine() else { return false };
        machine.state.phase() == Phase::Idle
            && machine.check.is_none()
            && machine.outbox.is_empty()
            && machine.connection.online().is_some()
            && self.is_quiet()
            && (self.ghost.taken_back || !self.hub.restart_is_open())
            && self.task_ids().all(|id| self.hub.task(&id).is_some_and(|(over, _, _)| over))
    }
}
