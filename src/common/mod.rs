//! What both programs need and neither owns: files, the log, signals and secrets.

pub(crate) mod crash_points;
pub mod fs;
pub mod logging;
pub mod secret;
pub mod signals;
