//! pm2's channel, both ways: what it asks of us (`"shutdown"`, `pm2 trigger`) goes to the machine, what we are
//! (`"ready"`, figures, answers) goes to it. Nothing is decided here, and nothing here ever waits for pm2.
//!
//! The protocol is Node's: lines of JSON on the descriptor that `NODE_CHANNEL_FD` names. See `line` for what a wrong one
//! would do.
// Elsewhere there is no channel that we know how to take over.
#![cfg_attr(not(unix), allow(dead_code))]

mod actions;
mod figures;
mod line;
mod metrics;
mod reader;
#[cfg(unix)]
mod socket;
mod writer;

#[cfg(unix)]
pub(crate) use self::socket::open;
pub(crate) use self::writer::ChannelWriter;

use crate::sidecar::admin::status::Status;

impl ChannelWriter {
    /// What pm2 is to show of a process that is about to end.
    pub(crate) fn say_final_messages(&self, status: &Status) {
        self.say(metrics::final_messages(status));
    }
}
