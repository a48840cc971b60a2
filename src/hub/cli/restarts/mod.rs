//! The commands about restarts.

pub(super) mod command;
pub(super) mod list;
mod wait;
