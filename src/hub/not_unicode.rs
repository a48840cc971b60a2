//! The warning about text that is not Unicode, for all connections together: a peer that sends nothing else must not fill
//! the log.

use std::sync::Mutex;

use crate::common::steady_clock::now_ms;
use crate::hub::log_budget::{LogBudget, log_within};

static BUDGET: Mutex<LogBudget> = Mutex::new(LogBudget::new());

/// Logs that this many characters of what `sender` sent were read as U+FFFD, if there are any.
pub(super) fn warn(what: &'static str, sender: &str, replaced: usize) {
    if replaced == 0 {
        return;
    }
    log_within(&BUDGET, what, now_ms(), || {
        tracing::warn!(what, sender, replaced, "characters that are not Unicode were read as U+FFFD");
    });
}
