//! The lock that allows one sidecar per state folder. The kernel releases it when its holder ends for any reason. It
//! does not protect against a second machine on a network file system whose locks are local.
//!
//! It is a lock on a file beside the journal, which names the holder, and a mark on the folder: the file may be removed by
//! others (a redeploy, `git clean`), and then a second copy would lock a file of its own. The holder makes the file anew
//! ([`StateLock::renew`]); until then, the mark keeps others out.
//!
//! This program never removes the file. Its descriptors are close-on-exec, so no child holds the lock. A program that
//! replaces itself by `exec` keeps the mark ([`StateLock::with_folder`]), so that no second copy comes between, and acquires
//! the lock on the file again.

mod folder_mark;
mod holder;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::fs::atomic_file::{self, DurableError, Operation, folder_of};
use crate::common::fs::{private_options, regular_file, same_file};
use folder_mark::FolderMark;
pub use holder::Holder;
use holder::{read_holder, write_holder};

/// How long to wait before a lock that is held is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    queue_file: PathBuf,
    /// The holder's name in pm2.
    name: Option<String>,
    held: Mutex<LockParts>,
}

/// What makes up the lock.
#[derive(Debug)]
struct LockParts {
    path: PathBuf,
    // The open file holds the lock on it.
    file: File,
    mark: FolderMark,
}

/// What was missing of a lock and has been made anew.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// Nothing.
    Intact,
    /// The lock file.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// The lock itself: the journal's path leads to another file by now, since a link was put there or changed.
    Elsewhere {
        /// The path of the lock there.
        path: PathBuf,
    },
    /// The whole folder, which was removed, or moved to another path.
    Folder {
        /// That path.
        moved_to: Option<PathBuf>,
    },
}

/// The reason why the lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another sidecar holds it.
    #[error(
        "another copy serves this agent: {holder} holds {}; stop it first (pm2 ls, pm2 stop), or give this copy a \
         `queue_file` in a folder of its own",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it.
        holder: Holder,
    },
    /// The lock file cannot be used.
    #[error("{0}")]
    Unusable(#[source] DurableError),
}

impl StateLock {
    /// Acquires the lock of the folder that `queue_file` is in (through symbolic links), waiting up to `wait` for a
    /// predecessor that is just exiting, or for a child of it that is between `fork` and `exec`. `name` identifies this
    /// process in the message that a second sidecar prints. Blocks the calling thread: meant for before the runtime
    /// starts.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process holds the lock; [`LockError::Unusable`] if the folder cannot hold a lock.
    pub fn acquire(queue_file: &Path, name: Option<&str>, wait: Duration) -> Result<Self, LockError> {
        Self::acquire_after(None, queue_file, name, wait)
    }

