//! The next run: how it would be started, and whether its program can start.

use futures_util::future::BoxFuture;

use crate::machine::RestartMethod;

/// The findings about the run after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRunFound {
    /// How it would be started.
    pub restart_method: RestartMethod,
    /// Why its program cannot start, if so.
    pub cannot_start: Option<String>,
}

/// Checks the next run before it is needed.
pub trait LookAhead: Send + Sync {
    /// Returns the findings; `None` if nothing could be found out in time. With `leaving`, the program is tried only if
    /// it is not the one that runs.
    fn look(&self, leaving: bool) -> BoxFuture<'_, Option<NextRunFound>>;
    /// Stops all checks for good.
    fn close(&self);
}
