//! The I/O shell.

pub mod hub_link;
pub mod results;
pub mod runner;
