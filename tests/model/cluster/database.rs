//! The database, abstract: one row that says who leads, and the records. A commit lands as a whole or not at all.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use agentcom::hub::scheduler::Changes;
use agentcom::hub::scheduler::restart::{Restart, RestartPhase};
use agentcom::hub::scheduler::task::{Status, Task};

use super::scopes::{Rule, Scope};
use crate::model::violation::{Violation, violated};

/// The records, as a hub loads them.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pub tasks: BTreeMap<String, Task>,
    pub restarts: BTreeMap<String, Restart>,
}

/// One commit: by whom, which number it expects, and what changes.
#[derive(Debug, Clone)]
pub struct Commit {
    pub epoch: u64,
    pub commit_no: u64,
    tasks: Vec<(String, Option<Task>)>,
    restarts: Vec<(String, Option<Restart>)>,
}

/// Whether a commit landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    Yes,
    /// The hub is not the leader.
    Deposed,
}

#[derive(Debug, Clone, Default)]
pub struct Database {
    pub epoch: u64,
    pub commit_no: u64,
    pub records: Records,
    /// Commits whose hub lost the connection, and which may still land.
    pub under_way: Vec<Commit>,
}

impl Commit {
    pub fn of(changes: Changes<'_>, epoch: u64, commit_no: u64) -> Self {
        let tasks = changes.tasks.into_iter().map(|(id, task)| (id, task.cloned())).collect();
        let restarts = changes.restarts.into_iter().map(|(id, restart)| (id, restart.cloned())).collect();
        Self { epoch, commit_no, tasks, restarts }
    }

    /// Whether it only asks whether its hub is the leader.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.restarts.is_empty()
    }

    pub fn state_hash(&self, now: u64, hasher: &mut impl Hasher) {
        for (id, task) in &self.tasks {
            id.hash(hasher);
            task.iter().for_each(|task| hash_task(task, hasher));
        }
        for (id, restart) in &self.restarts {
            id.hash(hasher);
            restart.iter().for_each(|restart| hash_restart(restart, now, hasher));
        }
    }
}

impl Database {
    /// Another hub becomes the leader: from here on no commit of the one before lands.
    pub fn raise_epoch(&mut self, scope: &Scope) {
        self.epoch += 1;
        self.commit_no += 1;
        self.drop_hopeless(scope);
    }

    pub fn commit(&mut self, commit: &Commit, scope: &Scope) -> Result<Landed, Violation> {
        if !self.admits(commit, scope) {
            return Ok(Landed::Deposed);
        }
        self.commit_no += 1;
        for (id, task) in &commit.tasks {
            let before = self.records.tasks.get(id);
            if let (Some(before), Some(after)) = (before, task)
                && (after.generation < before.generation || (before.status.is_final() && after.status != before.status))
            {
                let (before, after) = (shown(before), shown(after));
                return Err(violated("goes_back", format!("{id} was {before}, and a commit makes it {after}")));
            }
            put(&mut self.records.tasks, id, task.as_ref());
        }
        for (id, restart) in &commit.restarts {
            let before = self.records.restarts.get(id);
            if let (Some(before), Some(after)) = (before, restart)
                && goes_back(before.phase, after.phase)
            {
                let (before, after) = (before.phase.name(), after.phase.name());
                return Err(violated("goes_back", format!("{id} was {before}, and a commit makes it {after}")));
            }
            put(&mut self.records.restarts, id, restart.as_ref());
        }
        self.drop_hopeless(scope);
        Ok(Landed::Yes)
    }

    fn admits(&self, commit: &Commit, scope: &Scope) -> bool {
        let is_leader = commit.epoch == self.epoch;
        let is_next = commit.commit_no == self.commit_no;
        match scope.without {
            Some(Rule::FencedCommits) => is_leader || !commit.is_empty(),
            Some(Rule::CountedCommits) => is_leader,
            Some(Rule::LoadsAfterTheEpoch | Rule::FencedWords | Rule::CurrentConnection | Rule::LongReclaim) | None => {
                is_leader && is_next
            }
        }
    }

    /// Forgets commits that cannot land any more.
    fn drop_hopeless(&mut self, scope: &Scope) {
        let under_way = std::mem::take(&mut self.under_way);
        self.under_way = under_way.into_iter().filter(|commit| self.admits(commit, scope)).collect();
    }

    pub fn state_hash(&self, now: u64, hasher: &mut impl Hasher) {
        self.epoch.hash(hasher);
        self.records.state_hash(now, hasher);
        // One may have nothing in it but the fence.
        self.under_way.len().hash(hasher);
        for commit in &self.under_way {
            commit.state_hash(now, hasher);
        }
    }
}

impl Records {
    pub fn state_hash(&self, now: u64, hasher: &mut impl Hasher) {
        self.tasks.values().for_each(|task| hash_task(task, hasher));
        self.restarts.values().for_each(|restart| hash_restart(restart, now, hasher));
    }
}

/// Whether a command that had come as far as `before` has not come as far as `after` says.
fn goes_back(before: RestartPhase, after: RestartPhase) -> bool {
    let comes_late = (before, after) == (RestartPhase::Overdue, RestartPhase::Back);
    if before.is_open() { after < before } else { after != before && !comes_late }
}

fn put<T: Clone>(table: &mut BTreeMap<String, T>, id: &str, record: Option<&T>) {
    match record {
        Some(record) => table.insert(id.to_owned(), record.clone()),
        None => table.remove(id),
    };
}

/// A task in a few words.
pub fn shown(task: &Task) -> String {
    let holder = task.holder().map(|holder| format!(" {holder}")).unwrap_or_default();
    format!("{}{holder} generation {}", task.status.name(), task.generation)
}

/// Whether two records of one task are the same as far as anything is decided by them.
pub fn is_same(one: &Task, other: &Task) -> bool {
    (one.generation, one.retry_count, one.losses, &one.status)
        == (other.generation, other.retry_count, other.losses, &other.status)
}

fn hash_task(task: &Task, hasher: &mut impl Hasher) {
    let accepted = matches!(task.status, Status::Assigned { accepted: true, .. });
    (&task.id, task.generation, task.retry_count, task.losses, task.status.name(), accepted).hash(hasher);
    (task.holder(), task.assigned_to()).hash(hasher);
}

fn hash_restart(restart: &Restart, now: u64, hasher: &mut impl Hasher) {
    (&restart.command_id, restart.phase.name(), &restart.boot_before, restart.left_at.is_some()).hash(hasher);
    restart.phase.is_open().then(|| restart.overdue_at.saturating_sub(now)).hash(hasher);
}
