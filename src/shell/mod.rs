//! The I/O shell.

pub mod durable;
pub mod exit_code;
pub mod hub_link;
pub mod lock;
pub mod pm2;
pub mod results;
pub mod runner;
