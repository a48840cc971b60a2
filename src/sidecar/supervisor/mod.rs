//! How the process is started again, by pm2 or in place by `exec`, and whether the next run can start.

pub mod exec;
pub(crate) mod inherited_fd;
pub mod look_ahead;
pub mod pm2;
pub mod preflight;
pub mod reaper;
