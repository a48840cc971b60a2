//! The assignment that each agent holds, and until when the hub waits for it. Volatile and pure: it knows only the ids
//! of the tasks, and after a restart of the hub every holder has the full time again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::RunIdentity;
use crate::hub::scheduler::task::{Status, Task};

/// The reason for reclaiming a task from a holder that showed no sign of life for too long.
pub const STALE: &str = "stale";

/// The reason for reclaiming a task that should be done by now.
pub const OVERDUE: &str = "overdue";

/// An action that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Reclaim the task: the holder showed no sign of life for too long, or the task should be done by now.
    Reclaim {
        /// The holder.
        agent_id: String,
        /// `not_accepted`, [`STALE`] or [`OVERDUE`].
        why: &'static str,
    },
    /// Reclaim the task: the holder did not come back in time.
    Expired {
        /// The holder.
        agent_id: String,
        /// Whether the absence was announced or commanded.
        planned: bool,
    },
    /// Send the same assignment again: a holder that returned did not mention a task that it had never accepted.
    Resend {
        /// The holder.
        agent_id: String,
    },
}

/// The absence of a holder that keeps its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away {
    /// The time at which its connection closed.
    pub since: u64,
    /// The time at which the task is reclaimed; `None` while an open restart command decides that.
    pub until: Option<u64>,
    /// Whether the absence was announced or commanded: it is no loss.
    pub planned: bool,
}

/// The assignment that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveAssignment {
    pub(crate) task_id: Arc<str>,
    /// The run that the task was assigned to; `None` if the hub was restarted since.
    pub(crate) run: Option<RunIdentity>,
    /// The time when the assignment is reclaimed unless the agent confirms it; `None` once it has.
    pub(crate) confirm_by: Option<u64>,
    /// The time when the assignment is sent again unless the agent mentions it.
    pub(crate) resend_at: Option<u64>,
    /// The time of the last sign of life.
    pub(crate) last_alive_at: u64,
    /// The task's `complete_by`, if it was assigned before that time: a task that is late already is not reclaimed for
    /// it again.
    pub(crate) overdue_at: Option<u64>,
    /// The holder's absence. All other timers rest meanwhile.
    pub(crate) away: Option<Away>,
    /// The time at which the holder, a legacy sidecar, first took the task over from its previous process: it neither
    /// wakes nor times that work any more, and no sign of life extends the wait for it.
    pub(crate) carried_since: Option<u64>,
    /// The number of runs of the holder that ended without accepting it.
    pub(crate) replacements: u32,
    /// Whether the holder, a legacy sidecar, is back and has not shown yet whether it is the same process.
    pub(crate) run_unclear: bool,
}

/// What is due for a holder.
#[derive(Debug, Clone, Copy)]
enum What {
    Reclaim(&'static str),
    Expired { planned: bool },
    Resend,
}

impl What {
    fn of(self, agent_id: String) -> Due {
        match self {
            Self::Reclaim(why) => Due::Reclaim { agent_id, why },
            Self::Expired { planned } => Due::Expired { agent_id, planned },
            Self::Resend => Due::Resend { agent_id },
        }
    }
}

impl ActiveAssignment {
    /// Returns when something is next due for the holder.
    fn due_at(&self, policy: &Policy) -> Option<u64> {
        match self.away {
            Some(away) => away.until,
            None => [self.confirm_by, self.resend_at, self.overdue_at, Some(self.stale_at(policy))]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// Returns what is due by now. Sending again is due once.
    fn due(&mut self, now_ms: u64, policy: &Policy) -> Option<What> {
        let is_over = |at: u64| at <= now_ms;
        match self.away {
            Some(Away { until, planned, since: _ }) => until.is_some_and(is_over).then_some(What::Expired { planned }),
            None if self.confirm_by.is_some_and(is_over) => Some(What::Reclaim("not_accepted")),
            None if is_over(self.stale_at(policy)) => Some(What::Reclaim(STALE)),
            None if self.overdue_at.is_some_and(is_over) => Some(What::Reclaim(OVERDUE)),
            None => self.resend_at.take_if(|at| is_over(*at)).map(|_| What::Resend),
        }
    }

    fn move_by(&mut self, ms: i64) {
        // Every field is named: a new one must be placed. `overdue_at` is a date.
        let Self {
            task_id: _,
            run: _,
            confirm_by,
            resend_at,
            last_alive_at,
            overdue_at: _,
            away,
            carried_since,
            replacements: _,
            run_unclear: _,
        } = self;
        move_time(last_alive_at, ms);
        if let Some(Away { since, until, planned: _ }) = away {
            move_time(since, ms);
            until.iter_mut().for_each(|at| move_time(at, ms));
        }
        confirm_by.iter_mut().chain(resend_at).chain(carried_since).for_each(|at| move_time(at, ms));
    }

    fn stale_at(&self, policy: &Policy) -> u64 {
        self.silent_since().saturating_add(policy.stale_timeout_ms)
    }

    fn silent_since(&self) -> u64 {
        self.carried_since.unwrap_or(self.last_alive_at)
    }

    fn holding(&self) -> Holding {
        Holding { task_id: self.task_id.clone(), silent_since: self.silent_since() }
    }
}

/// How a holder came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned<'a> {
    /// The run that is connected now.
    pub run: &'a RunIdentity,
    /// Whether the assignment is sent again if the holder does not mention it.
    pub resend: bool,
    /// Whether the run that held the task before may still be alive: it keeps its claim.
    pub rival: bool,
    /// Whether it cannot be told if this is another run.
    pub unclear: bool,
}

/// The task that an agent holds, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The task's id.
    pub task_id: Arc<str>,
    /// The time from which on its silence counts, in ms since the epoch.
    pub silent_since: u64,
}

/// The task that each agent holds. A copy shares all of it with the original and costs nothing.
pub type HolderTable = imbl::HashMap<Arc<str>, Holding>;

/// All holders. Times are in ms since the epoch.
#[derive(Debug, Clone, Default)]
pub struct Assignments {
    policy: Policy,
    held: HashMap<Arc<str>, ActiveAssignment>,
    /// The same tasks, for readers.
    holders: HolderTable,
    /// The holders by the time at which something is due.
    due: BTreeSet<(u64, Arc<str>)>,
}

impl Assignments {
    /// Creates the state in which no agent holds a task.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Returns the id of the task that the agent holds.
    pub fn task_of(&self, agent_id: &str) -> Option<&str> {
        self.held.get(agent_id).map(|held| &*held.task_id)
    }

