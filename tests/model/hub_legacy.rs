//! An existing AgentCom hub as the sidecar meets it, by the rules of `docs/protocol.md`: it takes a task back with the
//! socket, hands it out again before or after it answers a question about it, enters it before it pushes it (to nobody
//! where the socket has closed meanwhile: then only the acceptance timer frees it), refuses `agent_restarting`, knows
//! no command ids, and repeats its command on reconnect. Rate limits and other agents are left out.

use std::hash::{Hash, Hasher};

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::machine::{Features, FromHub, RestartOrder, Task, TaskId, ToHub, VerdictRefusal};

use super::hub::Out;

const ACCEPT_MS: u64 = 40_000;
const MAX_RETRIES: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Queued,
    Assigned,
    Completed,
    DeadLetter,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    id: TaskId,
    status: Status,
    generation: u64,
    failures: u8,
}

/// The hub's own view of the agent, tied to the connection that identified last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Worker {
    conn: ConnId,
    task: Option<TaskId>,
    accepted: bool,
    accept_in_ms: Option<u64>,
    /// The connection of the verdict that has just freed it while a task was waiting.
    freed_on: Option<ConnId>,
}

impl Worker {
    fn idle(conn: ConnId) -> Self {
        Self { conn, task: None, accepted: false, accept_in_ms: None, freed_on: None }
    }
}

/// An assignment that is entered and not pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entered {
    id: TaskId,
    /// The connection on which a verdict made the agent free for it a moment ago.
    after_verdict_on: Option<ConnId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyHub {
    tasks: Vec<Entry>,
    worker: Option<Worker>,
    entered: Option<Entered>,
    /// Where frames to the agent go: the older of two connections.
    registry: Option<ConnId>,
    /// Every connection that the agent has identified on and that is not known to have ended.
    here: Vec<ConnId>,
    /// Whoever commanded says it again at every identify until presence shows the restart, this many times.
    command_open: bool,
    repeats: u8,
}

impl LegacyHub {
    pub fn new() -> Self {
        Self {
            tasks: Vec::new(),
            worker: None,
            entered: None,
            registry: None,
            here: Vec::new(),
            command_open: false,
            repeats: 1,
        }
    }

    pub fn state_hash(&self, rank: impl Fn(ConnId) -> usize, hasher: &mut impl Hasher) {
        let Self { tasks, worker, entered, registry, here, command_open, repeats } = self;
        (tasks, registry.map(&rank), command_open, repeats).hash(hasher);
        let view = |Entered { id, after_verdict_on }: &Entered| (id.clone(), after_verdict_on.map(&rank));
        entered.as_ref().map(view).hash(hasher);
        here.iter().for_each(|conn| rank(*conn).hash(hasher));
        let view = |Worker { conn, task, accepted, accept_in_ms, freed_on }: &Worker| {
            (rank(*conn), task.clone(), *accepted, *accept_in_ms, freed_on.map(&rank))
        };
        worker.as_ref().map(view).hash(hasher);
    }

    pub fn passes(&mut self, ms: u64) {
        if let Some(Worker { accept_in_ms, freed_on, .. }) = &mut self.worker {
            *accept_in_ms = accept_in_ms.map(|left_behind| left_behind.saturating_sub(ms));
            freed_on.take_if(|_| ms > 0);
        }
    }

    pub fn due_in(&self) -> Option<u64> {
        self.worker.as_ref().and_then(|worker| worker.accept_in_ms)
    }

    /// The acceptance timer.
    pub fn tick(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        if worker.accept_in_ms == Some(0) {
            worker.accept_in_ms = None;
            worker.accepted = false;
            if let Some(id) = worker.task.take() {
                self.take_back(&id);
            }
        }
    }

    /// The assignment that the acceptance timer has run out on, and the connection that it waits for.
    pub fn gives_up_on(&self) -> Option<(TaskId, u64, ConnId)> {
        let worker = self.worker.as_ref().filter(|worker| worker.accept_in_ms == Some(0))?;
        let entry = self.assigned(worker.task.as_ref()?)?;
        Some((entry.id.clone(), entry.generation, worker.conn))
    }

    pub fn submit(&mut self, id: &TaskId) {
        self.tasks.push(Entry { id: id.clone(), status: Status::Queued, generation: 0, failures: 0 });
    }

    pub fn cancel(&mut self, id: &TaskId, outs: &mut Vec<Out>) {
        let Some(entry) = self.tasks.iter_mut().find(|entry| entry.id == *id) else { return };
        if matches!(entry.status, Status::Queued | Status::Assigned) {
            entry.status = Status::Cancelled;
            if let Some(worker) = self.worker.as_mut().filter(|worker| worker.task.as_ref() == Some(id)) {
                *worker = Worker::idle(worker.conn);
                let cancelled = FromHub::TaskCancelled { task_id: id.to_string() };
                outs.extend(self.registry.map(|conn| Out::Outgoing(conn, cancelled)));
            }
        }
    }

