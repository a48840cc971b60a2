//! The sidecar's pure core: one state machine, one transition function, and the invariants that hold for both.
//!
//! **The law.** A machine changes only through [`transition`], and its only output is the list of effects that
//! [`transition`] returns. It reads no clock, does no I/O, draws no random numbers and never panics. The caller carries
//! the effects out in order and reports their results as further events.
//!
//! **Durability** is decided by comparison: the machine knows what the disk holds ([`Machine::durable`]), orders a
//! `Persist` whenever that differs from what must survive a crash ([`Machine::journal`]), and orders no effect that
//! depends on the write before the write is confirmed.
//!
//! **Time** is data: a deadline is stored in the state that waits for it, and [`Machine::deadline`] returns the
//! earliest.
//!
//! The core does not know frames, files, processes or pm2; `sidecar::shell` does. It compiles under `no_std` + `alloc`.

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
pub use model::effect::{CloseCode, Effect, EffectName, RestartAnswer, ResultFile, ToHub, ToHubName, WakeReport};
pub use model::event::{Event, EventName, FromHub, FromHubName, VerdictName, VerdictRefusal, WakeOutcome};
pub use model::job::{Job, Ownership, Pending, PersistedJob, Report, Sign, Stage, StageName};
pub use model::journal::{Disk, Journal, PreviousEnd};
pub use model::last_look::LastLook;
pub use model::late_session::{LATE_SESSIONS_CAP, LateSession, LateSessions};
pub use model::machine::{Assignment, Machine};
pub use model::news::News;
pub use model::notice::Notice;
pub use model::notice::{RejectReason, ReturnedFrom};
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
pub use model::time_limit::TimeLimit;
pub use timers::Wait;
pub use transition::transition;

#[cfg(test)]
mod tests;