    /// Returns the tasks that holders, legacy sidecars, took over from their previous process.
    pub(super) fn carried(&self) -> impl Iterator<Item = &str> {
        self.held.values().filter(|held| held.carried_since.is_some()).map(|held| &*held.task_id)
    }

    /// Returns the assignment that the agent holds.
    pub(crate) fn get(&self, agent_id: &str) -> Option<&ActiveAssignment> {
        self.held.get(agent_id)
    }

    /// Returns the task that each agent holds.
    pub(crate) fn holders(&self) -> &HolderTable {
        &self.holders
    }

    /// Assigns the task to the agent, which has to confirm it.
    pub fn assign(&mut self, agent_id: &str, task: &Task, run: &RunIdentity, now_ms: u64) {
        let held = self.assignment(task, now_ms);
        self.insert(agent_id, ActiveAssignment { run: Some(run.clone()), ..held });
    }

    /// Restores a stored assignment: the holder is away until this time.
    pub fn restore(&mut self, agent_id: &str, task: &Task, now_ms: u64) {
        let Policy { accept_timeout_ms, reconnect_grace_ms, takeover_wait_ms, .. } = self.policy;
        let until = Some(now_ms + accept_timeout_ms.max(reconnect_grace_ms).max(takeover_wait_ms));
        let away = Some(Away { since: now_ms, until, planned: false });
        self.insert(agent_id, ActiveAssignment { away, ..self.assignment(task, now_ms) });
    }

    fn assignment(&self, task: &Task, now_ms: u64) -> ActiveAssignment {
        let carried_since = match &task.status {
            Status::Assigned { carried_since, .. } => *carried_since,
            Status::Queued | Status::Completed { .. } | Status::DeadLetter | Status::Cancelled => None,
        };
        ActiveAssignment {
            task_id: task.id.as_str().into(),
            run: None,
            confirm_by: Some(now_ms + self.policy.accept_timeout_ms),
            resend_at: None,
            last_alive_at: now_ms,
            overdue_at: task.complete_by().filter(|at| *at > now_ms),
            away: None,
            // The clock may have been set back since.
            carried_since: carried_since.map(|since| since.min(now_ms)),
            replacements: 0,
            run_unclear: false,
        }
    }

    fn insert(&mut self, agent_id: &str, held: ActiveAssignment) {
        self.release(agent_id);
        let agent_id: Arc<str> = agent_id.into();
        self.due.extend(held.due_at(&self.policy).map(|at| (at, agent_id.clone())));
        self.holders.insert(agent_id.clone(), held.holding());
        self.held.insert(agent_id, held);
    }

    /// Removes the agent's assignment.
    pub fn release(&mut self, agent_id: &str) {
        self.holders.remove(agent_id);
        if let Some((agent_id, held)) = self.held.remove_entry(agent_id)
            && let Some(at) = held.due_at(&self.policy)
        {
            self.due.remove(&(at, agent_id));
        }
    }

