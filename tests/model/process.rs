//! The sidecar's process: an event through the shipped transition function, its effects in order, a write's outcome as
//! the next event, and death after any effect. It is the shell's loop and no more; every transition is judged.

use std::sync::Arc;

use agentcom::machine::invariants::{StepRecord, check_step};
use agentcom::machine::{
    Cause, CloseCode, Disk, Effect, Event, FromHub, Journal, Machine, Notice, PersistedJob, Phase, Stage, Task, TaskId,
    Timestamp, ToHub, transition,
};

use super::action::Die;
use super::asked::{Asked, Numbers};
use super::connection::{Conn, End, Up};
use super::facts::Fact;
use super::hub::Hub;
use super::rebase::{NOW, Shift, undated};
use super::scope::{DRAIN_DEADLINE_MS, RESTART_DEADLINE_MS, STOP_BUDGET_MS};
use super::story::Beat;
use super::system::System;
use super::violation::{Violation, violated};
use super::world::{DiskFault, Process, WakeRun, World};

/// One handling of an event, with all that follows from its writes.
pub struct Handling<'a> {
    pub system: &'a System,
    pub world: &'a mut World,
    pub die: Die,
    /// What happened, for a story or for the points to die at.
    pub beats: Option<&'a mut Vec<Beat>>,
    performed: u8,
    cause: CauseOfStep,
}

/// What the present transition is about, as far as its effects are judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CauseOfStep {
    Deadline,
    Cancelled,
    Other,
}

/// Whether the process lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Lives,
    Ended,
}

impl<'a> Handling<'a> {
    pub fn new(system: &'a System, world: &'a mut World, die: Die, beats: Option<&'a mut Vec<Beat>>) -> Self {
        Self { system, world, die, beats, performed: 0, cause: CauseOfStep::Other }
    }

    /// An event happens to the running process.
    pub fn event(mut self, event: Event) -> Result<(), Violation> {
        let (machine, effects) = self.step(event)?;
        self.perform(machine, effects)
    }

    /// The supervisor starts the process.
    pub fn start(mut self) -> Result<(), Violation> {
        self.world.run += 1;
        let policy = self.system.policy(self.world);
        let (machine, effects) = Machine::recover((*self.world.disk).clone(), NOW, policy);
        self.tell(Beat::Starts);
        self.perform(machine, effects)
    }

    fn tell(&mut self, beat: Beat) {
        if let Some(beats) = &mut self.beats {
            beats.push(beat);
        }
    }

    fn step(&mut self, event: Event) -> Result<(Machine, Vec<Effect>), Violation> {
        let Process::Runs(before) = &self.world.process else {
            return Err(violated("model", format!("{event:?} happened to no process")));
        };
        let before = Arc::clone(before);
        let policy = self.system.policy(self.world);
        let (after, effects) = transition((*before).clone(), event.clone(), NOW, policy);
        let step = StepRecord { before: &before, event: &event, now: NOW, policy, after: &after, effects: &effects };
        self.tell(Beat::Event(event.clone()));
        self.cause = match &event {
            Event::DeadlineReached => CauseOfStep::Deadline,
            Event::HubSaid(FromHub::TaskCancelled { .. }) => CauseOfStep::Cancelled,
            // The outcome of a write belongs to what led to it.
            Event::Persisted | Event::PersistFailed => self.cause,
            _ => CauseOfStep::Other,
        };
        check_step(&step)?;
        Arc::make_mut(&mut self.world.ghost.history).observe(&step)?;
        self.system.facts.step(&before, &event, &after, &effects);
        deferred_is_answered(&before, &event, &after, &effects)?;
        self.promise(&before, &after, &event);
        self.remember(&before, &after, &event);
        Ok((after, effects))
    }

