//! The I/O shell around the machine: the event loop and the translations between the adapters and the machine's events
//! and effects. It takes no decisions.

pub(crate) mod adapter_events;
pub(crate) mod build;
pub mod environment;
mod event_loop;
pub(crate) mod inbound;
pub(crate) mod inbox;
pub(crate) mod outbound;
mod restart_check;
mod step_log;
#[cfg(test)]
mod tests;

pub use build::{StartError, Started, start, start_in};
pub use event_loop::Sidecar;
pub use inbound::{CLOSE_SUPERSEDED, decode_frame};
pub use outbound::{Identity, encode_frame};
