//! Asks the running sidecar for its state, and checks what it was started with: variables and flags that override the
//! configuration, which pm2 keeps and the shell of `check` may not have.

use std::time::Duration;

use crate::sidecar::admin::socket::Client;
use crate::sidecar::admin::status::Status;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::show;
use crate::sidecar::config::Config;

/// The time limit of the running sidecar's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the running sidecar's state, if it answers.
pub(super) fn status(config: &Config) -> Option<Status> {
    Client::for_queue_file(&config.queue_file).ok()?.waiting_for(ANSWER_TIMEOUT).status().ok()
}

/// Returns a finding for each key about the hub that the running sidecar has from elsewhere than the file.
pub(super) fn overridden(status: &Status) -> Vec<Finding> {
    let keys = status.hub.overridden.iter();
    let found = keys.filter_map(|one| show::hub::override_of(status, &one.key));
    found.map(|found| Finding::warning("config", format!("in the running sidecar {found}"))).collect()
}
