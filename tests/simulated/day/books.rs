//! What must hold of tasks and restarts, as far as it was committed and said: the other end of every promise.

use std::collections::HashMap;

use agentcom::hub::scheduler::restart::{Restart, RestartPhase};
use agentcom::hub::scheduler::task::{Priority, Status, StatusName, Task};
use agentcom::protocol::JsonFields;

use super::sessions::Session;
use super::sidecar::number;
use super::{About, Checked, Violation, of_agent, of_task};

/// What a task does to whoever takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    /// It never works out.
    Poison,
    /// It ends the sidecar beside it.
    Killer,
}

/// Who may do a task.
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    Anybody,
    Gpu,
    Agent(u32),
}

/// One task, as its submitter knows it.
pub struct TaskBook {
    pub nature: Nature,
    pub needs: Needs,
    pub priority: Priority,
    pub work_ms: u64,
    /// When it was submitted first; of one that was submitted again because the hub did not answer, as that.
    pub submitted_at: u64,
    /// How it was committed last; `None` before the first commit.
    stored: Option<TaskFact>,
    /// Whether its end was committed.
    has_ended: bool,
    /// The number of its latest session, plus 1.
    at_work: u32,
    /// Whether its submitter got no answer, and submitted it again as another one.
    pub is_repeated: bool,
}

/// A task as it is committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskFact {
    pub status: StatusName,
    pub generation: u64,
    pub retries: u64,
    pub losses: u64,
    /// Who holds it, or did it.
    pub agent: Option<u32>,
    /// The session that did it.
    session: Option<u32>,
}

impl TaskFact {
    pub fn of(task: &Task) -> Self {
        let session = match &task.status {
            Status::Completed { result, .. } => {
                result.read::<JsonFields>().ok().and_then(|fields| fields.read::<u32>("session"))
            }
            Status::Queued | Status::Assigned { .. } | Status::DeadLetter | Status::Cancelled => None,
        };
        Self {
            status: StatusName::from(&task.status),
            generation: task.generation,
            retries: task.retry_count,
            losses: task.losses,
            agent: task.holder().map(number),
            session,
        }
    }
}

/// A commanded restart.
struct RestartBook {
    agent: u32,
    phase: RestartPhase,
    announced: bool,
    left: bool,
}

/// What a batch changes, to be entered if it is committed.
#[derive(Default)]
pub struct Facts {
    pub tasks: Vec<(u32, Option<TaskFact>)>,
    pub restarts: Vec<(String, Option<(u32, RestartPhase)>)>,
}

/// What a commit of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Nothing,
    /// It is in somebody's hands for the first time, so long after its submission.
    Assigned {
        first_after_ms: u64,
    },
    Reclaimed,
    Retried,
    Ended(StatusName),
}

/// All that is known.
#[derive(Default)]
pub struct Books {
    pub tasks: Vec<TaskBook>,
    restarts: HashMap<String, RestartBook>,
    /// Who was woken for each assignment of a task that has not ended, and whether that is known to have failed.
    woken: HashMap<(u32, u64), (u32, bool)>,
    /// The tasks that were accepted and have not ended.
    pub open: u64,
    /// The version that processes run which start now.
    pub version: u8,
    pub open_restarts: u64,
}

/// Returns the id of a task.
pub fn task_id(task: u32) -> String {
    format!("task-{task:016x}")
}

/// Returns the number of the task with this id.
pub fn task_number(id: &str) -> u32 {
    id.strip_prefix("task-").and_then(|digits| u32::from_str_radix(digits, 16).ok()).expect("a task's id")
}

impl TaskBook {
    pub fn new(nature: Nature, needs: Needs, priority: Priority, work_ms: u64, submitted_at: u64) -> Self {
        Self {
            nature,
            needs,
            priority,
            work_ms,
            submitted_at,
            stored: None,
            has_ended: false,
            at_work: 0,
            is_repeated: false,
        }
    }