    /// Changes the agent's assignment, if it holds one, and when something is due for it.
    fn update<T>(&mut self, agent_id: &str, change: impl FnOnce(&mut ActiveAssignment, &Policy) -> T) -> Option<T> {
        let agent_id = self.held.get_key_value(agent_id)?.0.clone();
        let held = self.held.get_mut(&agent_id)?;
        let (before, silent_before) = (held.due_at(&self.policy), held.silent_since());
        let result = change(held, &self.policy);
        let after = held.due_at(&self.policy);
        if held.silent_since() != silent_before {
            self.holders.insert(agent_id.clone(), held.holding());
        }
        if after != before {
            if let Some(at) = before {
                self.due.remove(&(at, agent_id.clone()));
            }
            self.due.extend(after.map(|at| (at, agent_id)));
        }
        Some(result)
    }

    /// Records a sign of life, which also confirms the assignment. Returns `false` if the agent does not hold this
    /// task.
    pub fn record_sign_of_life(&mut self, agent_id: &str, task_id: &str, now_ms: u64) -> bool {
        if self.task_of(agent_id) != Some(task_id) {
            return false;
        }
        self.update(agent_id, |held, _| {
            held.confirm_by = None;
            held.resend_at = None;
            held.last_alive_at = now_ms;
            held.away = None;
            held.run_unclear = false;
        });
        true
    }

    /// Records that the holder's connection closed and that it keeps its task.
    pub fn holder_left(&mut self, agent_id: &str, away: Away) {
        self.update(agent_id, |held, _| held.away = Some(away));
    }

    /// Ends the wait of a restart command for an absent holder: what is left is the grace of a broken connection.
    pub fn restart_overdue(&mut self, agent_id: &str) {
        self.update(agent_id, |held, policy| {
            if let Some(away) = held.away.as_mut().filter(|away| away.until.is_none()) {
                away.until = Some(away.since + policy.reconnect_grace_ms);
            }
        });
    }

    /// Counts a run that ended without accepting the assignment, and returns how many there were.
    pub(crate) fn count_replacement(&mut self, agent_id: &str) -> u32 {
        let count = |held: &mut ActiveAssignment, _: &Policy| {
            held.replacements = held.replacements.saturating_add(1);
            held.replacements
        };
        self.update(agent_id, count).unwrap_or(0)
    }

    /// Requires the agent to confirm its task again, as after a new assignment.
    pub fn require_confirmation(&mut self, agent_id: &str, now_ms: u64) {
        self.update(agent_id, |held, policy| {
            held.confirm_by = Some(now_ms + policy.accept_timeout_ms);
            held.last_alive_at = now_ms;
        });
    }

    /// Records that the agent took its task over from its previous process at this time.
    pub(crate) fn set_carried_since(&mut self, agent_id: &str, since: u64) {
        self.update(agent_id, |held, _| held.carried_since = Some(since));
    }

    /// Records that the agent is connected again: it has to confirm its task again, and may never have received one
    /// that it had not accepted.
    pub fn holder_returned(&mut self, agent_id: &str, returned: Returned<'_>, now_ms: u64) {
        self.update(agent_id, |held, policy| {
            held.confirm_by = Some(now_ms + policy.accept_timeout_ms);
            held.resend_at = returned.resend.then_some(now_ms + policy.reconcile_ms);
            held.last_alive_at = now_ms;
            held.away = None;
            held.run_unclear = returned.unclear;
            if !returned.rival || held.run.is_none() {
                held.run = Some(returned.run.clone());
            }
        });
    }

    /// Moves every time `ms` later, or earlier if that is negative, because the clock was set to `now_ms`. The time by which
    /// a task should be done is a date, and stays; one that has come into the future counts again.
    pub(super) fn move_by(&mut self, ms: i64, now_ms: u64, complete_by: impl Fn(&str) -> Option<u64>) {
        self.due.clear();
        for (agent_id, mut held) in std::mem::take(&mut self.held) {
            held.move_by(ms);
            held.overdue_at = held.overdue_at.or_else(|| complete_by(&held.task_id).filter(|at| *at > now_ms));
            self.insert(&agent_id, held);
        }
    }

    /// Returns what is due by now. Sending again is due once; a reclaim is due until it is done.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        let over: Vec<Arc<str>> =
            self.due.range(..(now_ms + 1, Arc::default())).map(|(_, agent_id)| agent_id.clone()).collect();
        let due = |agent_id: Arc<str>| {
            let found = self.update(&agent_id, |held, policy| held.due(now_ms, policy)).flatten();
            found.map(|what| what.of(agent_id.as_ref().to_owned()))
        };
        over.into_iter().filter_map(due).collect()
    }

    /// Returns whether the index by time has each holder once, at its time, and readers see what each holds.
    #[cfg(test)]
    pub(crate) fn index_is_right(&self) -> bool {
        let held = self.held.iter().map(|(agent_id, held)| (agent_id.clone(), held.holding()));
        if self.holders != held.collect::<HolderTable>() {
            return false;
        }
        let due =
            |(agent_id, held): (&Arc<str>, &ActiveAssignment)| Some((held.due_at(&self.policy)?, agent_id.clone()));
        self.due == self.held.iter().filter_map(due).collect()
    }

    /// Returns when `due` will next have a result.
    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }
}