    fn remember(&mut self, before: &Machine, after: &Machine, event: &Event) {
        let ghost = &mut self.world.ghost;
        if before.restarts.open.is_none() && after.restarts.open.is_some() {
            ghost.accepted_at = Some(NOW);
        }
        if before.restarts.open.is_some() && after.restarts.open.is_none() {
            ghost.accepted_at = None;
        }
        if let (Event::Confirmed { task_id }, Some(job)) = (event, after.state.job())
            && job.task().id == *task_id
            && job.persisted.stage == Stage::Running
        {
            ghost.at_work.insert(task_id.clone());
        }
    }

    /// From the command to the exit: the latest moment that was promised.
    fn promise(&mut self, before: &Machine, after: &Machine, event: &Event) {
        let by = match (before.state.phase(), after.state.phase()) {
            (Phase::RestartPending, Phase::Working) => {
                self.world.ghost.gone_by = None;
                return;
            }
            (Phase::Idle | Phase::Working | Phase::RestartPending, Phase::RestartPending) if matches!(event, Event::HubSaid(FromHub::RestartCommanded(order)) if order.force) => {
                DRAIN_DEADLINE_MS
            }
            (Phase::Idle | Phase::Working, Phase::RestartPending) => RESTART_DEADLINE_MS + DRAIN_DEADLINE_MS,
            (_, Phase::Draining | Phase::Exiting) if matches!(event, Event::StopRequested { .. }) => STOP_BUDGET_MS,
            (Phase::Idle | Phase::Working, Phase::Draining) => DRAIN_DEADLINE_MS,
            _ => return,
        };
        let by = NOW.plus(by);
        let gone_by = &mut self.world.ghost.gone_by;
        *gone_by = Some(gone_by.map_or(by, |known: Timestamp| known.min(by)));
    }

    fn perform(&mut self, machine: Machine, effects: Vec<Effect>) -> Result<(), Violation> {
        let (mut machine, mut effects) = (machine, effects);
        loop {
            let open = Numbers::of(&machine);
            self.world.asked.moved(open, self.system.scope.budget.delays > 0);
            Shift(0).machine(&mut machine);
            self.world.process = Process::Runs(Arc::new(machine));
            let mut outcome = None;
            for effect in effects {
                if self.die == Some(self.performed) {
                    self.system.facts.crash(&self.world.disk, true);
                    self.tell(Beat::Dies);
                    return self.dies();
                }
                self.performed += 1;
                self.tell(Beat::Effect(effect.clone()));
                if let Effect::Persist(journal) = effect {
                    outcome = Some(self.write(*journal));
                } else if let Effect::KeepRefused { task_id, generation, result: _ } = effect {
                    let written = self.world.disk_fault.is_none();
                    let path = written.then(|| "rejected".to_owned());
                    outcome = Some(Event::RefusedResultWritten { task_id, generation, path });
                } else if self.carry_out(effect, open)? == Life::Ended {
                    return Ok(());
                }
            }
            let Some(event) = outcome else { break };
            (machine, effects) = self.step(event)?;
        }
        if self.die.is_some() {
            return Err(violated("model", "a death was planned after the last effect".to_string()));
        }
        self.at_rest()
    }

    /// When nothing is being written, and the last write did not fail, the machine knows what the disk holds.
    fn at_rest(&self) -> Result<(), Violation> {
        let Process::Runs(machine) = &self.world.process else { return Ok(()) };
        let in_doubt = matches!(machine.disk, Disk::Failing { .. });
        if machine.durable != *self.world.disk && !in_doubt {
            return Err(violated("disk_as_believed", format!("{:?} is on disk", self.world.disk)));
        }
        Ok(())
    }

    fn write(&mut self, mut journal: Journal) -> Event {
        if self.world.disk_fault == Some(DiskFault::Refuses) {
            return Event::PersistFailed;
        }
        Shift(0).journal(&mut journal);
        self.world.disk = Arc::new(journal);
        if self.world.disk_fault == Some(DiskFault::Misreports) {
            self.system.saw(Fact::WrittenAndDenied);
            return Event::PersistFailed;
        }
        Event::Persisted
    }

