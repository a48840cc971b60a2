//! What must hold every hour, and once everything has come to its end.

use std::collections::BTreeMap;

use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::rollouts::target::TargetState;
use agentcom::hub::scheduler::task::Status;
use agentcom::hub::scheduler::view::View;
use agentcom::machine::{Disk, Machine, State};

use super::books::{Needs, task_id, task_number};
use super::sidecar::{has_gpu, name, number};
use super::{About, Checked, Day, Ev, Violation, of_agent, of_task};

/// Whether a sidecar has nothing more to do or to say.
fn is_at_rest(machine: &Machine) -> bool {
    matches!(machine.state, State::Idle)
        && machine.outbox.is_empty()
        && machine.check.is_none()
        && machine.deferred.is_none()
        && machine.disk == Disk::Ready
        && machine.connection.can_send()
}

impl Day {
    /// Every hour: no accepted task is lost.
    pub(super) fn each_hour(&mut self) -> Checked {
        let Some(state) = &self.hub.state else { return Ok(()) };
        self.judge_tasks(&state.scheduler)?;
        let tasks = state.scheduler.tasks().list();
        let queued = tasks.iter().filter(|task| task.status == Status::Queued).count();
        self.figures.most_queued = self.figures.most_queued.max(queued);
        self.figures.most_kept = self.figures.most_kept.max(tasks.len());
        Ok(())
    }

    /// Looks for a task that waits beside somebody idle who could do it, and looks again a moment later: an agent that has just
    /// refused a task is offered none until then.
    pub(super) fn look_for_waits(&mut self) {
        if let Some((task, agent)) = self.waits_beside() {
            let again_ms = Policy::default().reject_retry_ms + 1_000;
            self.agenda.plan(self.now() + again_ms, Ev::WaitsStill(task, agent));
        }
    }

    /// The task does not wait any more, or the agent is not idle any more.
    pub(super) fn waits_still(&self, task: u32, agent: u32) -> Checked {
        let Some(state) = &self.hub.state else { return Ok(()) };
        let is_queued = state.scheduler.tasks().get(&task_id(task)).is_some_and(|it| it.status == Status::Queued);
        match is_queued && self.is_idle(&state.scheduler.view(), agent) {
            true => Err(of_task(task, format!("it waits beside agent {agent}, who is idle and could do it"))),
            false => Ok(()),
        }
    }

    fn is_idle(&self, view: &View, agent: u32) -> bool {
        view.agent_state(&name(agent), self.now()).is_some_and(|state| state["fsm_state"] == "idle")
    }

    /// Returns a queued task, and an agent that is idle and could do it.
    fn waits_beside(&self) -> Option<(u32, u32)> {
        let state = self.hub.state.as_ref()?;
        let (mut for_anybody, mut for_gpu, mut for_one) = (None, None, BTreeMap::new());
        for task in state.scheduler.tasks().list().iter().filter(|task| task.status == Status::Queued) {
            let task = task_number(&task.id);
            match self.books.tasks[task as usize].needs {
                Needs::Anybody => for_anybody = for_anybody.or(Some(task)),
                Needs::Gpu => for_gpu = for_gpu.or(Some(task)),
                Needs::Agent(agent) => drop(for_one.entry(agent).or_insert(task)),
            }
        }
        let could_do = |agent| for_one.get(&agent).copied().or(for_gpu.filter(|_| has_gpu(agent))).or(for_anybody);
        let view = state.scheduler.view();
        (0..self.options.agents)
            .find_map(|agent| Some((could_do(agent)?, agent)).filter(|_| self.is_idle(&view, agent)))
    }

    /// Returns what has not come to its end.
    pub(super) fn unfinished(&self) -> Option<Violation> {
        let Some(state) = &self.hub.state else {
            return Some(Violation { what: "the hub is down".to_owned(), about: About::All });
        };
        if self.books.open + self.books.open_restarts > 0 {
            return self.books.unfinished();
        }
        if let Some((task, _)) = (0..).zip(&self.books.tasks).find(|(_, book)| !book.has_outcome()) {
            return Some(of_task(task, "it has no outcome".to_owned()));
        }
        match self.rollout() {
            Some(rollout) if rollout.ended_at.is_some() => {}
            Some(rollout) => {
                let what = format!("the rollout is {}: {:?}", rollout.state, rollout.counts);
                return Some(Violation { what, about: About::All });
            }
            None => return Some(Violation { what: "the rollout has not begun".to_owned(), about: About::All }),
        }
        for (agent, sidecar) in (0..).zip(&self.fleet) {
            let Some(machine) = &sidecar.machine else { return Some(of_agent(agent, "it is down".to_owned())) };
            if !is_at_rest(machine) {
                return Some(of_agent(agent, format!("it is not at rest: {machine:?}")));
            }
            if !state.scheduler.is_connected(&name(agent)) {
                return Some(of_agent(agent, "it is not back".to_owned()));
            }
        }
        None
    }

    /// Everything has ended: what was promised was kept, and nothing has piled up. Returns that the day is over.
    pub(super) fn judge_the_end(&mut self) -> Checked {
        if let Some(excess) = self.excess() {
            return Err(excess);
        }
        let Some(rollout) = self.rollout() else { return Ok(()) };
        for target in rollout.targets.values() {
            let agent = number(&target.agent_id);
            let succeeded = matches!(target.state, TargetState::Succeeded);
            if succeeded && self.fleet[agent as usize].version != 2 {
                return Err(of_agent(agent, "the rollout counts it, and it runs the old version".to_owned()));
            }
        }
        let counts = rollout.counts;
        self.figures.targets = Some(counts);
        self.figures.disk = self.hub.disk.size();
        self.figures.commands = self.books.commands();
        Ok(())
    }
}
