//! The admin interfaces of a running sidecar, for operators and supervisors: the local socket, HTTP, pm2's channel,
//! systemd.

pub(crate) mod commands;
pub(crate) mod handle;
pub(crate) mod http;
pub(crate) mod identity_conflict;
pub(crate) mod pm2_channel;
pub(crate) mod readiness;
pub(crate) mod reload;
pub(crate) mod resources;
pub mod restart_handle;
pub(crate) mod signals;
pub(crate) mod snapshot;
pub mod socket;
pub(crate) mod status;
mod status_builder;
pub(crate) mod systemd;
