//! The agents' sessions without processes and files: wake commands that take their time or fail, sessions that live on
//! when the sidecar dies, and results that lie in the folder until somebody reads them.

use agentcom::machine::{Event, Outcome, ResultFile, Task, TaskId, WakeOutcome};

use super::log::What;
use super::{Checked, Day, Ev};
use crate::day::books::{Nature, task_number};

/// The time from a file to its report, in ms.
const SEEN_MS: u64 = 20;

/// One session, from its wake on.
pub struct Session {
    pub agent: u32,
    pub task: u32,
    generation: u64,
    attempt: u8,
    /// The run of the sidecar that waits for its wake command.
    run: u32,
    fails_to_wake: bool,
    /// When it shows itself and when it is done, from the end of its wake command, in ms.
    shows_ms: Option<u64>,
    work_ms: u64,
    pub succeeds: bool,
    /// It works, or will.
    pub is_alive: bool,
    is_shown: bool,
    pub is_done: bool,
    /// What the present process was told of.
    told_shown: bool,
    told_done: bool,
}

impl Session {
    fn result(&self, number: u32) -> Outcome {
        match self.succeeds {
            true => Outcome::Completed { result: format!("{{\"session\":{number}}}").into() },
            false => Outcome::failed("it did not work out"),
        }
    }
}

impl Day {
    /// The wake command of a task runs.
    pub(super) fn wake(&mut self, agent: u32, task: &Task, attempt: u8) -> Checked {
        let (now, number) = (self.now(), u32::try_from(self.sessions.len()).expect("fewer than four billion"));
        let task_at = task_number(task.id.as_str());
        self.books.woken(task_at, task.generation, agent)?;
        self.log.note(Some(agent), Some(task_at), What::Wakes(number, task.generation));
        let (nature, work_ms) = self.books.work_of(task_at);
        let sidecar = &mut self.fleet[agent as usize];
        let wake_ms = sidecar.rng.between(50, 500);
        let fails_to_wake = sidecar.rng.one_in(50);
        let shows_ms = (!sidecar.rng.one_in(1_000)).then(|| sidecar.rng.between(200, 3_000));
        let succeeds = nature != Nature::Poison && !sidecar.rng.one_in(33);
        let (run, generation) = (sidecar.run, task.generation);
        self.sessions.push(Session {
            agent,
            task: task_at,
            generation,
            attempt,
            run,
            fails_to_wake,
            shows_ms,
            work_ms,
            succeeds,
            is_alive: !fails_to_wake && shows_ms.is_some(),
            is_shown: false,
            is_done: false,
            told_shown: false,
            told_done: false,
        });
        self.agenda.plan(now + wake_ms, Ev::Woken(number));
        if !fails_to_wake {
            self.fleet[agent as usize].sessions.push(number);
            self.works(task_at, number);
        }
        Ok(())
    }

    /// Counts work that goes on at two agents at once: the former one was away for longer than anybody waits.
    fn works(&mut self, task: u32, number: u32) {
        if let Some(before) = self.books.at_work(task, number) {
            let before = &self.sessions[before as usize];
            let agent = self.sessions[number as usize].agent;
            self.figures.overlaps += u64::from(before.is_alive && !before.is_done && before.agent != agent);
        }
    }

    pub(super) fn woken(&mut self, number: u32) -> Checked {
        let now = self.now();
        let session = &self.sessions[number as usize];
        let (agent, task, generation, attempt) = (session.agent, session.task, session.generation, session.attempt);
        let outcome = match session.fails_to_wake {
            true => WakeOutcome::Failed { error: "exit 1".to_owned() },
            false => WakeOutcome::Succeeded,
        };
        if session.fails_to_wake {
            self.books.wake_failed(task, generation);
        } else if let (Some(shows_ms), true) = (session.shows_ms, session.is_alive) {
            self.agenda.plan(now + shows_ms, Ev::Shown(number));
            self.agenda.plan(now + shows_ms + session.work_ms, Ev::Done(number));
        }
        // A process that is gone waits for no command.
        if self.fleet[agent as usize].run != session.run {
            return Ok(());
        }
        let task_id = TaskId::new(&super::books::task_id(task)).expect("a task's id");
        self.step(agent, Event::WakeFinished { task_id, generation, attempt, outcome })
    }

