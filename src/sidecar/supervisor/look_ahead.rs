//! What would follow this process: who would start the next run, and whether its program can start.

use futures_util::future::BoxFuture;

use crate::machine::Comeback;

/// What was found of the run after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who would start it.
    pub comeback: Comeback,
    /// Why its program cannot start, where it cannot.
    pub no_return: Option<String>,
}

/// Finds out what would follow this process.
pub trait LookAhead: Send + Sync {
    /// What is found; `None` where nothing could be found out in time. `leaving`: only another program than the one that runs
    /// is tried out.
    fn look(&self, leaving: bool) -> BoxFuture<'_, Option<Found>>;
    /// Nothing is looked for any more.
    fn close(&self);
}
