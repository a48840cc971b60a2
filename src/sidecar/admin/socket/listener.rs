//! The local socket's place: beside the journal, removed when the sidecar ends.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::common::fs::{atomic_file, same_file};
use crate::common::private_socket;

/// Returns the socket's path for a journal: the journal's (symbolic links resolved) with `.sock` appended.
pub(super) fn path_of(queue_file: &Path) -> io::Result<PathBuf> {
    let mut path = atomic_file::resolve(queue_file).map_err(|error| error.source)?.into_os_string();
    path.push(".sock");
    Ok(path.into())
}

/// The socket's file; removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(pub(super) SocketPlace);

/// Where a socket's file is, and which one.
#[derive(Debug, Clone)]
pub(super) struct SocketPlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketPlace {
    /// Returns whether it is in its place, and that is still the one beside the journal.
    pub(super) fn is_there_for(&self, queue_file: &Path) -> bool {
        // Links that lead nowhere name no other place.
        self.is_there() && path_of(queue_file).map_or(true, |path| path == self.path)
    }

    /// Returns whether it is still in its place.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| same_file::identity(&found) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.0.is_there() {
            // A file that cannot be removed is replaced by the next run.
            let _ = private_socket::remove(&self.0.path);
        }
    }
}

/// Creates the listener. The caller must hold the state folder's lock: then no process listens on a socket that is
/// already there, and it is replaced.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn open(queue_file: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let path = path_of(queue_file)?;
    let listener = private_socket::bind(&path)?;
    let identity = same_file::identity(&fs::symlink_metadata(&path)?);
    Ok((listener, SocketFile(SocketPlace { path, identity })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let (_listener, file) = open(&queue).unwrap();
        private_socket::connect(&path_of(&queue).unwrap()).unwrap();
        assert!(file.0.is_there());
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
