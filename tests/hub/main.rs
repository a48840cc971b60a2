//! The real hub, over real sockets.

mod support;

mod process;
mod restarts;
mod tasks;
