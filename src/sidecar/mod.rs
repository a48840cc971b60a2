//! The sidecar's I/O. All decisions are taken in [`machine`](crate::machine).

pub mod admin;
pub mod agent;
pub mod cli;
pub(crate) mod clock;
pub mod config;
pub mod exit_code;
pub mod history;
pub mod hub_connection;
pub mod journal;
pub(crate) mod oom_counter;
pub(crate) mod policy;
pub(crate) mod previous_run;
pub(crate) mod proc_stat;
pub mod shell;
pub mod supervisor;
