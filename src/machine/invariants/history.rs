//! The properties that span a whole process and those after it: accepted tasks, wakes, verdicts and restarts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::durability::{at_work_on, holds, releases, verdict_said};
use super::refusals::is_given_up;
use super::{Property, StepRecord, Violation, violated};
use crate::machine::{
    Cause, Effect, Event, FromHub, Journal, Machine, Outcome, ParkedTask, State, TaskId, Timestamp, ToHub, WakeOutcome,
};

/// The outcome of an assignment's last wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LastWake {
    /// The wake may have started the agent.
    Possible,
    /// The wake is known to have failed.
    Failed,
}

/// The history of a machine, as far as the properties need it. It observes every transition and every crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct History {
    accepted: BTreeSet<TaskId>,
    wakes: BTreeMap<(TaskId, u64), LastWake>,
    at_work: BTreeSet<TaskId>,
    verdicts: BTreeMap<(TaskId, u64), Option<u64>>,
    announced: bool,
    accepted_restarts: Vec<Timestamp>,
}

impl History {
    /// Checks one transition against the history, and records it.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn observe(&mut self, step: &StepRecord<'_>) -> Result<(), Violation> {
        self.record_event(step);
        for effect in step.effects {
            self.one_verdict(effect)?;
            self.no_double_wake(effect)?;
            self.sign_is_old(effect)?;
            self.announced_once(effect)?;
            if let Effect::Send(ToHub::TaskAccepted { task_id, generation: _ }) = effect {
                self.accepted.insert(task_id.clone());
            }
        }
        self.announced_when_reachable(step)?;
        self.restarts_bounded(step)?;
        self.nothing_lost(step.after)?;
        // Work that has just ended may still be on disk: only work that is also in the present journal counts.
        let wanted = step.after.journal();
        let known = at_work_on(&step.after.durable).filter(|id| at_work_on(&wanted).any(|wanted| wanted == *id));
        self.at_work.extend(known.cloned());
        Ok(())
    }

    /// Records a crash. `journal` is what the next process finds, and `rebooted` whether the machine was rebooted too.
    ///
    /// # Errors
    /// A task that was accepted and is not in the journal.
    pub fn crashed(&mut self, journal: &Journal, rebooted: bool) -> Result<(), Violation> {
        self.announced = false;
        // A restart that never reached the disk was not a restart but a crash.
        let mut on_disk = journal.restarts.recent.clone();
        self.accepted_restarts.retain(|at| match on_disk.iter().position(|kept| kept == at) {
            Some(index) => {
                on_disk.remove(index);
                true
            }
            None => false,
        });
        self.at_work.clear();
        if !rebooted {
            self.at_work.extend(at_work_on(journal).cloned());
        }
        for id in &self.accepted {
            if !holds(journal, id) && !parked(journal, id) {
                return violated(Property::NoLoss, format!("{id} was accepted and is not in the journal"));
            }
        }
        Ok(())
    }

    /// Moves every recorded time back by `ms`. For checks that keep the present time fixed, so that histories that
    /// differ only in their dates are equal.
    pub fn shift_back(&mut self, ms: u64) {
        for at in &mut self.accepted_restarts {
            *at = at.minus(ms);
        }
    }

    fn record_event(&mut self, step: &StepRecord<'_>) {
        self.forget_an_uncounted_hand_out(step);
        if let Event::WakeFinished { task_id, generation, attempt: _, outcome } = step.event
            && let Some(wake @ LastWake::Possible) = self.wakes.get_mut(&(task_id.clone(), *generation))
        {
            *wake = match outcome {
                WakeOutcome::Succeeded => LastWake::Possible,
                WakeOutcome::Failed { .. } | WakeOutcome::TimedOut { .. } | WakeOutcome::Refused { .. } => {
                    LastWake::Failed
                }
            };
        }
        if let Event::HubSaid(_) | Event::HubClosed { .. } | Event::RefusedResultWritten { .. } = step.event {
            self.forget_what_the_hub_answered_for(step);
        }
        if let Event::RefusedResultWritten { task_id, generation, path: Some(_) } = step.event {
            self.verdicts.remove(&(task_id.clone(), *generation));
        }
        // A verdict, a cancellation or an eviction ends the work: its files are removed, and a later assignment is new
        // work.
        for effect in step.effects {
            if let Effect::CleanUp { task_id, .. } = effect {
                self.at_work.remove(task_id);
            }
        }
        let ended: Vec<TaskId> =
            step.after.outbox.iter().map(|v| v.task_id.clone()).filter(|id| self.at_work.contains(id)).collect();
        for id in ended {
            self.at_work.remove(&id);
        }
    }

    /// Forgets an earlier assignment of generation 0. It means that the hub does not count assignments (a legacy hub,
    /// for a task that is pushed past its queue), so an assignment of a task that the machine does not hold any more is
    /// a new one.
    fn forget_an_uncounted_hand_out(&mut self, step: &StepRecord<'_>) {
        if let Event::HubSaid(FromHub::Assigned { task, .. }) = step.event
            && task.generation == 0
            && !holds(&step.before.journal(), &task.id)
        {
            let key = (task.id.clone(), 0);
            self.wakes.remove(&key);
            self.verdicts.remove(&key);
        }
    }

    /// Forgets accepted tasks that the hub has answered, reclaimed or cancelled.
    fn forget_what_the_hub_answered_for(&mut self, step: &StepRecord<'_>) {
        let after = step.after.journal();
        self.accepted.retain(|id| holds(&after, id) || !(releases(step.event, id) || is_given_up(step, id)));
    }

    fn one_verdict(&mut self, effect: &Effect) -> Result<(), Violation> {
        let Some((id, generation, outcome)) = verdict_said(effect) else { return Ok(()) };
        let hash = fingerprint(&outcome);
        let first = self.verdicts.entry((id.clone(), generation)).or_insert(Some(hash));
        if *first != Some(hash) {
            return violated(Property::OneVerdict, format!("a second verdict on {id} generation {generation}"));
        }
        Ok(())
    }

    fn no_double_wake(&mut self, effect: &Effect) -> Result<(), Violation> {
        let Effect::Wake { task, .. } = effect else { return Ok(()) };
        let key = (task.id.clone(), task.generation);
        if self.wakes.get(&key) == Some(&LastWake::Possible) {
            return violated(Property::NoDoubleWake, format!("{} generation {} woken twice", task.id, task.generation));
        }
        if self.at_work.contains(&task.id) {
            return violated(Property::NoDoubleWake, format!("{} is under way and was woken again", task.id));
        }
        self.wakes.insert(key, LastWake::Possible);
        Ok(())
    }

    /// Checks that the sign of a session at work is kept: the next process recognises the session by it.
    fn sign_is_old(&self, effect: &Effect) -> Result<(), Violation> {
        let Effect::DropSign { task_id } = effect else { return Ok(()) };
        if self.at_work.contains(task_id) {
            return violated(Property::NoDoubleWake, format!("{task_id} is under way and its sign was dropped"));
        }
        Ok(())
    }

    fn announced_once(&mut self, effect: &Effect) -> Result<(), Violation> {
        let verdict = matches!(effect, Effect::Send(ToHub::TaskComplete { .. } | ToHub::TaskFailed { .. }));
        let announcement = matches!(effect, Effect::Send(ToHub::AgentRestarting { .. }));
        if self.announced && (verdict || announcement) {
            return violated(Property::AnnouncedOnce, format!("{effect:?} after agent_restarting"));
        }
        self.announced |= announcement;
        Ok(())
    }

    /// Checks that the restart was announced if the hub was reachable; only after a second stop signal it need not be.
    fn announced_when_reachable(&self, step: &StepRecord<'_>) -> Result<(), Violation> {
        let Some(Effect::Exit { cause: Cause::Restart { .. }, .. }) = step.effects.last() else { return Ok(()) };
        let reachable = step.before.connection.online().is_some() && step.after.connection.online().is_some();
        let hurried = matches!(step.event, Event::StopRequested { .. });
        if reachable && !self.announced && !hurried {
            return violated(Property::AnnouncedOnce, String::from("left without agent_restarting, the hub reachable"));
        }
        Ok(())
    }

    fn restarts_bounded(&mut self, step: &StepRecord<'_>) -> Result<(), Violation> {
        if step.before.restarts.open.is_none() && step.after.restarts.open.is_some() {
            let limit = step.policy.restart_intensity;
            self.accepted_restarts.retain(|at| step.now.since(*at) < limit.window_ms);
            self.accepted_restarts.push(step.now);
            if self.accepted_restarts.len() as u64 > u64::from(limit.max) {
                let count = self.accepted_restarts.len();
                return violated(Property::Intensity, format!("{count} restarts in {} ms", limit.window_ms));
            }
        }
        if let Event::RestartCancelRequested { .. } = step.event
            && step.before.restarts.open.is_some()
            && step.after.restarts.open.is_none()
        {
            self.accepted_restarts.pop();
        }
        // The caller may be late; the machine's deadlines are bounded from the time of the call.
        let planned = match (&step.before.state, &step.after.state) {
            (State::RestartPending { .. } | State::Draining { .. }, State::RestartPending { .. }) => return Ok(()),
            (State::Draining { .. }, State::Draining { .. }) => return Ok(()),
            (_, State::RestartPending { deadline, order, .. }) => {
                let wait = order.deadline_ms.unwrap_or(step.policy.restart_deadline_ms);
                (*deadline, wait)
            }
            (_, State::Draining { cause: Cause::Restart { .. }, deadline, .. }) => {
                (*deadline, step.policy.drain_deadline_ms)
            }
            (_, State::Draining { cause: Cause::Stop { .. }, deadline, .. }) => (*deadline, step.policy.stop_budget_ms),
            (_, State::Idle | State::Working { .. } | State::Exiting { .. }) => return Ok(()),
        };
        if planned.0 > step.now.plus(planned.1) {
            return violated(
                Property::Bounded,
                format!("the next step is planned in {} ms", planned.0.since(step.now)),
            );
        }
        Ok(())
    }

    fn nothing_lost(&self, machine: &Machine) -> Result<(), Violation> {
        for id in &self.accepted {
            if !holds(&machine.durable, id) && !parked(&machine.durable, id) {
                return violated(Property::NoLoss, format!("{id} was accepted and the disk does not hold it"));
            }
        }
        Ok(())
    }
}

fn parked(journal: &Journal, id: &TaskId) -> bool {
    journal.parked.iter().any(|item: &ParkedTask| item.task_id() == id)
}

/// Returns a hash of the outcome (FNV-1a), so that a long history stays small.
fn fingerprint(outcome: &Outcome) -> u64 {
    let (kind, text): (u8, &str) = match outcome {
        Outcome::Completed { result } => (1, result),
        Outcome::Failed { reason } => (2, reason),
    };
    core::iter::once(kind)
        .chain(text.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_that_differ_have_fingerprints_that_differ() {
        let texts = ["", "a", "b", "ab", "ba", "aa", "no luck", "no such luck"];
        let completed = texts.map(|text| Outcome::Completed { result: text.into() });
        let prints: BTreeSet<u64> = texts.map(Outcome::failed).iter().chain(&completed).map(fingerprint).collect();
        assert_eq!(prints.len(), 2 * texts.len());
    }
}
