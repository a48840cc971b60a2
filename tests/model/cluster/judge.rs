//! What must hold, by name. `docs/verification.md` has them in words.

use agentcom::hub::scheduler::task::{Status, Task};
use agentcom::machine::FromHub;

use super::database::{is_same, shown};
use super::scopes::Ask;
use super::world::{AGENTS, World};
use crate::model::violation::{Violation, violated};

impl World {
    /// What must hold of every state.
    pub fn judge(&self) -> Result<(), Violation> {
        self.nothing_is_lost()?;
        // Without a rule, what shows outside is looked for.
        if self.scope.without.is_none() {
            self.memory_is_stored()?;
        }
        self.nothing_is_doubled()?;
        self.books_agree()
    }

    /// What was answered is stored, and so is every verdict that an agent was told is taken.
    fn nothing_is_lost(&self) -> Result<(), Violation> {
        let records = &self.database.records;
        for ask in &self.ghost.answered {
            let is_there = match ask {
                Ask::Task(id) => records.tasks.contains_key(*id),
                Ask::Restart(id) => records.restarts.contains_key(*id),
            };
            if !is_there {
                return Err(violated("lost", format!("{} was answered, and is not stored", ask.id())));
            }
        }
        for id in &self.ghost.taken {
            if !records.tasks.get(id).is_some_and(|task| task.status.is_final()) {
                return Err(violated("lost", format!("the verdict of {id} was acknowledged, and is not stored")));
            }
        }
        Ok(())
    }

    /// What the leader decides by, between two batches, is what the database holds.
    fn memory_is_stored(&self) -> Result<(), Violation> {
        let Some(leading) =
            self.leader().filter(|hub| self.nodes[*hub].is_at_rest()).and_then(|hub| self.nodes[hub].leading())
        else {
            return Ok(());
        };
        let stored = &self.database.records.tasks;
        for task in leading.scheduler.tasks().list() {
            if !stored.get(&task.id).is_some_and(|stored| is_same(stored, task)) {
                let other = stored.get(&task.id).map_or("not stored".to_owned(), shown);
                return Err(violated("memory_is_stored", format!("{} is {}, and {other}", task.id, shown(task))));
            }
        }
        if let Some(id) = stored.keys().find(|id| leading.scheduler.tasks().get(id).is_none()) {
            return Err(violated("memory_is_stored", format!("the leader does not know {id}, which is stored")));
        }
        Ok(())
    }

    /// No two agents are at work on one task that is theirs by the last word on the connection that each believes.
    fn nothing_is_doubled(&self) -> Result<(), Violation> {
        let at_work = |agent: usize| {
            let job = self.agents[agent].machine.as_ref()?.state.job()?;
            let word = self.links[self.own_link(agent)?].word.as_ref()?;
            let has_session = self.agents[agent].sessions.contains(&job.task().id);
            (has_session && word == job.task().id.as_str()).then_some(word)
        };
        match (at_work(0), at_work(1)) {
            (Some(one), Some(other)) if one == other => {
                Err(violated("doubled", format!("both agents are at work on {one}, and connected")))
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    /// When nothing more is said, the leader and each agent name the same task and generation, or none.
    fn books_agree(&self) -> Result<(), Violation> {
        let Some(hub) = self.leader().filter(|hub| self.nodes[*hub].is_at_rest()) else { return Ok(()) };
        let Some(leading) = self.nodes[hub].leading() else { return Ok(()) };
        for (agent, name) in AGENTS.into_iter().enumerate() {
            let Some(machine) = &self.agents[agent].machine else { continue };
            let tasks = leading.scheduler.tasks();
            let is_settled = self.is_quiet(agent, hub)
                && machine.outbox.is_empty()
                && machine.connection.can_send()
                && !machine.state.job().is_some_and(agentcom::machine::Job::is_in_question)
                && !tasks.awaits_confirmation(name);
            let held = tasks.task_of(name).map(|task| (task.id.clone(), task.generation));
            let in_hand = machine.state.job().map(|job| (job.task().id.to_string(), job.task().generation));
            if is_settled && held != in_hand {
                let detail = format!("the leader names {held:?} for {name}, which has {in_hand:?}");
                return Err(violated("books_agree", detail));
            }
        }
        Ok(())
    }

    /// What an agent hears on a connection that it believes is true, or what corrects it follows on that connection. A
    /// verdict of one task is acknowledged to one agent, once it is stored.
    pub fn judge_word(&mut self, link: usize, said: &FromHub) -> Result<(), Violation> {
        let agent = AGENTS[self.links[link].agent];
        let (task_id, generation) = match said {
            FromHub::Assigned { task, .. } => (task.id.as_str(), Some(task.generation)),
            FromHub::TaskContinue { task_id, generation } => (task_id.as_str(), *generation),
            FromHub::AcceptAcknowledged { task_id } | FromHub::ReportAnswered { task_id, go_on: true } => {
                (task_id.as_str(), None)
            }
            FromHub::VerdictAcknowledged { task_id } => {
                self.ghost.taken.insert(task_id.clone());
                return match self.database.records.tasks.get(task_id) {
                    Some(Task { status: Status::Completed { agent_id, .. }, .. }) if agent_id == agent => Ok(()),
                    task => {
                        let task = task.map(shown);
                        Err(violated("done_twice", format!("{agent}'s verdict is acknowledged: {task_id} is {task:?}")))
                    }
                };
            }
            _ => return Ok(()),
        };
        let stored = self.database.records.tasks.get(task_id);
        let is_assignment = matches!(said, FromHub::Assigned { .. });
        let is_true = stored.is_some_and(|task| {
            // What was begun may have ended before the hub's word on it is heard.
            let is_open = !is_assignment || !task.status.is_final();
            let is_newest = generation.is_none_or(|generation| generation == task.generation);
            is_open && is_newest && task.holder() == Some(agent)
        });
        let corrects = |later: &FromHub| match later {
            FromHub::TaskReassigned { task_id: id, .. }
            | FromHub::TaskCancelled { task_id: id }
            | FromHub::VerdictAcknowledged { task_id: id }
            | FromHub::ReportAnswered { task_id: id, go_on: false } => id == task_id,
            _ => false,
        };
        let link = &self.links[link];
        if is_true || link.conn.down.iter().chain(&link.late).any(corrects) {
            return Ok(());
        }
        let stored = stored.map(shown);
        Err(violated("stale_word", format!("{agent} hears {said:?}, and {task_id} is {stored:?}")))
    }
}
