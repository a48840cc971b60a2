//! The limit on open files, which limits the number of agents.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit on open files as far as the system allows, because each agent costs one. Call it before the first
/// socket.
pub fn raise() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = now.current, "the limit on open files could not be raised");
    }
    tracing::debug!(files = max_open_files(), "open files");
}

/// Returns the number of files that may be open.
pub fn max_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
