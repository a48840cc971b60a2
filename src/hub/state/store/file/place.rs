//! Whether the open store's file is still where it was, as it was left: not removed, moved, replaced, or written by others.
//! A commit into a file that nobody finds again is no commit.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// How the last write left it; `None` before the first, and after one that failed. Nobody else changes it.
    left: Mutex<Option<Looks>>,
    /// Whether it was found otherwise when it was to be written.
    is_spoilt: AtomicBool,
}

/// By what a commit is told from another one, and from the store of another hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    /// The size of the file, in bytes.
    pub(super) bytes: u64,
    /// Its beginning; zeros where it is shorter.
    head: [u8; HEAD_BYTES],
}

impl Looks {
    /// Records that these bytes were written there.
    pub(super) fn wrote(&mut self, offset: u64, data: &[u8]) {
        self.bytes = self.bytes.max(offset.saturating_add(data.len() as u64));
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
        self.head[from..].iter_mut().zip(data).for_each(|(is, new)| *is = *new);
    }
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
        Ok(Self { file, identity: identity(&found), left: Mutex::new(None), is_spoilt: AtomicBool::new(false) })
    }

    fn left(&self) -> MutexGuard<'_, Option<Looks>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the file as its owner left it, in bytes; 0 if it has written nothing yet.
    pub(super) fn bytes(&self) -> u64 {
        self.left().map_or(0, |left| left.bytes)
    }

    /// Changes the file, and records by `wrote` how it looks then. Somebody who has opened the file and locked it calls this.
    ///
    /// # Errors
    /// That of the change; or, and then nothing is changed, that the file is not as it was left.
    pub(super) fn change(
        &self,
        change: impl FnOnce() -> io::Result<()>,
        wrote: impl FnOnce(&mut Looks),
    ) -> io::Result<()> {
        let mut left = self.left();
        let is = self.look()?;
        if left.is_some_and(|was| was != is) {
            self.is_spoilt.store(true, Ordering::Relaxed);
            return Err(io::Error::other(StoreLoss::Written));
        }
        *left = None;
        change()?;
        wrote(left.insert(is));
        Ok(())
    }

    /// Returns whether a [change](Self::change) found the file otherwise than it was left.
    pub(super) fn is_spoilt(&self) -> bool {
        self.is_spoilt.load(Ordering::Relaxed)
    }

    /// Looks whether the path leads to the file, and whether it is as it was left. It is three system calls, none of which
    /// waits for the disk.
    pub(super) fn check(&self, path: &Path) -> Result<(), StoreLoss> {
        self.find(path)?;
        let is = self.look().map_err(|error| StoreLoss::Unreachable(error.to_string()))?;
        if self.left().is_none_or(|was| was == is) { Ok(()) } else { Err(StoreLoss::Written) }
    }

    fn look(&self) -> io::Result<Looks> {
        let mut looks = Looks { bytes: self.file.metadata()?.len(), head: [0; HEAD_BYTES] };
        let mut read = 0;
        while read < HEAD_BYTES {
            match self.file.read_at(&mut looks.head[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(looks)
    }

    fn find(&self, path: &Path) -> Result<(), StoreLoss> {
        match fs::metadata(path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_known_as_far_as_it_is_kept() {
        let mut looks = Looks { bytes: 10, head: [0; HEAD_BYTES] };
        looks.wrote(HEAD_BYTES as u64 - 2, &[7; 5]);
        assert_eq!((looks.bytes, &looks.head[HEAD_BYTES - 3..]), (HEAD_BYTES as u64 + 3, &[0, 7, 7][..]));
        looks.wrote(1, &[8]);
        looks.wrote(u64::MAX, &[9]);
        assert_eq!((looks.bytes, &looks.head[..3]), (u64::MAX, &[0, 8, 0][..]));
    }
}
