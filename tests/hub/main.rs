//! The real hub, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

#[path = "../support/example_binary.rs"]
mod example_binary;
mod support;

mod abuse;
mod admin;
mod disk;
mod lists;
mod load;
mod node_sidecar;
mod owners;
mod process;
mod restarts;
mod stored;
mod tasks;
mod token_file;
