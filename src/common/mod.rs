//! What both programs share: files, sockets, texts, durations, certificates, the log, signals and secrets.

pub mod certificates;
pub mod cli;
pub(crate) mod crash_points;
pub mod duration;
pub mod fs;
pub mod http_client;
pub mod http_host;
pub(crate) mod http_server;
pub mod logging;
pub(crate) mod private_socket;
pub mod secret;
pub mod signals;
pub mod steady_clock;
/// The tests' reader of Prometheus' text.
#[cfg(test)]
#[path = "../../tests/support/prometheus.rs"]
#[allow(unreachable_pub, missing_docs, dead_code, reason = "the tests' own reader")]
pub(crate) mod strict_prometheus;
pub mod text;
pub mod wall_clock;
