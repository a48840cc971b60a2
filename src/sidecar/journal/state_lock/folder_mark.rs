//! A mark on the state folder itself, which lasts as long as the process and cannot be removed without the folder: a lock
//! on one byte of it, which the journal's name decides, so that the journals of several agents may share a folder.
//!
//! A file system without such locks has no marks, and neither has any other system than Linux: there the lock file alone
//! keeps a second copy out.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::common::fs::same_file;

/// The place for the mark of one journal in its folder.
#[derive(Debug)]
pub(super) struct FolderMark {
    folder: File,
    #[cfg(target_os = "linux")]
    place: nix::libc::off_t,
}

impl FolderMark {
    /// Opens the folder; nothing is marked yet.
    pub(super) fn open(folder: &Path, journal: &OsStr) -> io::Result<Self> {
        Ok(Self::on(File::open(folder)?, journal))
    }

    /// Takes over the mark of this journal that the open folder bears, if it does, and removes those of others.
    pub(super) fn handed_over(folder: &File, journal: &OsStr) -> io::Result<Self> {
        let mark = Self::on(folder.try_clone()?, journal);
        #[cfg(target_os = "linux")]
        mark.remove_others();
        Ok(mark)
    }

    fn on(folder: File, journal: &OsStr) -> Self {
        #[cfg(not(target_os = "linux"))]
        let _ = journal;
        Self {
            folder,
            #[cfg(target_os = "linux")]
            place: place_of(journal),
        }
    }

    /// Returns the open folder, whose mark lasts as long as any copy of its descriptor.
    pub(super) const fn folder(&self) -> &File {
        &self.folder
    }

    /// Returns whether `path` still leads to this folder.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        same_file::is_at(&self.folder, path)
    }

    /// Returns where the folder has been moved to; `None` if it was removed or that is unknown.
    #[cfg(target_os = "linux")]
    pub(super) fn moved_to(&self) -> Option<PathBuf> {
        use std::os::fd::AsRawFd as _;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).ok()?;
        self.is_at(&path).then_some(path)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn moved_to(&self) -> Option<PathBuf> {
        None
    }

    /// Sets the mark, until this value is dropped. Others may have set it too: see [`Self::is_set_by_another`].
    #[cfg(target_os = "linux")]
    pub(super) fn set(&self) {
        use nix::fcntl::{FcntlArg, fcntl};
        let mark = self.byte(nix::libc::F_RDLCK);
        if let Err(error) = fcntl(&self.folder, FcntlArg::F_OFD_SETLK(&mark)) {
            tracing::debug!(%error, "the state folder cannot be marked: the lock file alone keeps a second copy out");
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn set(&self) {}

    /// Returns whether another process has set the mark.
    #[cfg(target_os = "linux")]
    pub(super) fn is_set_by_another(&self) -> bool {
        use nix::fcntl::{FcntlArg, fcntl};
        // The question is whether an exclusive lock would be granted; a folder cannot be opened such that it would.
        let mut mark = self.byte(nix::libc::F_WRLCK);
        let asked = fcntl(&self.folder, FcntlArg::F_OFD_GETLK(&mut mark));
        asked.is_ok() && i32::from(mark.l_type) != nix::libc::F_UNLCK
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_set_by_another(&self) -> bool {
        false
    }

    /// Removes what else is marked through this descriptor: that of another journal, by which the configuration named it.
    #[cfg(target_os = "linux")]
    fn remove_others(&self) {
        use nix::fcntl::{FcntlArg, fcntl};
        let (before, behind) = (self.place, self.place + 1);
        // A length of 0 would mean all that follows.
        let parts = (before > 0).then_some((0, before)).into_iter().chain([(behind, 0)]);
        for (l_start, l_len) in parts {
            let mark = nix::libc::flock { l_start, l_len, ..self.byte(nix::libc::F_UNLCK) };
            // Fails only on a file system without locks.
            let _ = fcntl(&self.folder, FcntlArg::F_OFD_SETLK(&mark));
        }
    }

    #[cfg(target_os = "linux")]
    fn byte(&self, kind: i32) -> nix::libc::flock {
        use nix::libc::{SEEK_SET, c_short};
        let short = |number: i32| c_short::try_from(number).unwrap_or_default();
        nix::libc::flock {
            l_type: short(kind),
            l_whence: short(SEEK_SET),
            l_start: self.place,
            l_len: 1,
            // Required to be 0 by the kernel.
            l_pid: 0,
        }
    }
}

/// Returns the byte for a journal's name, the same in each version of the sidecar: FNV-1a, cut to 30 bits.
#[cfg(target_os = "linux")]
fn place_of(journal: &OsStr) -> nix::libc::off_t {
    use std::os::unix::ffi::OsStrExt as _;
    let hash = journal
        .as_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    nix::libc::off_t::from(hash >> 2)
}