    pub(super) fn shown(&mut self, number: u32) -> Checked {
        let session = &mut self.sessions[number as usize];
        if !session.is_alive {
            return Ok(());
        }
        session.is_shown = true;
        let (agent, task) = (session.agent, session.task);
        if self.books.work_of(task).0 == Nature::Killer {
            // Its death is seen, and is its result.
            let session = &mut self.sessions[number as usize];
            (session.is_done, session.succeeds, session.is_alive) = (true, false, false);
            return self.dies(agent, false);
        }
        self.look(agent)
    }

    pub(super) fn done(&mut self, number: u32) -> Checked {
        let session = &mut self.sessions[number as usize];
        if !session.is_alive {
            return Ok(());
        }
        session.is_done = true;
        let (agent, task) = (session.agent, session.task);
        self.log.note(Some(agent), Some(task), What::SessionEnds(number));
        self.look(agent)
    }

    /// The sidecar may have begun to wait for another task's files: those that are there are reported.
    pub(super) fn watch(&mut self, agent: u32) {
        let sidecar = &mut self.fleet[agent as usize];
        let Some(machine) = &sidecar.machine else { return };
        if sidecar.sessions.is_empty() {
            sidecar.watching = None;
            return;
        }
        let watching = machine.watching().map(|id| task_number(id.as_str()));
        if watching != sidecar.watching {
            sidecar.watching = watching;
            if watching.is_some() {
                self.agenda.plan(self.agenda.now() + SEEN_MS, Ev::Look(agent));
            }
        }
    }

    /// Reports the files of the task that the sidecar waits for, each once.
    pub(super) fn look(&mut self, agent: u32) -> Checked {
        let sidecar = &self.fleet[agent as usize];
        let (Some(task), true) = (sidecar.watching, sidecar.machine.is_some()) else { return Ok(()) };
        for number in sidecar.sessions.clone() {
            let session = &mut self.sessions[number as usize];
            if session.task != task {
                continue;
            }
            let task_id = TaskId::new(&super::books::task_id(task)).expect("a task's id");
            if session.is_shown && !std::mem::replace(&mut session.told_shown, true) {
                self.step(agent, Event::Confirmed { task_id: task_id.clone() })?;
            }
            let session = &mut self.sessions[number as usize];
            let goes_on = self.fleet[agent as usize].watching == Some(task);
            if goes_on && session.is_done && !std::mem::replace(&mut session.told_done, true) {
                let outcome = session.result(number);
                self.step(agent, Event::ResultFound { task_id, outcome })?;
            }
        }
        Ok(())
    }

    pub(super) fn last_look(&mut self, agent: u32, run: u32, number: u32) -> Checked {
        if self.fleet[agent as usize].run != run {
            return Ok(());
        }
        self.look(agent)?;
        self.step(agent, Event::ResultsLookedFor { number })
    }

    pub(super) fn clean_up(&mut self, agent: u32, task_id: &TaskId, result: ResultFile) {
        let task = task_number(task_id.as_str());
        let sessions = &mut self.sessions;
        let cancelled = match result {
            ResultFile::OfCancelledTask => true,
            ResultFile::Read | ResultFile::Unread => false,
        };
        self.fleet[agent as usize].sessions.retain(|number| {
            let session = &mut sessions[*number as usize];
            let is_meant = session.task == task;
            session.is_alive &= !(is_meant && cancelled);
            !is_meant
        });
    }

    pub(super) fn drop_sign(&mut self, agent: u32, task_id: &TaskId) {
        let task = task_number(task_id.as_str());
        for number in &self.fleet[agent as usize].sessions {
            let session = &mut self.sessions[*number as usize];
            session.is_shown &= session.task != task;
        }
    }

    /// The host of the agent is gone, and every session with it; the files stay.
    pub(super) fn host_left(&mut self, agent: u32) {
        for number in &self.fleet[agent as usize].sessions {
            self.sessions[*number as usize].is_alive = false;
        }
    }

    /// The next process was told of nothing.
    pub(super) fn forget_reports(&mut self, agent: u32) {
        for number in &self.fleet[agent as usize].sessions {
            let session = &mut self.sessions[*number as usize];
            (session.told_shown, session.told_done) = (false, false);
        }
    }
}
