//! Builds the machine of a new process from the journal.

use alloc::vec::Vec;

use crate::machine::model::connection::Connection;
use crate::machine::model::cordon::Cordon;
use crate::machine::model::effect::Effect;
use crate::machine::model::job::Job;
use crate::machine::model::journal::{Disk, Journal};
use crate::machine::model::late_session::LateSessions;
use crate::machine::model::machine::Machine;
use crate::machine::model::outbox::Outbox;
use crate::machine::model::parked_work::{ParkedTask, ParkedWork};
use crate::machine::model::policy::Policy;
use crate::machine::model::state::State;
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

impl Machine {
    /// Returns the machine of a new process that found `journal` on disk, and its first effects.
    pub fn recover(journal: Journal, now: Timestamp, policy: &Policy) -> (Self, Vec<Effect>) {
        let durable = journal.clone();
        let state = match journal.job {
            None => State::Idle,
            Some(persisted) => State::Working { job: Job::recovered(persisted, now, policy) },
        };
        let parked = journal.parked.into_iter().map(|item| match item {
            ParkedTask::UnderWay(persisted) => ParkedTask::UnderWay(persisted.after_crash(now, policy)),
            finished @ ParkedTask::Finished { .. } => finished,
        });
        let outbox = Outbox::recovered(journal.outbox);
        let previous_end = durable.previous_end();
        let machine = Self {
            state,
            connection: Connection::start(now),
            outbox,
            parked: ParkedWork::recovered(parked.collect()),
            late_sessions: LateSessions::recovered(journal.late_sessions),
            restarts: journal.restarts.recovered(now),
            disk: Disk::Ready,
            durable,
            deferred: None,
            check: None,
            replies: Vec::new(),
            questions: 0,
            cordon: if journal.cordoned { Cordon::On } else { Cordon::Off },
            previous_end,
        };
        first_effects(machine, now, policy)
    }
}

/// Orders the first effects of a process.
pub(in crate::machine) fn first_effects(machine: Machine, now: Timestamp, policy: &Policy) -> (Machine, Vec<Effect>) {
    let mut step = Step { machine, now, policy, effects: Vec::new() };
    step.flush();
    (step.machine, step.effects)
}
