//! The local socket's place: beside the journal, removed when the sidecar ends.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file;
use crate::common::private_socket;

/// Returns the socket's path for a journal: the journal's (symbolic links resolved) with `.sock` appended.
pub(super) fn path_of(queue_file: &Path) -> io::Result<PathBuf> {
    let mut path = atomic_file::resolve(queue_file).map_err(|error| error.source)?.into_os_string();
    path.push(".sock");
    Ok(path.into())
}

/// Removes the socket's file when it is dropped.
#[derive(Debug)]
pub(super) struct SocketGuard(PathBuf);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // A file that cannot be removed is replaced by the next run.
        let _ = private_socket::remove(&self.0);
    }
}

/// Creates the listener. The caller must hold the state folder's lock: then no process listens on a socket that is
/// already there, and it is replaced.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn open(queue_file: &Path) -> io::Result<(UnixListener, SocketGuard)> {
    let path = path_of(queue_file)?;
    Ok((private_socket::bind(&path)?, SocketGuard(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_goes_with_its_guard() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let (_listener, guard) = open(&queue).unwrap();
        private_socket::connect(&path_of(&queue).unwrap()).unwrap();
        drop(guard);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
