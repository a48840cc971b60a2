//! What brings the process back: pm2, or the process itself by `exec`; and whether the next run can start.

pub mod exec;
#[cfg(unix)]
pub(crate) mod inherited_fd;
pub mod look_ahead;
pub mod pm2;
pub mod preflight;
#[cfg(unix)]
pub mod reaper;
