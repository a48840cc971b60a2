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

mod handlers;
pub mod invariants;
mod model;
mod recovery;
pub mod state_table;
mod step;
mod timers;
mod transition;

pub use model::connection::{Connection, ConnectionName, Features, Heartbeat, HubView, Jitter, Online};
pub use model::cordon::Cordon;
pub use model::effect::{
    CloseCode, Effect, EffectName, Notice, RejectReason, RestartAnswer, ReturnedFrom, ToHub, ToHubName, WakeReport,
};
pub use model::event::{Event, EventName, FromHub, FromHubName, VerdictRefusal, WakeOutcome};
pub use model::job::{Job, Ownership, Pending, PersistedJob, Report, Sign, Stage, StageName};
pub use model::journal::{Disk, Journal};
pub use model::last_look::LastLook;
pub use model::late_session::{LATE_SESSIONS_CAP, LateSession, LateSessions};
pub use model::machine::{DeferredAssignment, Machine};
pub use model::news::News;
pub use model::outbox::{Delivery, OUTBOX_CAP, Outbox, PendingVerdict, REFUSALS_CAP, Verdict};
pub use model::parked_work::{PARKED_WORK_CAP, ParkedTask, ParkedWork};
pub use model::policy::{Intensity, Policy, RestartMethod};
pub use model::reply::{Answer, PendingReply, REPLIES_CAP, Ticket};
pub use model::restart_check::{PENDING_RESTARTS_CAP, PendingRestart, RestartCheck};
pub use model::restart_ledger::{OpenRestart, RestartLedger, RestartOrder, Returned, SEEN_CAP};
pub use model::review::Review;
pub use model::state::{Cause, DrainStep, Ending, NextRun, Phase, State, StopSignal};
pub use model::task::{BadTaskId, Outcome, Task, TaskId};
pub use model::time::Timestamp;
pub use timers::Wait;
pub use transition::transition;

#[cfg(test)]
mod tests;
