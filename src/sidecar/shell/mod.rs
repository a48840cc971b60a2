//! The I/O shell: one loop, and one adapter a file. Adapters translate between the world and the machine's events and
//! effects; none of them decides.

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
