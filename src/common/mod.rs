//! What both programs share: files, sockets, texts, durations, certificates, the log, signals and secrets.

#[cfg(feature = "host")]
pub mod certificates;
#[cfg(feature = "host")]
pub mod cli;
#[cfg(feature = "host")]
pub(crate) mod crash_points;
#[cfg(feature = "host")]
pub mod duration;
#[cfg(feature = "host")]
pub mod fs;
#[cfg(feature = "host")]
pub mod http_client;
#[cfg(feature = "host")]
pub mod http_host;
#[cfg(feature = "host")]
pub(crate) mod http_server;
#[cfg(feature = "host")]
pub mod logging;
#[cfg(feature = "host")]
pub(crate) mod private_socket;
pub mod secret;
#[cfg(feature = "host")]
pub mod signals;
#[cfg(feature = "host")]
pub mod steady_clock;
/// The tests' reader of Prometheus' text.
#[cfg(feature = "host")]
#[cfg(test)]
#[path = "../../tests/support/prometheus.rs"]
#[allow(unreachable_pub, missing_docs, dead_code, reason = "the tests' own reader")]
pub(crate) mod strict_prometheus;
pub mod text;
pub mod wall_clock;
