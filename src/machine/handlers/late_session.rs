//! Sessions that show themselves though their task was given up.

use crate::machine::model::effect::Effect;
use crate::machine::model::job::{Job, PersistedJob, Sign};
use crate::machine::model::late_session::LateSession;
use crate::machine::model::task::{Task, TaskId};
use crate::machine::step::Step;

impl Step<'_> {
    /// A job for a task that no work is known of.
    pub(in crate::machine) fn begin(&mut self, task: Task, assigned_at: Option<u64>) -> Job {
        let mut job = Job::fresh(task, assigned_at, self.now, self.policy);
        match self.machine.late_sessions.woken_in(&job.persisted.task.id) {
            Some(boot) => job.persisted.look_for_late_session(boot, self.now, self.policy),
            // Nobody knows of a session: its sign would be waited on for ever, were it dead.
            None => self.judge_sign(&job.task().id, Sign::Old),
        }
        job
    }

    /// BEFORE the journal says that the job is ours in this boot.
    pub(in crate::machine) fn judge_sign(&mut self, task_id: &TaskId, sign: Sign) {
        match sign {
            Sign::Counts => {}
            Sign::Old => self.order(Effect::DropSign { task_id: task_id.clone() }),
        }
    }

    /// The wake ended well: whom it woke may show up after the task was given up.
    pub(in crate::machine) fn expect_late_session(&mut self) {
        let Some(job) = self.machine.state.job() else { return };
        let PersistedJob { task, machine_boot, .. } = &job.persisted;
        let late_session = LateSession { task_id: task.id.clone(), machine_boot: machine_boot.clone() };
        self.machine.late_sessions.expect(late_session);
    }
}
