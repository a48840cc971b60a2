//! The I/O shell: one loop, and one adapter a file. Adapters translate between the world and the machine's events and
//! effects; none of them decides.

mod clock;
mod control;
mod crash_points;
pub mod durable;
pub mod exit_code;
mod hear;
pub mod hub_link;
pub mod in_place;
#[cfg(unix)]
mod inherited_fd;
pub mod journal_file;
pub mod lock;
mod log_step;
pub mod logging;
pub mod pm2;
mod report;
pub mod results;
pub mod runner;
mod sidecar;
mod speak;
mod start;

pub use control::{RestartHandle, SidecarGone};
pub use hear::{CLOSE_SUPERSEDED, hear};
pub use sidecar::{Ending, Sidecar};
pub use start::{StartError, Started, start};
