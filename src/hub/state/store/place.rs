//! Whether the open store's file is still where it was, as it was left: not removed, moved, replaced, or written by others.
//! A commit into a file that nobody finds again is no commit.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::fs::same_file::identity;

/// The file that is open.
#[derive(Debug)]
pub(super) struct Place {
    /// What names it on this machine.
    identity: (u64, u64),
    /// Its size after the last commit, in bytes. Nobody else changes it.
    bytes: AtomicU64,
}

/// What was done to the file of a hub that runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreLoss {
    /// It has no name any more.
    #[error(
        "was removed, or its disk unmounted, while the hub ran: put it back, or restore a backup (agentcom-hub restore FILE)"
    )]
    Removed,
    /// Another file has its name.
    #[error("was replaced by another file while the hub ran: the next start takes that one")]
    Replaced,
    /// It is elsewhere, alone or with its folder.
    #[error(
        "was moved to {} while the hub ran, and is whole: start a hub on that folder with --data, or move it back, where \
         nothing may be in its place", .0.display()
    )]
    MovedTo(PathBuf),
    /// It has another size than the hub gave it.
    #[error(
        "was written by another program while the hub ran (it has {is} bytes, not {was}): restore a backup (agentcom-hub \
         restore FILE)"
    )]
    Written {
        /// Its size as the hub left it, in bytes.
        was: u64,
        /// Its size, in bytes.
        is: u64,
    },
    /// The system does not say.
    #[error("cannot be reached any more ({0}): look at its folder and its disk")]
    Unreachable(String),
}

impl Place {
    /// Returns the place of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { identity: identity(&found), bytes: AtomicU64::new(found.len()) })
    }

    /// Returns the size of the file as its owner left it, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Looks whether the path leads to the file, and whether it is as it was left. It is one system call.
    pub(super) fn check(&self, path: &Path) -> Result<(), StoreLoss> {
        let is = self.find(path)?.len();
        let was = self.bytes();
        if is == was { Ok(()) } else { Err(StoreLoss::Written { was, is }) }
    }

    /// Looks whether the path leads to the file, to which its owner has just written.
    pub(super) fn written(&self, path: &Path) -> Result<(), StoreLoss> {
        self.bytes.store(self.find(path)?.len(), Ordering::Relaxed);
        Ok(())
    }

    fn find(&self, path: &Path) -> Result<Metadata, StoreLoss> {
        match fs::metadata(path) {
            Ok(found) if identity(&found) == self.identity => Ok(found),
            Ok(_) => Err(self.moved_to().map_or(StoreLoss::Replaced, StoreLoss::MovedTo)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(self.moved_to().map_or(StoreLoss::Removed, StoreLoss::MovedTo))
            }
            Err(error) => Err(StoreLoss::Unreachable(error.to_string())),
        }
    }

    /// Returns whether the file is gone once it is closed.
    pub(super) fn has_no_name(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        self.descriptor().is_some_and(|(_, found)| found.nlink() == 0)
    }

    /// Returns where the file is, if it still has a name that the system tells.
    fn moved_to(&self) -> Option<PathBuf> {
        let (descriptor, _) = self.descriptor()?;
        let path = fs::read_link(descriptor).ok()?;
        // One that was removed is told with a word behind its name.
        fs::metadata(&path).is_ok_and(|found| identity(&found) == self.identity).then_some(path)
    }

    /// Returns this process's entry for the file, and what is there.
    fn descriptor(&self) -> Option<(PathBuf, Metadata)> {
        let entries = fs::read_dir("/proc/self/fd").ok()?;
        let all = entries.flatten().filter_map(|entry| Some((entry.path(), fs::metadata(entry.path()).ok()?)));
        all.into_iter().find(|(_, found)| identity(found) == self.identity)
    }
}
