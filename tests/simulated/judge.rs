//! What must hold of a seed: of each frame of the sidecar, of each wake, and of the books and the folder at the end. It
//! only notes what does not.

use agentcom::hub::scheduler::task::Status;
use agentcom::protocol::SidecarFrame;
use serde_json::json;

use crate::books::Rules;
use crate::shared::Shared;
use crate::support::legacy_hub::tasks as legacy;

impl Shared {
    /// How often each task was completed in the hub's own books, judged at the end.
    pub fn judge_the_end(&mut self) {
        let times: Vec<(String, usize, bool)> = match &self.rules {
            Rules::Ours { tasks, .. } => self
                .submitted
                .iter()
                .map(|id| match tasks.get(id) {
                    Some(task) => {
                        let times = task.history.iter().filter(|entry| entry.event == "completed").count();
                        (id.clone(), times, task.status == Status::DeadLetter)
                    }
                    None => (id.clone(), 0, false),
                })
                .collect(),
            Rules::Legacy(actor) => self
                .submitted
                .iter()
                .map(|id| match actor.tasks.get(id) {
                    Some(task) => {
                        let times = task.history.iter().filter(|(_, what, _)| *what == "completed").count();
                        (id.clone(), times, task.status == legacy::Status::DeadLetter)
                    }
                    None => (id.clone(), 0, false),
                })
                .collect(),
        };
        if let Rules::Ours { restarts, .. } = &self.rules {
            self.counts.ends += restarts.len() as u64;
        }
        for (id, times, dead) in times {
            if times != usize::from(!dead) {
                self.violations.push(format!("{id} was completed {times} times, dead letter: {dead}"));
            }
        }
    }

    /// The files of a task that has ended are gone: its verdict was on disk, and they were removed, before the hub heard it.
    pub fn judge_the_folder(&mut self) {
        let has_ended = |id: &&String| match &self.rules {
            Rules::Ours { tasks, .. } => tasks.get(*id).is_some_and(|task| task.status.is_final()),
            Rules::Legacy(actor) => actor
                .tasks
                .get(id)
                .is_some_and(|task| matches!(task.status, legacy::Status::Completed | legacy::Status::DeadLetter)),
        };
        let is_there = |at: Option<&u64>| at.is_some_and(|at| *at <= self.now);
        let mut left_behind = Vec::new();
        for id in self.submitted.iter().filter(has_ended) {
            self.counts.ended += 1;
            for (files, kind) in [(&self.started, "started"), (&self.results, "json")] {
                if is_there(files.get(id)) {
                    left_behind.push(format!("{id} has ended, and {id}.{kind} was left behind"));
                }
            }
        }
        self.violations.extend(left_behind);
    }

    /// A wake begins: no assignment is woken twice unless the last wake is known to have failed.
    pub fn woken(&mut self, task_id: &str, generation: u64) {
        self.counts.wakes += 1;
        match self.wakes.insert((task_id.to_owned(), generation), false) {
            None => {}
            Some(true) => self.counts.rewakes += 1,
            Some(false) => self.violations.push(format!("{task_id} was woken twice for generation {generation}")),
        }
    }

    /// The sidecar was told that the wake failed.
    pub fn wake_failed(&mut self, task_id: &str, generation: u64) {
        self.wakes.insert((task_id.to_owned(), generation), true);
    }

    pub fn judge(&mut self, conn: u64, frame: &SidecarFrame) {
        if let SidecarFrame::Identify(identify) = frame {
            self.known.insert(conn, identify.boot_id.clone().unwrap_or_default());
        }
        let boot = self.known.get(&conn).cloned().unwrap_or_default();
        match frame {
            SidecarFrame::Identify(_) => {
                // What a process that is gone left in a slow hub's inbox may be read after the next one's words.
                if conn > self.newest {
                    self.newest = conn;
                    if self.boots.last() != Some(&boot) {
                        if self.boots.contains(&boot) {
                            self.violations.push(format!("the run {boot} came back after another"));
                        }
                        self.boots.push(boot);
                    }
                } else {
                    self.counts.overtaken += u64::from(conn < self.newest);
                }
            }
            SidecarFrame::AgentRestarting(_) => {
                self.counts.restarts += 1;
                if !self.announced.insert(boot.clone()) {
                    self.violations.push(format!("the run {boot} announced its end twice"));
                }
            }
            SidecarFrame::TaskAccepted { .. } | SidecarFrame::TaskComplete(_) | SidecarFrame::TaskFailed { .. }
                if self.announced.contains(&boot) =>
            {
                self.violations.push(format!("{frame:?} after the announcement"));
            }
            SidecarFrame::TaskComplete(verdict) => {
                let said = json!([verdict.result]).to_string();
                self.verdict(verdict.task_id.clone(), verdict.generation, said);
            }
            SidecarFrame::TaskFailed { task_id, generation, reason, error } => {
                let said = json!([reason, error]).to_string();
                self.verdict(task_id.clone(), *generation, said);
            }
            // These promise nothing that is judged here.
            SidecarFrame::Ping {}
            | SidecarFrame::Status { .. }
            | SidecarFrame::TaskAccepted { .. }
            | SidecarFrame::TaskRejected { .. }
            | SidecarFrame::TaskProgress { .. }
            | SidecarFrame::TaskRecovering { .. }
            | SidecarFrame::StateReport { .. }
            | SidecarFrame::WakeResult { .. }
            | SidecarFrame::ResourceReport { .. }
            | SidecarFrame::Cordon { .. }
            | SidecarFrame::RestartAck(_) => {}
        }
    }

    fn verdict(&mut self, task_id: String, generation: u64, said: String) {
        let before = self.verdicts.entry((task_id.clone(), generation)).or_insert_with(|| said.clone());
        if *before != said {
            let two = format!("two verdicts on {task_id} generation {generation}: {before} and {said}");
            self.violations.push(two);
        }
    }
}
