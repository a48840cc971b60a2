//! The numbers of tasks by status, kept up to date with each commit so that no scrape looks at the tasks: pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::hub::scheduler::task::{Status, Task};

/// The statuses in the order of [`place`].
const STATUSES: [&str; 5] = ["queued", "assigned", "completed", "dead_letter", "cancelled"];

/// The numbers of tasks by status, and the order of those that wait.
#[derive(Debug, Default)]
pub(super) struct TaskCounts {
    counts: [u64; STATUSES.len()],
    /// The queued tasks by the time since which each is queued.
    queued: BTreeSet<(u64, Arc<str>)>,
}

impl TaskCounts {
    /// Records that a task changed. `before` is the task as of the last commit, `after` as of this one; `None` where it
    /// did not exist.
    pub(super) fn changed(&mut self, before: Option<&Task>, after: Option<&Task>) {
        if let Some(task) = before {
            let count = &mut self.counts[place(&task.status)];
            *count = count.saturating_sub(1);
            if task.status == Status::Queued {
                self.queued.remove(&waiting(task));
            }
        }
        if let Some(task) = after {
            self.counts[place(&task.status)] += 1;
            if task.status == Status::Queued {
                self.queued.insert(waiting(task));
            }
        }
    }

    /// Returns the number of tasks of each status.
    pub(super) fn by_status(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STATUSES.into_iter().zip(self.counts)
    }

    /// Returns since when the task that waits for the longest time is queued, in ms since the epoch. A task that was
    /// queued again waits since then.
    pub(super) fn oldest_queued_since(&self) -> Option<u64> {
        self.queued.first().map(|(since, _)| *since)
    }
}

/// The newest history entry of a queued task is the one that queued it.
fn waiting(task: &Task) -> (u64, Arc<str>) {
    (task.updated_at, task.id.as_str().into())
}

const fn place(status: &Status) -> usize {
    match status {
        Status::Queued => 0,
        Status::Assigned { .. } => 1,
        Status::Completed { .. } => 2,
        Status::DeadLetter => 3,
        Status::Cancelled => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::scheduler::task::Priority;
    use crate::hub::scheduler::tests::rig::submission;

    fn task(id: &str, queued_at: u64) -> Task {
        Task::new(id.into(), 1, submission(Priority::Normal), queued_at)
    }

    #[test]
    fn each_status_has_its_name() {
        let assigned =
            Status::Assigned { agent_id: String::new(), assigned_at: 0, accepted: false, carried_since: None };
        for status in [Status::Queued, assigned, Status::DeadLetter, Status::Cancelled] {
            assert_eq!(STATUSES[place(&status)], status.name());
        }
        assert_eq!(STATUSES[2], "completed");
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_for_the_longest_time() {
        let mut counts = TaskCounts::default();
        let (old, new) = (task("a", 5), task("b", 7));
        counts.changed(None, Some(&new));
        counts.changed(None, Some(&old));
        assert_eq!(counts.oldest_queued_since(), Some(5));
        let cancelled = Task { status: Status::Cancelled, ..old.clone() };
        counts.changed(Some(&old), Some(&cancelled));
        assert_eq!(counts.oldest_queued_since(), Some(7));
        counts.changed(Some(&new), None);
        counts.changed(None, None);
        assert_eq!(counts.oldest_queued_since(), None);
        assert_eq!(counts.by_status().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [("cancelled", 1)]);
    }
}
