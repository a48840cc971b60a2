//! The pure core: one machine, one transition function, and what must always hold of them.
//!
//! **The law.** Nothing happens to a machine but by [`transition`], and nothing comes out of it but the effects that it
//! returns. It reads no clock, does no I/O, draws no dice and never panics; whoever calls it carries the effects out in
//! order and reports what became of them as further events.
//!
//! **Durability** is a comparison, not a habit: the machine knows what the disk holds ([`Machine::durable`]), orders a
//! `Persist` whenever that differs from what must survive ([`Machine::journal`]), and lets nothing out that depends on
//! the write before the write has been confirmed.
//!
//! **Time** is data: a deadline stands in the state that waits for it, and [`Machine::deadline`] names the earliest.
//!
//! It does not know frames, files, processes or pm2; see `shell` for those. It compiles under `no_std` + `alloc`.

mod check;
mod cordon;
mod deadline;
mod effect;
mod event;
mod hub_said;
pub mod invariants;
mod job;
mod journal;
mod last_look;
mod late;
mod leaving;
mod link;
mod news;
mod outbox;
mod policy;
mod refusal;
mod reply;
mod restarts;
mod review;
mod settle;
mod shelf;
mod state;
pub mod table;
mod task;
mod time;
mod transition;
mod work;

pub use check::{ASKS_CAP, Ask, Check};
pub use cordon::Cordon;
pub use deadline::Wait;
pub use effect::{
    CloseCode, Effect, EffectName, Notice, RejectReason, RestartAnswer, ReturnedFrom, ToHub, ToHubName, WakeReport,
};
pub use event::{Event, EventName, FromHub, FromHubName, VerdictRefusal, WakeOutcome};
pub use job::{Carried, Claim, Job, Report, Saying, Sign, Stage, StageName};
pub use journal::{Disk, Journal};
pub use last_look::LastLook;
pub use late::{LATECOMERS_CAP, Latecomer, Latecomers};
pub use link::{Features, Heartbeat, Jitter, Link, LinkName, Online, Standing};
pub use news::News;
pub use outbox::{Course, OUTBOX_CAP, Outbox, Pending, REFUSALS_CAP, Verdict};
pub use policy::{Comeback, Intensity, Policy};
pub use reply::{Answer, PendingReply, REPLIES_CAP, Ticket};
pub use restarts::{OpenRestart, RestartLedger, RestartOrder, Returned, SEEN_CAP};
pub use review::Review;
pub use shelf::{SHELF_CAP, Shelf, Shelved};
pub use state::{Cause, DrainStep, Ending, NextRun, Phase, State, StopSignal};
pub use task::{BadTaskId, Outcome, Task, TaskId};
pub use time::Timestamp;
pub use transition::transition;

use alloc::vec::Vec;

/// The sidecar: what excludes is a sum ([`State`], [`Link`], [`Disk`]), what coexists is this product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Where it is in its life, with the task in hand.
    pub state: State,
    /// The connection to the hub.
    pub link: Link,
    /// Verdicts without an answer.
    pub outbox: Outbox,
    /// Work that the hub took back, in case it comes again.
    pub shelf: Shelf,
    /// Sessions that may yet show themselves though their task was given up.
    pub latecomers: Latecomers,
    /// Commanded restarts.
    pub restarts: RestartLedger,
    /// The journal being written.
    pub disk: Disk,
    /// The journal on disk.
    pub durable: Journal,
    /// An assignment that came while the hub was being asked about the task in hand, or during a check; taken or refused
    /// when the answer is there.
    pub held: Option<HeldAssignment>,
    /// Restart commands that wait until it is known that the next run would start.
    pub check: Option<Check>,
    /// Answers to operators that wait for the disk.
    pub replies: Vec<PendingReply>,
    /// How many questions this process has asked, each named by its number.
    pub questions: u32,
    /// Whether new tasks are taken at all.
    pub cordon: Cordon,
}

/// An assignment that waits for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeldAssignment {
    /// The task.
    pub task: Task,
    /// When the hub assigned it.
    pub assigned_at: Option<u64>,
}

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
        transition::begin(machine, now, policy)
    }

    /// What must survive a crash; when nothing is being written, equal to what is on disk.
    pub fn journal(&self) -> Journal {
        Journal {
            job: self.state.carried().cloned(),
            shelf: self.shelf.items().to_vec(),
            latecomers: self.latecomers.items().to_vec(),
            outbox: self.outbox.to_journal(),
            restarts: self.restarts.clone(),
            cordoned: self.cordon.is_on(),
        }
    }

    /// What presence shows of work.
    pub fn presence(&self) -> &'static str {
        match self.cordon {
            Cordon::Off => self.state.work_status(),
            Cordon::On | Cordon::Away => "draining: takes no new task",
        }
    }

    /// The task whose files in the results folder are awaited. A recovering task's are left alone until the hub has
    /// said whose it is: they keep.
    pub fn watching(&self) -> Option<&TaskId> {
        let job = self.state.job()?;
        match (&job.claim, &job.carried.stage) {
            (Claim::Recovering { .. }, _) | (Claim::Ours { .. }, Stage::Accepted) => None,
            (Claim::Ours { .. }, _) => Some(&job.task().id),
        }
    }
}

#[cfg(test)]
mod tests;
