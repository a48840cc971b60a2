//! Late sessions: sessions that start work after their task was given up.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::{Job, PersistedJob, Sign};
use crate::machine::model::late_session::LateSession;
use crate::machine::model::machine::Assignment;
use crate::machine::model::task::TaskId;
use crate::machine::step::Step;

impl Step<'_> {
    /// Returns a job for a task that has no known work.
    pub(in crate::machine) fn begin(&mut self, assignment: Assignment) -> Job {
        let Assignment { task, assigned_at, timeout_ms } = assignment;
        let mut job = Job::fresh(task, assigned_at, timeout_ms, self.now, self.policy);
        match self.machine.late_sessions.woken_in(&job.persisted.task.id) {
            Some(boot) => job.persisted.look_for_late_session(boot, self.now, self.policy),
            // No session is known, so the sign of a dead one would be waited for without end.
            None => self.judge_sign(&job.task().id, Sign::Old),
        }
        job
    }

    /// Drops an old sign. Must run BEFORE the journal names this boot for the job.
    pub(in crate::machine) fn judge_sign(&mut self, task_id: &TaskId, sign: Sign) {
        match sign {
            Sign::Counts => {}
            Sign::Old => self.order(Effect::DropSign { task_id: task_id.clone() }),
        }
    }

    /// Remembers that the wake succeeded: its session may start after the task was given up.
    pub(in crate::machine) fn expect_late_session(&mut self) {
        let Some(job) = self.machine.state.job() else { return };
        let PersistedJob { task, machine_boot, .. } = &job.persisted;
        let late_session = LateSession { task_id: task.id.clone(), machine_boot: machine_boot.clone() };
        self.machine.late_sessions.expect(late_session);
    }
}
