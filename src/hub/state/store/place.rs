//! Whether the open store's file is still where it was, as it was left: not removed, moved, replaced, or written by others.
//! A commit into a file that nobody finds again is no commit.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::common::fs::same_file::identity;

/// The number of bytes at the beginning of the file of which each commit changes some: redb keeps there which pages are the
/// newest, and their checksums.
const HEAD_BYTES: usize = 320;

/// The file that is open.
#[derive(Debug)]
pub(super) struct Place {
    /// Another handle of it.
    file: File,
    /// What names it on this machine.
    identity: (u64, u64),
    /// How the last commit left it; `None` before the first. Nobody else changes it.
    left: Mutex<Option<Looks>>,
}

/// By what a commit is told from another one, and from the store of another hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    bytes: u64,
    head: [u8; HEAD_BYTES],
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
    /// It is not as the hub left it.
    #[error("was written by another program while the hub ran: restore a backup (agentcom-hub restore FILE)")]
    Written,
    /// The system does not say.
    #[error("cannot be reached any more ({0}): look at its folder and its disk")]
    Unreachable(String),
}

impl Place {
    /// Returns the place of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let (file, found) = (file.try_clone()?, file.metadata()?);
        Ok(Self { file, identity: identity(&found), left: Mutex::new(None) })
    }

    fn left(&self) -> Option<Looks> {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the file as its owner left it, in bytes; 0 if it has written nothing yet.
    pub(super) fn bytes(&self) -> u64 {
        self.left().map_or(0, |left| left.bytes)
    }

    /// Looks whether the path leads to the file, and whether it is as it was left. It is two system calls, none of which waits
    /// for the disk.
    pub(super) fn check(&self, path: &Path) -> Result<(), StoreLoss> {
        let is = self.look(path)?;
        if self.left().is_none_or(|was| was == is) { Ok(()) } else { Err(StoreLoss::Written) }
    }

    /// Looks whether the path leads to the file, to which its owner has just written.
    pub(super) fn written(&self, path: &Path) -> Result<(), StoreLoss> {
        let looks = self.look(path)?;
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(looks);
        Ok(())
    }

    fn look(&self, path: &Path) -> Result<Looks, StoreLoss> {
        let bytes = self.find(path)?.len();
        let mut head = [0; HEAD_BYTES];
        match self.file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(Looks { bytes, head }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StoreLoss::Written),
            Err(error) => Err(StoreLoss::Unreachable(error.to_string())),
        }
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
        self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Returns where the file is, if it still has a name that the system tells.
    fn moved_to(&self) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        // One that was removed is told with a word behind its name.
        fs::metadata(&path).is_ok_and(|found| identity(&found) == self.identity).then_some(path)
    }
}