    fn carry_out(&mut self, effect: Effect, open: Numbers) -> Result<Life, Violation> {
        match effect {
            Effect::Notify(Notice::RestartRefused { .. }) => {
                self.world.ghost.taken_back |= matches!(*self.world.hub, Hub::Legacy(_));
            }
            Effect::Persist(_)
            | Effect::Notify(_)
            | Effect::Reply { .. }
            | Effect::PassOn(_)
            | Effect::KeepRefused { .. } => {}
            Effect::CheckNextRun { number, .. } => self.world.asked.check |= Some(number) == open.check,
            Effect::LookForResults { number } => self.world.asked.look |= Some(number) == open.look,
            Effect::RunResultHook { number, .. } => self.world.asked.review |= Some(number) == open.review,
            Effect::Send(said) => self.say(said)?,
            Effect::Wake { task, attempt } => self.wake(task, attempt)?,
            Effect::Dial => self.dial(),
            Effect::CloseLink(code) => {
                if code == CloseCode::Restarting && !self.world.ghost.announced {
                    return Err(violated(
                        "announced",
                        "the link is closed for a restart that nobody was told of".into(),
                    ));
                }
                self.next_task_is_awaited(code)?;
                if let Some(conn) = self.world.own_conn().map(|index| &mut self.world.conns[index])
                    && conn.side == End::Open
                    && conn.hub != End::Closed
                {
                    conn.up.push_back(Up::Close);
                }
            }
            Effect::CleanUp { task_id, .. } => {
                self.result_is_kept(&task_id)?;
                self.late_session_is_kept(&task_id)?;
                self.world.ghost.at_work.remove(&task_id);
                if let Some(files) = self.world.files_mut(&task_id) {
                    *files = super::world::Files::default();
                }
            }
            Effect::WithdrawWake { task_id: _ } => {}
            Effect::DropSign { task_id } => {
                if self.world.ghost.at_work.contains(&task_id) {
                    return Err(violated(
                        "work_is_adopted",
                        format!("the sign of {task_id} is dropped under its session"),
                    ));
                }
                let files = self.world.files_mut(&task_id);
                if files.is_some_and(|files| std::mem::take(&mut files.started)) {
                    self.system.saw(Fact::OldSignDropped);
                }
            }
            Effect::Exit { cause, ending: _ } => {
                self.exits(&cause)?;
                return Ok(Life::Ended);
            }
        }
        Ok(Life::Lives)
    }

    fn say(&mut self, said: ToHub) -> Result<(), Violation> {
        if let (ToHub::TaskAccepted { task_id, generation: _ }, Process::Runs(machine)) = (&said, &self.world.process) {
            let leaving = matches!(machine.state.phase(), Phase::Draining | Phase::Exiting);
            let answered = machine.outbox.iter().any(|v| v.task_id == *task_id && v.accept_first);
            if leaving && !answered {
                return Err(violated("race", format!("{task_id} was accepted while leaving")));
            }
            let job = machine.state.job().map(agentcom::machine::Job::task).filter(|task| task.id == *task_id);
            let verdict = machine.outbox.iter().find(|v| v.task_id == *task_id && v.accept_first);
            let generation = job.map(|task| task.generation).or(verdict.map(|verdict| verdict.generation));
            self.world.ghost.promised.extend(generation.map(|generation| (task_id.clone(), generation)));
        }
        self.world.ghost.announced |= matches!(said, ToHub::AgentRestarting { .. });
        if !self.world.hub.listens_to(&said) {
            return Ok(());
        }
        let said = undated(said);
        if let Some(conn) = self.world.own_conn().map(|index| &mut self.world.conns[index])
            && conn.hub != End::Closed
            && conn.up.back() != Some(&Up::Close)
        {
            conn.up.push_back(Up::Frame(said));
        }
        Ok(())
    }

