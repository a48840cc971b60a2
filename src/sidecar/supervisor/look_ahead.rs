//! What would follow this process: who would start the next run, and whether its program can start.

use futures_util::future::BoxFuture;

use crate::machine::RestartMethod;

/// What was found of the run after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRunFound {
    /// Who would start it.
    pub restart_method: RestartMethod,
    /// Why its program cannot start, where it cannot.
    pub cannot_start: Option<String>,
}

/// Finds out what would follow this process.
pub trait LookAhead: Send + Sync {
    /// What is found; `None` where nothing could be found out in time. `leaving`: only another program than the one that runs
    /// is tried out.
    fn look(&self, leaving: bool) -> BoxFuture<'_, Option<NextRunFound>>;
    /// Nothing is looked for any more.
    fn close(&self);
}
