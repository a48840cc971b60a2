//! The command about rollouts: `rollout`.

pub(in crate::hub::cli) mod command;
mod progress;
mod records;
mod start;
mod status;
mod watch;
pub(in crate::hub) mod words;
