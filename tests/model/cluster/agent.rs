//! A sidecar's process: the shipped machine, whose questions are answered at once. A wake succeeds, and its session shows
//! itself; the disk works; the supervisor brings the process back.

use std::collections::VecDeque;
use std::sync::Arc;

use agentcom::machine::{
    Cause, CloseCode, Effect, Event, FromHub, Jitter, Machine, Outcome, RestartMethod, ToHub, WakeOutcome, transition,
};

use super::actions::is_closing;
use super::scopes::Rule;
use super::world::{Link, World};
use crate::model::connection::{Conn, End, Up};
use crate::model::rebase::{NOW, Shift, undated};
use crate::model::violation::{Violation, violated};

impl World {
    pub fn respawns(&mut self, agent: usize) -> Result<(), Violation> {
        let policy = self.policy.clone();
        let it = &mut self.agents[agent];
        it.run += 1;
        let (machine, effects) = Machine::recover((*it.disk).clone(), NOW, &policy);
        self.lives(agent, machine, effects)
    }

    pub fn event(&mut self, agent: usize, event: Event) -> Result<(), Violation> {
        let policy = self.policy.clone();
        let Some(machine) = self.agents[agent].machine.as_deref().cloned() else { return Ok(()) };
        let (machine, effects) = transition(machine, event, NOW, &policy);
        self.lives(agent, machine, effects)
    }

    /// Carries out what the machine orders, with all that follows from it.
    fn lives(&mut self, agent: usize, machine: Machine, effects: Vec<Effect>) -> Result<(), Violation> {
        let policy = self.policy.clone();
        let (mut machine, mut effects) = (machine, effects);
        let mut events = VecDeque::new();
        loop {
            for effect in effects {
                if let Effect::Exit { cause, .. } = &effect {
                    self.exits(cause)?;
                    self.agent_ends(agent);
                    return Ok(());
                }
                self.carry_out(agent, effect, &mut events);
            }
            let Some(event) = events.pop_front() else { break };
            (machine, effects) = transition(machine, event, NOW, &policy);
        }
        Shift(0).machine(&mut machine);
        self.agents[agent].machine = Some(Arc::new(machine));
        Ok(())
    }

