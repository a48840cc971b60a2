//! The commands about drains: `drain` and `resume`.

pub(in crate::hub::cli) mod command;
mod wait;
