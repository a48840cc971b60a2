//! The real hub, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

#[path = "../support/backup.rs"]
#[allow(unreachable_pub, reason = "the other tests' too")]
mod backups;
#[cfg(feature = "postgres")]
#[path = "../support/database_proxy.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod database_proxy;
#[path = "../support/disk.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod disks;
#[path = "../support/encodings.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod encoding_table;
#[path = "../support/example_binary.rs"]
mod example_binary;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "a part is for other tests; it says what is not tested"
)]
mod postgres;
#[path = "../support/prometheus.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is for other tests")]
mod prometheus;
mod support;
#[path = "../support/tls.rs"]
#[allow(unreachable_pub, reason = "the parts of one test binary")]
mod tls;

mod abuse;
mod admin;
mod audit;
mod backup;
mod browsers;
mod cli;
mod cluster;
#[cfg(feature = "postgres")]
mod database;
mod disk;
mod drains;
mod encodings;
mod expiry;
mod healing;
mod inventory;
mod invitations;
mod lists;
mod load;
mod lost_store;
mod node_sidecar;
mod observed;
mod ops;
mod over_tls;
mod owners;
mod page;
mod process;
mod registration;
mod restarts;
mod roles;
mod stored;
mod tasks;
mod token_file;
mod v1;
mod v1_fleet;
mod v1_rollouts;
mod v1_strangers;
