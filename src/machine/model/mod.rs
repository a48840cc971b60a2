//! The machine's data types: its state, its events and its effects.

pub(in crate::machine) mod connection;
pub(in crate::machine) mod cordon;
pub(in crate::machine) mod effect;
pub(in crate::machine) mod event;
pub(in crate::machine) mod job;
pub(in crate::machine) mod journal;
pub(in crate::machine) mod last_look;
pub(in crate::machine) mod late_session;
pub(in crate::machine) mod machine;
pub(in crate::machine) mod news;
pub(in crate::machine) mod notice;
pub(in crate::machine) mod outbox;
pub(in crate::machine) mod parked_work;
pub(in crate::machine) mod policy;
pub(in crate::machine) mod reply;
pub(in crate::machine) mod restart_check;
pub(in crate::machine) mod restart_ledger;
pub(in crate::machine) mod review;
pub(in crate::machine) mod state;
pub(in crate::machine) mod task;
pub(in crate::machine) mod time;
pub(in crate::machine) mod time_limit;
