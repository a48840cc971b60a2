//! Hub and sidecar under a real pm2, judged by pm2's own list and the hub's API.

#[path = "../support/mod.rs"]
mod support;

mod channel;
mod channel_pipe;
mod commands;
mod crashes;
mod ecosystem;
mod ends;
mod fleet;
mod identity;
mod restarts;
mod runtime;
mod settings;
mod takeover;
mod transcripts;
