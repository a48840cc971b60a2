//! The I/O shell around the machine: the event loop and the translations between the adapters and the machine's events
//! and effects. It takes no decisions.

pub(crate) mod adapter_events;
mod adapters;
pub(crate) mod build;
mod closing;
pub mod environment;
mod event_loop;
pub(crate) mod inbox;
pub(crate) mod kept_results;
mod output;
mod read_journal;
mod restart_check;
mod start_error;
mod step_log;
#[cfg(test)]
mod tests;

pub(crate) use build::start_holding;
pub use build::{Started, start, start_in};
pub use event_loop::Sidecar;
pub use start_error::StartError;