    /// The result of work under way goes only after the disk holds the verdict, or the hub has no use for it. (A session
    /// that nobody waits for any more may write one all the same.)
    fn result_is_kept(&self, id: &TaskId) -> Result<(), Violation> {
        let is_there = self.world.files(id).is_some_and(|files| files.result.is_some());
        let wanted = self.world.hub.task(id).is_some_and(|(over, _, _)| !over);
        let cancelled = self.cause == CauseOfStep::Cancelled;
        let under_way = |persisted: &PersistedJob| persisted.task.id == *id && persisted.is_under_way();
        let is_there = is_there && self.world.disk.job.as_ref().is_some_and(under_way);
        if is_there && wanted && !cancelled && !self.world.disk_holds_verdict(id) {
            return Err(violated("result_is_kept", format!("{id}'s result is removed, and the disk does not hold it")));
        }
        Ok(())
    }

    /// The files of a session at work go only with a verdict that somebody's coming led to, or a cancellation: also those of
    /// one that came after its task was given up.
    fn late_session_is_kept(&self, id: &TaskId) -> Result<(), Violation> {
        let Process::Runs(machine) = &self.world.process else { return Ok(()) };
        let at_work = self.world.sessions.iter().any(|session| session.task == *id && session.started);
        let came = machine.outbox.iter().any(|verdict| verdict.task_id == *id && !verdict.no_session_came);
        if at_work && !came && self.cause != CauseOfStep::Cancelled {
            return Err(violated(
                "late_session_is_kept",
                format!("{id}'s files are removed under a session that came late"),
            ));
        }
        Ok(())
    }

    fn wake(&mut self, task: Task, attempt: u8) -> Result<(), Violation> {
        let Task { id, generation, payload: _ } = task;
        let alive = self.world.sessions.iter().any(|session| session.task == id && session.started);
        if alive && self.world.ghost.at_work.contains(&id) {
            return Err(violated("work_is_adopted", format!("{id} is under way and is started again")));
        }
        self.world.wakes.push(WakeRun { task: id, generation, attempt, frame_received: true, launched: false });
        Ok(())
    }

    fn dial(&mut self) {
        self.world.dials += 1;
        self.world.conns.push(Conn::dialled(self.world.dials, self.world.run));
    }

    fn exits(&mut self, cause: &Cause) -> Result<(), Violation> {
        if let Cause::Restart { .. } = cause {
            self.restart_is_clean(cause)?;
        }
        if let Cause::Restart { order, .. } = cause
            && let Some(id) = &order.command_id
            && !self.world.ghost.carried_out.insert(id.clone())
        {
            return Err(violated("one_restart", format!("command {id} ended a second process")));
        }
        self.system.facts.crash(&self.world.disk, false);
        self.dies()
    }

    /// The final messages have arrived unless time is up, and there were not too many restarts lately.
    fn restart_is_clean(&mut self, cause: &Cause) -> Result<(), Violation> {
        let hurried = self.cause == CauseOfStep::Deadline || matches!(cause, Cause::Restart { signalled: true, .. });
        let unheard = self.world.own_conn().map(|index| &self.world.conns[index]);
        if unheard.is_some_and(|conn| conn.side == End::Open && conn.hub == End::Open) && !hurried {
            return Err(violated(
                "final_messages_arrive",
                "the process went before the hub closed its end".to_string(),
            ));
        }
        let ghost = &mut self.world.ghost;
        ghost.restarts.extend(ghost.accepted_at);
        let limit = self.system.scope.intensity;
        if ghost.restarts.len() as u64 > u64::from(limit) {
            let count = ghost.restarts.len();
            return Err(violated(
                "restart_intensity",
                format!("{count} restarts within the window, {limit} are allowed"),
            ));
        }
        Ok(())
    }

    /// The process is gone, however it ended: what it had said is still on its way, what it was told is lost.
    pub fn dies(&mut self) -> Result<(), Violation> {
        let rebooted = false;
        process_ends(self.world, rebooted)
    }
}