    pub fn can_command(&self) -> bool {
        self.registry.is_some()
    }

    pub fn command(&mut self, force: bool, outs: &mut Vec<Out>) {
        // This hub has no word for it.
        let _ = force;
        self.command_open = true;
        self.say_restart(outs);
    }

    fn say_restart(&self, outs: &mut Vec<Out>) {
        let order = RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None };
        outs.extend(self.registry.map(|conn| Out::Outgoing(conn, FromHub::RestartCommanded(order))));
    }

    /// Whether an idle agent stands beside a waiting task: handing it out is a step of its own, so that it comes before
    /// or after whatever else is answered.
    pub fn can_schedule(&self) -> bool {
        self.entered.is_none()
            && self.registry.is_some()
            && self.worker.as_ref().is_some_and(|worker| worker.task.is_none())
            && self.tasks.iter().any(|entry| entry.status == Status::Queued)
    }

    /// The scheduler enters the assignment. The socket is told by a step of its own.
    pub fn schedule(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let Some(entry) = self.tasks.iter_mut().find(|entry| entry.status == Status::Queued) else { return };
        entry.status = Status::Assigned;
        entry.generation += 1;
        let after_verdict_on = worker.freed_on.take();
        self.entered = Some(Entered { id: entry.id.clone(), after_verdict_on });
    }

    pub fn can_push(&self) -> bool {
        self.entered.is_some()
    }

    /// The socket hands the task to the agent, and its acceptance timer begins. Without a socket nobody hears of it.
    pub fn push(&mut self, outs: &mut Vec<Out>) {
        let Some(Entered { id, after_verdict_on: _ }) = self.entered.take() else { return };
        let (Some(conn), Some(entry)) = (self.registry, self.assigned(&id)) else { return };
        let task = Task { id: entry.id.clone(), generation: entry.generation, payload: "{}".into() };
        if let Some(worker) = self.worker.as_mut().filter(|worker| worker.task.is_none()) {
            (worker.task, worker.accept_in_ms) = (Some(id), Some(ACCEPT_MS));
        }
        outs.push(Out::Outgoing(conn, FromHub::Assigned { task, assigned_at: None, timeout_ms: None }));
    }

    /// Whether a verdict on `conn` has just made the agent free, and the next task is not pushed yet.
    pub fn is_about_to_push(&self, conn: ConnId) -> bool {
        let freed_on = self.worker.as_ref().filter(|_| self.can_schedule()).and_then(|worker| worker.freed_on);
        let entered = self.entered.as_ref().and_then(|entered| entered.after_verdict_on);
        freed_on == Some(conn) || entered == Some(conn)
    }

    /// Whichever of the agent's connections ends, those that remain hear that the agent has left.
    pub fn gone(&mut self, conn: ConnId, outs: &mut Vec<Out>) {
        let known = self.here.len();
        self.here.retain(|other| *other != conn);
        if self.here.len() < known {
            outs.extend(self.here.iter().map(|other| Out::Outgoing(*other, FromHub::Forgotten)));
        }
        if self.registry == Some(conn) {
            self.registry = None;
        }
        if self.worker.as_ref().is_some_and(|worker| worker.conn == conn)
            && let Some(Worker { task: Some(id), .. }) = self.worker.take()
        {
            self.take_back(&id);
        }
        let verdicts = self.worker.iter_mut().map(|worker| &mut worker.freed_on);
        for on in verdicts.chain(self.entered.iter_mut().map(|entered| &mut entered.after_verdict_on)) {
            on.take_if(|on| *on == conn);
        }
    }

    pub fn hears(&mut self, conn: ConnId, said: &ToHub, outs: &mut Vec<Out>) {
        match said {
            ToHub::Identify { .. } => self.identified(conn, outs),
            ToHub::Status { status } => self.command_open &= !status.starts_with("restarting"),
            ToHub::TaskAccepted { task_id, generation: _ } => {
                if let Some(worker) = self.worker.as_mut().filter(|w| w.task.as_ref() == Some(task_id)) {
                    (worker.accepted, worker.accept_in_ms) = (true, None);
                }
                outs.push(Out::Outgoing(conn, FromHub::AcceptAcknowledged { task_id: task_id.to_string() }));
            }
            ToHub::TaskComplete { task_id, generation, result: _ } => {
                self.verdict(conn, task_id.as_str(), *generation, true, outs);
            }
            ToHub::TaskFailed { task_id, generation, reason: _ } => {
                self.verdict(conn, task_id, *generation, false, outs);
            }
            ToHub::TaskRecovering { task, last_status: _ } => {
                let task_id = task.id.to_string();
                let answer = match self.assigned(&task.id) {
                    Some(entry) => FromHub::TaskContinue { task_id, generation: Some(entry.generation) },
                    None => FromHub::TaskReassigned { task_id, generation: None },
                };
                outs.push(Out::Outgoing(conn, answer));
            }
            ToHub::StateReport { task_id, generation, .. } => {
                let go_on = self.assigned(task_id).is_some_and(|entry| entry.generation == *generation);
                outs.push(Out::Outgoing(conn, FromHub::ReportAnswered { task_id: task_id.to_string(), go_on }));
            }
            // `agent_restarting` and `task_rejected` are unknown here; the rest has no bearing on a task or a restart.
            ToHub::AgentRestarting { .. }
            | ToHub::TaskRejected { .. }
            | ToHub::RestartAck { .. }
            | ToHub::Cordon { .. }
            | ToHub::ParkedReport { .. }
            | ToHub::Ping
            | ToHub::TaskProgress { .. }
            | ToHub::WakeResult { .. } => {}
        }
    }

    fn identified(&mut self, conn: ConnId, outs: &mut Vec<Out>) {
        let task = self.tasks.iter().find(|entry| entry.status == Status::Assigned).map(|entry| entry.id.clone());
        let accept_in_ms = task.is_some().then_some(ACCEPT_MS);
        self.worker = Some(Worker { task, accept_in_ms, ..Worker::idle(conn) });
        self.registry.get_or_insert(conn);
        self.here.retain(|other| *other != conn);
        self.here.push(conn);
        outs.push(Out::Outgoing(conn, FromHub::Identified { features: Features::default() }));
        if self.command_open && self.repeats > 0 {
            self.repeats -= 1;
            self.say_restart(outs);
        }
    }

    fn verdict(&mut self, conn: ConnId, task_id: &str, generation: u64, complete: bool, outs: &mut Vec<Out>) {
        let refused = |why| Out::Outgoing(conn, FromHub::VerdictRefused { complete, why, of: None });
        let Some(entry) = self.tasks.iter_mut().find(|entry| entry.id.as_str() == task_id) else {
            return outs.push(refused(VerdictRefusal::Never));
        };
        match entry.status {
            Status::Assigned if entry.generation == generation => {}
            Status::Assigned | Status::Queued | Status::Completed => {
                return outs.push(refused(VerdictRefusal::NotNow));
            }
            Status::DeadLetter | Status::Cancelled => return outs.push(refused(VerdictRefusal::Never)),
        }
        if complete {
            entry.status = Status::Completed;
        } else {
            entry.failures += 1;
            entry.status = if entry.failures >= MAX_RETRIES { Status::DeadLetter } else { Status::Queued };
            entry.generation += u64::from(entry.status == Status::Queued);
        }
        // Who never said that it accepted is not taken to be at work, and so not to be free now: its timer runs on.
        if let Some(worker) = self.worker.as_mut().filter(|worker| worker.accepted) {
            let waits = self.tasks.iter().any(|entry| entry.status == Status::Queued);
            *worker = Worker { freed_on: waits.then_some(conn), ..Worker::idle(worker.conn) };
        }
        outs.push(Out::Counted(task_id.to_string(), generation));
        outs.push(Out::Outgoing(conn, FromHub::VerdictAcknowledged { task_id: task_id.to_string() }));
    }

    fn assigned(&self, id: &TaskId) -> Option<&Entry> {
        self.tasks.iter().find(|entry| entry.id == *id && entry.status == Status::Assigned)
    }

    fn take_back(&mut self, id: &TaskId) {
        if let Some(entry) = self.tasks.iter_mut().find(|e| e.id == *id && e.status == Status::Assigned) {
            entry.status = Status::Queued;
            entry.generation += 1;
        }
    }

    /// Whether the task has ended, its generation, and whether it is accepted for that.
    pub fn task(&self, id: &TaskId) -> Option<(bool, u64, bool)> {
        let entry = self.tasks.iter().find(|entry| entry.id == *id)?;
        let over = matches!(entry.status, Status::Completed | Status::DeadLetter | Status::Cancelled);
        let accepted = self.worker.as_ref().is_some_and(|w| w.accepted && w.task.as_ref() == Some(id));
        Some((over, entry.generation, accepted && entry.status == Status::Assigned))
    }

    pub fn is_held(&self, id: &TaskId) -> bool {
        self.assigned(id).is_some()
    }

    /// Its tasks are on disk, flushed at every change, an assigned one as assigned; of agents it knows nothing more. Whoever
    /// commanded a restart is somebody else, and remembers.
    pub fn crashes(&mut self) {
        self.worker = None;
        self.entered = None;
        self.registry = None;
        self.here.clear();
    }

    pub fn restart_is_open(&self) -> bool {
        self.command_open && self.repeats > 0
    }
}
