//! The I/O shell: one loop, and one adapter a file. Adapters translate between the world and the machine's events and
//! effects; none of them decides.

#[cfg(unix)]
pub mod adopted;
mod begin;
mod clock;
#[cfg(unix)]
pub mod console;
mod control;
mod dispatch;
pub mod exit_code;
mod hear;
mod hooks;
mod http;
pub mod hub_link;
pub mod in_place;
mod inbox;
#[cfg(unix)]
mod inherited_fd;
pub mod journal_file;
pub mod lock;
mod log_step;
mod next_run;
mod observed;
mod operator;
pub mod outside;
mod panel;
pub mod pm2;
mod pm2_channel;
pub mod preflight;
#[cfg(test)]
mod read_again_tests;
mod readiness;
pub mod refused_results;
mod reload;
mod report;
mod resources;
mod result_hook;
pub mod results;
pub mod runner;
pub mod runs;
mod sidecar;
mod speak;
mod start;
mod status;
mod systemd;

pub use crate::machine::Ending;
pub use control::{RestartHandle, SidecarGone};
pub use hear::{CLOSE_SUPERSEDED, hear};
pub use operator::Answer;
pub use sidecar::Sidecar;
pub use speak::{Introduction, speak};
pub(crate) use start::STOP_RESERVE_MS;
pub use start::{StartError, Started, start, start_in};
pub use status::Status;
#[cfg(test)]
pub(crate) use status::example as status_example;
