//! pm2's channel in both directions: requests from pm2 (`"shutdown"`, `pm2 trigger`), and readiness, metrics and
//! answers to pm2. Nothing here ever waits for pm2.
//!
//! The protocol is Node's: lines of JSON on the descriptor that `NODE_CHANNEL_FD` names. See `line` for the effect of a
//! malformed one.

mod actions;
mod figures;
mod line;
mod metrics;
mod reader;
mod socket;
mod writer;

pub(crate) use self::socket::open;
pub(crate) use self::writer::ChannelWriter;

use crate::sidecar::admin::status::Status;

impl ChannelWriter {
    /// Sends pm2 what it is to show of a process that is about to end.
    pub(crate) fn send_final_messages(&self, status: &Status) {
        self.send(metrics::final_messages(status));
    }
}
