//! The real hub, over real sockets.

mod support;

mod abuse;
mod process;
mod restarts;
mod tasks;
