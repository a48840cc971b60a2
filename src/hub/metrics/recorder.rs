//! What the actor records for the metrics: tasks and restarts from the changes of each commit, runs from each identify.
//! It costs a few map accesses for each changed record, and nothing for those that did not change.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::metrics::Metrics;
use crate::hub::metrics::runs::Runs;
use crate::hub::metrics::task_counts::TaskCounts;
use crate::hub::scheduler::Changes;
use crate::hub::scheduler::restart::RestartPhase;
use crate::hub::scheduler::view::View;
use crate::protocol::{Identify, PreviousEnd};

/// The hub commanded the restart.
const COMMANDED: &str = "commanded";
/// An operator or the supervisor restarted the sidecar on its machine.
const PLANNED: &str = "planned";
/// The run before ended without anybody's order: it was killed or crashed.
const UNPLANNED: &str = "unplanned";
/// The agent came back.
const BACK: &str = "back";
/// The agent came back after its restart was overdue.
const BACK_LATE: &str = "back_late";

/// Each outcome with each cause that it occurs with.
pub(super) const RESTARTS: [(&str, &str); 8] = [
    (BACK, COMMANDED),
    (BACK_LATE, COMMANDED),
    ("refused", COMMANDED),
    ("overdue", COMMANDED),
    ("revoked", COMMANDED),
    ("withdrawn", COMMANDED),
    (BACK, PLANNED),
    (BACK, UNPLANNED),
];

/// The actor's side of the metrics.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    tasks: TaskCounts,
    runs: Runs,
}

impl Recorder {
    /// Creates the recorder of a hub that starts in this state, and counts its tasks once.
    pub fn new(metrics: Arc<Metrics>, view: &View, store_bytes: u64) -> Self {
        let mut tasks = TaskCounts::default();
        view.tasks().list_after(None).for_each(|task| tasks.changed(None, Some(task)));
        metrics.set_tasks(&tasks);
        super::set(&metrics.store_bytes, Some(store_bytes));
        Self { metrics, tasks, runs: Runs::default() }
    }

    /// Records how long a request waited for the actor.
    pub fn handled_after(&self, waited: Duration) {
        self.metrics.handled_after(waited);
    }

    /// Records a commit. `before` is the state as of the last one.
    pub fn committed(&mut self, before: &View, changes: &Changes<'_>, took: Duration, store_bytes: u64) {
        self.metrics.committed(took, Some(store_bytes));
        for (task_id, after) in &changes.tasks {
            self.tasks.changed(before.tasks().get(task_id), *after);
        }
        if !changes.tasks.is_empty() {
            self.metrics.set_tasks(&self.tasks);
        }
        for (command_id, restart) in &changes.restarts {
            let Some(restart) = restart else { continue };
            let was = before.restarts().get(command_id).map(|restart| restart.phase);
            if let Some(outcome) = outcome(was, restart.phase) {
                let gap_ms = restart.gap_ms.filter(|_| restart.phase == RestartPhase::Back);
                self.metrics.restarted(outcome, COMMANDED, gap_ms);
            }
        }
    }

    /// Records an agent that identified. `is_commanded` says whether a commanded restart waited for its return: the
    /// ledger has that one.
    pub fn identified(&mut self, identify: &Identify, is_commanded: bool) {
        let Some(boot_id) = &identify.boot_id else { return };
        if !self.runs.is_other(&identify.agent_id, boot_id) || is_commanded {
            return;
        }
        let is_planned = identify.restarted.is_some() || identify.previous_end.is_some_and(PreviousEnd::is_planned);
        self.metrics.restarted(BACK, if is_planned { PLANNED } else { UNPLANNED }, None);
    }
}

/// Returns how a commanded restart ended between two commits; `None` if it did not.
fn outcome(was: Option<RestartPhase>, is: RestartPhase) -> Option<&'static str> {
    if was == Some(is) {
        return None;
    }
    match is {
        RestartPhase::Back if was == Some(RestartPhase::Overdue) => Some(BACK_LATE),
        RestartPhase::Back
        | RestartPhase::Refused
        | RestartPhase::Overdue
        | RestartPhase::Revoked
        | RestartPhase::Withdrawn => Some(is.name()),
        RestartPhase::Commanded
        | RestartPhase::Delivered
        | RestartPhase::Accepted
        | RestartPhase::Draining
        | RestartPhase::Exiting => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_of_a_commanded_restart_is_there_at_0_from_the_start() {
        use RestartPhase::{
            Accepted, Back, Commanded, Delivered, Draining, Exiting, Overdue, Refused, Revoked, Withdrawn,
        };
        let all = [Commanded, Delivered, Accepted, Draining, Exiting, Back, Refused, Overdue, Revoked, Withdrawn];
        for was in all.into_iter().map(Some).chain([None]) {
            for is in all {
                let ended = outcome(was, is);
                assert_eq!(ended.is_some(), !is.is_open() && was != Some(is), "{was:?} -> {is:?}");
                assert!(ended.is_none_or(|outcome| RESTARTS.contains(&(outcome, COMMANDED))), "{ended:?}");
            }
        }
        assert_eq!(outcome(Some(Overdue), Back), Some(BACK_LATE));
    }
}
