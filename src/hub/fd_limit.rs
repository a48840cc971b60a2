//! The limit on open files, which is the limit on agents. It asks the system and decides nothing.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit on open files as far as the system lets us, for an agent costs one. Call it before the first socket.
pub fn raise() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = now.current, "the limit on open files could not be raised");
    }
    tracing::debug!(files = files(), "open files");
}

/// How many files may be open.
pub fn files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
