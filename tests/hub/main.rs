//! The real hub, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

#[path = "../support/encodings.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod encoding_table;
#[path = "../support/example_binary.rs"]
mod example_binary;
#[path = "../support/prometheus.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod prometheus;
mod support;

mod abuse;
mod admin;
mod backup;
mod disk;
mod encodings;
mod lists;
mod load;
mod node_sidecar;
mod observed;
mod ops;
mod owners;
mod process;
mod restarts;
mod stored;
mod tasks;
mod token_file;