    /// Acquires the lock as [`Self::acquire`] does, if the run before in this process has handed over its folder.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub(crate) fn acquire_after(
        handed_over: Option<File>,
        queue_file: &Path,
        name: Option<&str>,
        wait: Duration,
    ) -> Result<Self, LockError> {
        let path = lock_path(queue_file).map_err(LockError::Unusable)?;
        // Of no use for another folder: closed, since others may want that one.
        let handed_over = handed_over.filter(|folder| same_file::is_at(folder, folder_of(&path)));
        let deadline = Instant::now() + wait;
        let mut held = loop {
            match try_take(&path, handed_over.as_ref())? {
                Some(held) => break held,
                None if Instant::now() < deadline => std::thread::sleep(RETRY),
                None => return Err(held_by_another(&path)),
            }
        };
        // Without a name in it (a full disk) the lock is held all the same: a second sidecar then reports an unknown
        // process.
        let _ = write_holder(&mut held.file, name);
        Ok(Self { queue_file: queue_file.to_owned(), name: name.map(str::to_owned), held: Mutex::new(held) })
    }

    /// Makes anew what others have removed or moved away of the lock, and says what that was.
    ///
    /// # Errors
    /// Another process has the lock by now, or the folder cannot hold a lock: the caller must not write there.
    pub(crate) fn renew(&self) -> Result<Renewed, LockError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the journal is written: through a link that is there by now.
        let path = lock_path(&self.queue_file).map_err(LockError::Unusable)?;
        if path != held.path {
            *held = self.take(&path)?;
            return Ok(Renewed::Elsewhere { path });
        }
        if !held.mark.is_at(folder_of(&path)) {
            let moved_to = held.mark.moved_to();
            *held = self.take(&path)?;
            return Ok(Renewed::Folder { moved_to });
        }
        if same_file::is_at(&held.file, &path) {
            return Ok(Renewed::Intact);
        }
        let mut file = try_lock_file(&path)?.ok_or_else(|| held_by_another(&path))?;
        let _ = write_holder(&mut file, self.name.as_deref());
        held.file = file;
        Ok(Renewed::File { path })
    }

    /// Returns what `hand_over` makes of the open folder that bears the mark.
    pub(crate) fn with_folder<T>(&self, hand_over: impl FnOnce(&File) -> T) -> T {
        hand_over(self.held.lock().unwrap_or_else(PoisonError::into_inner).mark.folder())
    }

    /// Takes the lock at a path where this process does not have it.
    fn take(&self, path: &Path) -> Result<LockParts, LockError> {
        let mut taken = try_take(path, None)?.ok_or_else(|| held_by_another(path))?;
        let _ = write_holder(&mut taken.file, self.name.as_deref());
        Ok(taken)
    }

    /// Returns the process that serves the folder of `queue_file` now; `None` if there is none. It creates no file and
    /// keeps no lock: a sidecar that starts at this moment waits some microseconds longer.
    ///
    /// # Errors
    /// The lock file cannot be opened or tried.
    pub fn holder(queue_file: &Path) -> Result<Option<Holder>, DurableError> {
        let path = lock_path(queue_file)?;
        let failed = |operation, source| DurableError { path: path.clone(), operation, source };
        let is_marked =
            || FolderMark::open(folder_of(&path), name_of(&path)).is_ok_and(|mark| mark.is_set_by_another());
        let mut file = match regular_file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(is_marked().then(Holder::default)),
            Err(source) => return Err(failed(Operation::Read, source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(is_marked().then(Holder::default)),
            Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => Err(failed(Operation::Lock, source)),
        }
    }
}

fn lock_path(queue_file: &Path) -> Result<PathBuf, DurableError> {
    let mut path = atomic_file::resolve(queue_file)?.into_os_string();
    path.push(".lock");
    Ok(PathBuf::from(path))
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn unusable(path: &Path, operation: Operation, source: io::Error) -> LockError {
    LockError::Unusable(DurableError { path: path.to_owned(), operation, source })
}

fn held_by_another(path: &Path) -> LockError {
    // What a file says whose lock is free is of a process that is gone.
    let holder = regular_file::open(path).ok().and_then(|mut file| match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    });
    LockError::Held { path: path.to_owned(), holder: holder.unwrap_or_default() }
}

/// Takes both parts of the lock; `None` if another process has one of them. A mark that `handed_over` bears is kept.
fn try_take(path: &Path, handed_over: Option<&File>) -> Result<Option<LockParts>, LockError> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(|source| unusable(path, Operation::Create, source))?;
    let mark = match handed_over {
        Some(folder) => FolderMark::handed_over(folder, name_of(path)),
        None => FolderMark::open(folder, name_of(path)),
    };
    let mark = mark.map_err(|source| unusable(path, Operation::Create, source))?;
    // BEFORE the lock file is touched: its holder may be about to make it anew.
    if mark.is_set_by_another() {
        return Ok(None);
    }
    let Some(file) = try_lock_file(path)? else { return Ok(None) };
    mark.set();
    // Set by two at once only if the lock file was removed between their attempts: then neither has it.
    Ok((!mark.is_set_by_another()).then(|| LockParts { path: path.to_owned(), file, mark }))
}

/// Locks the file at the path; `None` if another process has it, or it has just been removed.
fn try_lock_file(path: &Path) -> Result<Option<File>, LockError> {
    let mut options = private_options();
    // Not truncated: until the lock is acquired, the content is the holder's.
    options.read(true).write(true).create(true).truncate(false);
    let opened = regular_file::open_with(path, &mut options);
    let file = opened.map_err(|source| unusable(path, Operation::Create, source))?;
    match file.try_lock() {
        Ok(()) => Ok(same_file::is_at(&file, path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(unusable(path, Operation::Lock, source)),
    }
}
