//! pm2's channel, both ways: what it asks of us (`"shutdown"`, `pm2 trigger`) goes to the machine, what we are
//! (`"ready"`, figures, answers) goes to it. Nothing is decided here, and nothing here ever waits for pm2.
//!
//! The protocol is Node's: lines of JSON on the descriptor that `NODE_CHANNEL_FD` names. See `line` for what a wrong one
//! would do.
// Elsewhere there is no channel that we know how to take over.
#![cfg_attr(not(unix), allow(dead_code))]

mod actions;
mod hear;
mod line;
mod metrics;
#[cfg(unix)]
mod socket;
mod voice;

#[cfg(unix)]
pub(super) use self::socket::open;
pub(super) use self::voice::Voice;

use super::status::Status;

impl Voice {
    /// What pm2 is to show of a process that is about to end.
    pub(super) fn say_last_words(&self, status: &Status) {
        self.say(metrics::last_words(status));
    }
}