    pub fn again(&self) -> Self {
        Self::new(self.nature, self.needs, self.priority, self.work_ms, self.submitted_at)
    }

    /// Whether it was accepted, and has not ended.
    pub fn is_open(&self) -> bool {
        self.stored.is_some() && !self.has_ended
    }

    /// Whether it has ended, or was not accepted: then its submitter has no answer, and has submitted it again.
    pub fn has_outcome(&self) -> bool {
        self.has_ended || (self.stored.is_none() && self.is_repeated)
    }

    pub fn generation(&self) -> u64 {
        self.stored.map_or(0, |stored| stored.generation)
    }
}

impl Books {
    pub fn work_of(&self, task: u32) -> (Nature, u64) {
        let book = &self.tasks[task as usize];
        (book.nature, book.work_ms)
    }

    /// Returns the session that was at work on it before this one.
    pub fn at_work(&mut self, task: u32, session: u32) -> Option<u32> {
        std::mem::replace(&mut self.tasks[task as usize].at_work, session + 1).checked_sub(1)
    }

    /// A session is woken. No assignment has two, and none has two agents.
    pub fn woken(&mut self, task: u32, generation: u64, agent: u32) -> Checked {
        let before = self.woken.insert((task, generation), (agent, false));
        match before {
            Some((other, _)) if other != agent => {
                Err(of_task(task, format!("generation {generation} is woken by agents {other} and {agent}")))
            }
            Some((_, false)) => Err(of_task(task, format!("generation {generation} is woken twice by agent {agent}"))),
            Some((_, true)) | None => Ok(()),
        }
    }

    pub fn wake_failed(&mut self, task: u32, generation: u64) {
        if let Some((_, failed)) = self.woken.get_mut(&(task, generation)) {
            *failed = true;
        }
    }

    /// A task is committed so, or (`None`) deleted.
    pub fn stored(
        &mut self,
        task: u32,
        fact: Option<TaskFact>,
        sessions: &[Session],
        now: u64,
    ) -> Result<Moved, Violation> {
        let book = &mut self.tasks[task as usize];
        let Some(fact) = fact else {
            return match book.has_ended {
                true => Ok(Moved::Nothing),
                false => Err(of_task(task, "it is deleted, and has not ended".to_owned())),
            };
        };
        let before = book.stored.replace(fact);
        let Some(before) = before else {
            self.open += 1;
            return match fact.status {
                StatusName::Queued => Ok(Moved::Nothing),
                StatusName::Assigned => Ok(Moved::Assigned { first_after_ms: now - book.submitted_at }),
                StatusName::Completed | StatusName::DeadLetter | StatusName::Cancelled => {
                    self.ended(task, fact, sessions)
                }
            };
        };
        if book.has_ended {
            return match fact == before {
                true => Ok(Moved::Nothing),
                false => Err(of_task(task, format!("it had ended: {before:?}, and goes on: {fact:?}"))),
            };
        }
        let other_hands = fact.generation == before.generation
            && (before.status, fact.status) == (StatusName::Assigned, StatusName::Assigned)
            && fact.agent != before.agent;
        if fact.generation < before.generation || other_hands {
            return Err(of_task(task, format!("{before:?} and then {fact:?}")));
        }
        match fact.status {
            StatusName::Completed | StatusName::DeadLetter | StatusName::Cancelled => self.ended(task, fact, sessions),
            StatusName::Queued | StatusName::Assigned if fact.retries > before.retries => Ok(Moved::Retried),
            StatusName::Queued | StatusName::Assigned if fact.generation > before.generation + 1 => {
                Ok(Moved::Reclaimed)
            }
            StatusName::Assigned if before.generation == 0 => {
                Ok(Moved::Assigned { first_after_ms: now - book.submitted_at })
            }
            StatusName::Queued if fact.generation != before.generation => Ok(Moved::Reclaimed),
            StatusName::Queued | StatusName::Assigned => Ok(Moved::Nothing),
        }
    }

