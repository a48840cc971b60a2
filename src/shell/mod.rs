//! The I/O shell: one loop, and one adapter a file. Adapters translate between the world and the machine's events and
//! effects; none of them decides.

mod begin;
mod clock;
mod control;
mod crash_points;
mod dispatch;
pub mod durable;
pub mod exit_code;
mod hear;
mod hooks;
pub mod hub_link;
pub mod in_place;
#[cfg(unix)]
mod inherited_fd;
pub mod journal_file;
pub mod lock;
mod log_step;
pub mod logging;
mod observed;
mod operator;
mod panel;
pub mod pm2;
mod report;
mod resources;
pub mod results;
mod review;
pub mod runner;
pub mod runs;
mod sidecar;
mod speak;
mod start;
mod status;

pub use control::{RestartHandle, SidecarGone};
pub use hear::CLOSE_SUPERSEDED;
pub use operator::Answer;
pub use sidecar::{Ending, Sidecar};
pub use start::{StartError, Started, start};
pub use status::Status;