    fn carry_out(&mut self, agent: usize, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Persist(mut journal) => {
                Shift(0).journal(&mut journal);
                self.agents[agent].disk = Arc::new(*journal);
                // Before what was ordered with it, which relies on it.
                events.push_front(Event::Persisted);
            }
            Effect::Send(said) => self.say(agent, said),
            Effect::Wake { task, attempt } => {
                self.agents[agent].sessions.insert(task.id.clone());
                let (task_id, generation, outcome) = (task.id, task.generation, WakeOutcome::Succeeded);
                events.push_back(Event::WakeFinished { task_id: task_id.clone(), generation, attempt, outcome });
                events.push_back(Event::Confirmed { task_id });
            }
            Effect::CloseLink(code) => match code {
                CloseCode::Restarting | CloseCode::Stopping | CloseCode::Cordoned => {
                    let own = self.own_link(agent).map(|index| &mut self.links[index].conn);
                    own.filter(|conn| conn.hub != End::Closed)
                        .into_iter()
                        .for_each(|conn| conn.up.push_back(Up::Close));
                }
                CloseCode::Unusable => {
                    self.leaves_link(agent);
                    events.push_back(closed());
                }
            },
            Effect::CleanUp { task_id, .. } => {
                self.agents[agent].sessions.remove(&task_id);
            }
            Effect::CheckNextRun { number, .. } => {
                let restart_method = RestartMethod::Supervisor;
                events.push_back(Event::NextRunChecked { number, restart_method, cannot_start: None });
            }
            Effect::RunResultHook { number, outcome, .. } => {
                events.push_back(Event::ResultReviewed { number, outcome })
            }
            Effect::LookForResults { number } => events.push_back(Event::ResultsLookedFor { number }),
            Effect::KeepRefused { task_id, generation, result: _ } => {
                events.push_back(Event::RefusedResultWritten { task_id, generation, path: Some("rejected".into()) });
            }
            // The dial is under way: see `Action::Connects`.
            Effect::Dial
            | Effect::WithdrawWake { .. }
            | Effect::DropSign { .. }
            | Effect::PassOn(_)
            | Effect::Reply { .. }
            | Effect::Notify(_)
            | Effect::Exit { .. } => {}
        }
    }

    fn say(&mut self, agent: usize, said: ToHub) {
        // What only shows decides nothing here. A ping does: what answers it keeps the connection.
        if matches!(said, ToHub::Status { .. } | ToHub::TaskProgress { .. } | ToHub::WakeResult { .. }) {
            return;
        }
        let Some(index) = self.own_link(agent) else { return };
        let conn = &mut self.links[index].conn;
        if conn.hub != End::Closed && !is_closing(conn.up.back()) {
            conn.up.push_back(Up::Frame(undated(said)));
        }
    }

    fn exits(&mut self, cause: &Cause) -> Result<(), Violation> {
        let Cause::Restart { order, .. } = cause else { return Ok(()) };
        match &order.command_id {
            Some(id) if !self.ghost.carried_out.insert(id.clone()) => {
                Err(violated("restarted_twice", format!("command {id} ended a second process")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The process is gone: what it had said is still on its way, what it was told is lost.
    pub fn agent_ends(&mut self, agent: usize) {
        self.agents[agent].machine = None;
        for link in self.links.iter_mut().filter(|link| link.agent == agent) {
            link.conn.side_closes();
            link.late.clear();
            link.word = None;
        }
    }

    pub fn connects(&mut self, agent: usize, hub: usize) -> Result<(), Violation> {
        let Some(gateway) = self.gateway_of(agent) else { return Ok(()) };
        self.dials += 1;
        let conn = Conn { side: End::Open, ..Conn::dialled(self.dials, self.agents[agent].run) };
        self.links.push(Link { conn, agent, gateway, hub, word: None, late: VecDeque::new() });
        self.event(agent, Event::HubOpened)
    }

    /// The agent's end of its connection is closed. What comes on it later is not believed.
    fn leaves_link(&mut self, agent: usize) {
        let believes_all = self.scope.lacks(Rule::CurrentConnection);
        let Some(link) = self.own_link(agent).map(|index| &mut self.links[index]) else { return };
        if believes_all {
            link.late = std::mem::take(&mut link.conn.down);
        }
        link.conn.side_closes();
        link.word = None;
    }

    pub fn side_sees_end(&mut self, index: usize) -> Result<(), Violation> {
        let agent = self.links[index].agent;
        self.leaves_link(agent);
        self.event(agent, closed())
    }

    pub fn side_hears(&mut self, index: usize) -> Result<(), Violation> {
        let Some(said) = self.links[index].conn.down.pop_front() else { return Ok(()) };
        self.hears(index, index, said)
    }

    pub fn side_hears_late(&mut self, index: usize) -> Result<(), Violation> {
        let own = self.own_link(self.links[index].agent);
        let (Some(said), Some(own)) = (self.links[index].late.pop_front(), own) else { return Ok(()) };
        self.hears(index, own, said)
    }

    /// The agent hears a word that came on `link`, and takes it for one of its connection `own`.
    fn hears(&mut self, link: usize, own: usize, said: FromHub) -> Result<(), Violation> {
        self.judge_word(link, &said)?;
        let agent = self.links[link].agent;
        let word = &mut self.links[own].word;
        match &said {
            FromHub::Assigned { task, .. } => *word = Some(task.id.to_string()),
            FromHub::TaskContinue { task_id, .. }
            | FromHub::AcceptAcknowledged { task_id }
            | FromHub::ReportAnswered { task_id, go_on: true } => *word = Some(task_id.clone()),
            FromHub::TaskReassigned { task_id, .. }
            | FromHub::TaskCancelled { task_id }
            | FromHub::VerdictAcknowledged { task_id }
            | FromHub::ReportAnswered { task_id, go_on: false } => {
                word.take_if(|known| known == task_id);
            }
            FromHub::Identified { .. }
            | FromHub::IdentifyRefused { .. }
            | FromHub::AssignedInvalid { .. }
            | FromHub::VerdictRefused { .. }
            | FromHub::ReportNotUnderstood
            | FromHub::RestartCommanded(_)
            | FromHub::RateLimited { .. }
            | FromHub::Forgotten
            | FromHub::SignOfLife
            | FromHub::RefusedInOtherWords { .. } => {}
        }
        self.event(agent, Event::HubSaid(said))
    }

    pub fn session_ends(&mut self, agent: usize) -> Result<(), Violation> {
        let Some(task_id) = self.session_of(agent) else { return Ok(()) };
        self.agents[agent].sessions.remove(&task_id);
        self.event(agent, Event::ResultFound { task_id, outcome: Outcome::Completed { result: "{}".into() } })
    }
}

fn closed() -> Event {
    Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None }
}