    /// A task has ended, for good: what is said to be done was done, by the agent that had it, and counts once.
    fn ended(&mut self, task: u32, fact: TaskFact, sessions: &[Session]) -> Result<Moved, Violation> {
        self.open -= 1;
        let book = &mut self.tasks[task as usize];
        book.has_ended = true;
        for generation in 0..=fact.generation {
            self.woken.remove(&(task, generation));
        }
        if fact.status == StatusName::Completed {
            let session = fact.session.and_then(|number| sessions.get(number as usize));
            let was_done = session.is_some_and(|session| {
                session.task == task && session.is_done && session.succeeds && Some(session.agent) == fact.agent
            });
            if !was_done {
                return Err(of_task(task, format!("nobody did what is said to be done: {fact:?}")));
            }
        }
        Ok(Moved::Ended(fact.status))
    }

    /// A restart is committed so, or (`None`) deleted. It ends once; only one that was called overdue may come back late.
    pub fn restart_stored(
        &mut self,
        command_id: &str,
        fact: Option<(u32, RestartPhase)>,
    ) -> Result<Option<RestartPhase>, Violation> {
        let known = self.restarts.get_mut(command_id);
        let Some((agent, phase)) = fact else {
            return match known {
                Some(book) if book.phase.is_open() => {
                    Err(of_agent(book.agent, format!("{command_id} is deleted, and has not ended")))
                }
                Some(_) | None => Ok(None),
            };
        };
        let Some(book) = known else {
            self.open_restarts += u64::from(phase.is_open());
            let book = RestartBook { agent, phase, announced: false, left: false };
            self.restarts.insert(command_id.to_owned(), book);
            return Ok((!phase.is_open()).then_some(phase));
        };
        let before = std::mem::replace(&mut book.phase, phase);
        let is_late = (before, phase) == (RestartPhase::Overdue, RestartPhase::Back);
        if !before.is_open() && before != phase && !is_late {
            return Err(of_agent(agent, format!("{command_id} ended as {before:?} and then as {phase:?}")));
        }
        self.open_restarts -= u64::from(before.is_open() && !phase.is_open());
        Ok((before != phase && !phase.is_open()).then_some(phase))
    }

    /// A sidecar says that it leaves for a command: once.
    pub fn announced(&mut self, agent: u32, command_id: &str) -> Checked {
        let book = self.command(agent, command_id)?;
        match std::mem::replace(&mut book.announced, true) {
            true => Err(of_agent(agent, format!("{command_id} is announced twice"))),
            false => Ok(()),
        }
    }

    /// A process ends for a command: once.
    pub fn left_for(&mut self, agent: u32, command_id: &str) -> Checked {
        let book = self.command(agent, command_id)?;
        match std::mem::replace(&mut book.left, true) {
            true => Err(of_agent(agent, format!("{command_id} ended a second process"))),
            false => Ok(()),
        }
    }

    fn command(&mut self, agent: u32, command_id: &str) -> Result<&mut RestartBook, Violation> {
        let known = self.restarts.get_mut(command_id).filter(|book| book.agent == agent);
        known.ok_or_else(|| of_agent(agent, format!("{command_id} was said before it was committed")))
    }

    /// Returns a task or a restart that has not ended.
    pub fn unfinished(&self) -> Option<Violation> {
        let task = (0..).zip(&self.tasks).find(|(_, book)| book.is_open());
        let restart = || self.restarts.iter().filter(|(_, book)| book.phase.is_open()).min_by_key(|(id, _)| *id);
        match task {
            Some((task, book)) => {
                let what = format!("{} tasks have no outcome, this one is {:?}", self.open, book.stored);
                Some(Violation { what, about: About::Task(task) })
            }
            None => restart().map(|(id, book)| of_agent(book.agent, format!("{id} is still {:?}", book.phase))),
        }
    }

    pub fn commands(&self) -> usize {
        self.restarts.len()
    }
}

impl Facts {
    pub fn restart(restart: &Restart) -> (u32, RestartPhase) {
        (number(&restart.agent_id), restart.phase)
    }
}