/// An assignment that waited is taken or refused when the wait ends, unless it went with the link or was cancelled.
fn deferred_is_answered(before: &Machine, event: &Event, after: &Machine, effects: &[Effect]) -> Result<(), Violation> {
    let Some(deferred) = &before.deferred else { return Ok(()) };
    if matches!(event, Event::HubClosed { .. }) && after.deferred.is_some() {
        return Err(violated("deferred_is_answered", format!("{} waits without its connection", deferred.task.id)));
    }
    let gone = matches!(event, Event::HubClosed { .. } | Event::HubSaid(FromHub::TaskCancelled { .. }));
    let id = &deferred.task.id;
    let refused = |effect: &Effect| matches!(effect, Effect::Notify(Notice::AssignmentRefused { task_id, .. }) if task_id == id.as_str());
    let answered = after.deferred.is_some()
        || after.state.job().is_some_and(|job| job.task().id == *id)
        || after.outbox.iter().any(|verdict| verdict.task_id == *id)
        || effects.iter().any(refused);
    if !gone && !answered {
        return Err(violated("deferred_is_answered", format!("{id} was neither taken nor refused")));
    }
    Ok(())
}

/// The process is gone.
pub fn process_ends(world: &mut World, rebooted: bool) -> Result<(), Violation> {
    world.process = Process::Down;
    world.asked = Asked::default();
    world.ghost.gone_by = None;
    world.ghost.accepted_at = None;
    world.ghost.announced = false;
    for conn in &mut world.conns {
        conn.side_closes();
    }
    for wake in &mut world.wakes {
        wake.frame_received = false;
    }
    Arc::make_mut(&mut world.ghost.history).crashed(&world.disk, rebooted)?;
    Ok(())
}

/// The numbers of effects after which a death is worth trying: those after which the world differs.
pub fn points_to_die(beats: &[Beat]) -> Vec<u8> {
    let effects: Vec<&Effect> = beats
        .iter()
        .filter_map(|beat| match beat {
            Beat::Effect(effect) => Some(effect),
            Beat::Starts | Beat::Event(_) | Beat::Dies | Beat::Passes(_) => None,
        })
        .collect();
    let shows = |effect: &Effect| match effect {
        Effect::Persist(_)
        | Effect::Wake { .. }
        | Effect::CleanUp { .. }
        | Effect::WithdrawWake { .. }
        | Effect::DropSign { .. }
        | Effect::CloseLink(_)
        | Effect::KeepRefused { .. } => true,
        Effect::Send(said) => !matches!(said, ToHub::Ping | ToHub::TaskProgress { .. } | ToHub::WakeResult { .. }),
        Effect::Dial
        | Effect::CheckNextRun { .. }
        | Effect::RunResultHook { .. }
        | Effect::LookForResults { .. }
        | Effect::PassOn(_)
        | Effect::Reply { .. }
        | Effect::Notify(_)
        | Effect::Exit { .. } => false,
    };
    let inner = effects.iter().enumerate().take(effects.len().saturating_sub(1));
    inner.filter(|(_, effect)| shows(effect)).filter_map(|(index, _)| u8::try_from(index + 1).ok()).collect()
}

impl Handling<'_> {
    /// No goodbye is said on a connection on which an existing hub is about to push the next task after a verdict: that
    /// task would reach nobody, and only the acceptance timer would free it. (Where frames come late, the wait may not
    /// be long enough.)
    fn next_task_is_awaited(&self, code: CloseCode) -> Result<(), Violation> {
        let goodbye = match code {
            CloseCode::Restarting | CloseCode::Stopping | CloseCode::Cordoned => true,
            CloseCode::Unusable => false,
        };
        let own = self.world.own_conn().map(|index| self.world.conns[index].id);
        match (&*self.world.hub, own) {
            (Hub::Legacy(hub), Some(conn))
                if goodbye && self.system.scope.budget.delays == 0 && hub.is_about_to_push(conn) =>
            {
                Err(violated("next_task_is_awaited", "the next task is pushed to a connection that closes".into()))
            }
            (Hub::Legacy(_) | Hub::Ours(_), _) => Ok(()),
        }
    }
}

impl System {
    pub fn saw(&self, fact: Fact) {
        self.facts.saw(fact);
    }
}
