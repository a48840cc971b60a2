//! The machine of a new process.

use alloc::vec::Vec;

use crate::machine::model::connection::Link;
use crate::machine::model::cordon::Cordon;
use crate::machine::model::effect::Effect;
use crate::machine::model::job::Job;
use crate::machine::model::journal::{Disk, Journal};
use crate::machine::model::late_session::Latecomers;
use crate::machine::model::machine::Machine;
use crate::machine::model::outbox::Outbox;
use crate::machine::model::parked_work::{Shelf, Shelved};
use crate::machine::model::policy::Policy;
use crate::machine::model::state::State;
use crate::machine::model::time::Timestamp;
use crate::machine::step::Step;

impl Machine {
    /// The machine of a new process that found `journal` on disk, and its first effects.
    pub fn recover(journal: Journal, now: Timestamp, policy: &Policy) -> (Self, Vec<Effect>) {
        let durable = journal.clone();
        let state = match journal.job {
            None => State::Idle,
            Some(carried) => State::Working { job: Job::recovered(carried, now, policy) },
        };
        let shelf = journal.shelf.into_iter().map(|item| match item {
            Shelved::UnderWay(carried) => Shelved::UnderWay(carried.after_crash(now, policy)),
            Shelved::Finished { task_id, result } => Shelved::Finished { task_id, result },
        });
        let outbox = Outbox::recovered(journal.outbox);
        let machine = Self {
            state,
            link: Link::start(now),
            outbox,
            shelf: Shelf::recovered(shelf.collect()),
            latecomers: Latecomers::recovered(journal.latecomers),
            restarts: journal.restarts.recovered(now),
            disk: Disk::Ready,
            durable,
            held: None,
            check: None,
            replies: Vec::new(),
            questions: 0,
            cordon: if journal.cordoned { Cordon::On } else { Cordon::Off },
        };
        begin(machine, now, policy)
    }
}

/// The first effects of a process.
pub(in crate::machine) fn begin(machine: Machine, now: Timestamp, policy: &Policy) -> (Machine, Vec<Effect>) {
    let mut step = Step { machine, now, policy, effects: Vec::new() };
    step.settle();
    (step.machine, step.effects)
}
