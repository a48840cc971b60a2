//! The real hub, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

#[path = "../support/encodings.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod encoding_table;
#[path = "../support/example_binary.rs"]
mod example_binary;
mod support;
#[path = "../support/tls.rs"]
#[allow(unreachable_pub, reason = "the parts of one test binary")]
mod tls;

mod abuse;
mod admin;
mod audit;
mod cli;
mod disk;
mod encodings;
mod expiry;
mod inventory;
mod invitations;
mod lists;
mod load;
mod node_sidecar;
mod owners;
mod process;
mod restarts;
mod roles;
mod stored;
mod tasks;
mod token_file;
mod v1;
mod v1_fleet;
