//! The I/O shell.

pub mod durable;
pub mod exit_code;
pub mod lock;
pub mod logging;
pub mod pm2;
