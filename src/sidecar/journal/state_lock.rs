//! The lock that allows one sidecar per state folder. The kernel releases it when its holder ends for any reason. It
//! does not protect against a second machine on a network file system whose locks are local.
//!
//! The lock file is never removed: otherwise two processes could each lock a file of their own. Its descriptor is
//! close-on-exec, so no child holds the lock, and a program that replaces itself by `exec` acquires it again.

use core::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::common::crash_points::crash_point;
use crate::common::fs::atomic_file::{self, DurableError, Operation};
use crate::common::fs::{private_options, regular_file};
use crate::common::wall_clock::now_ms;

/// How long to wait before a lock that is held is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// The most that is read of the lock file, bytes.
const MAX_HOLDER_BYTES: u64 = 4_096;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    // The open file holds the lock.
    _file: File,
    path: PathBuf,
}

/// The process that holds the lock, as far as the lock file names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: Option<u32>,
    /// Its name in pm2.
    pub name: Option<String>,
    /// When it acquired the lock, ms since the epoch.
    pub since_ms: Option<u64>,
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
        let path = lock_path(queue_file).map_err(LockError::Unusable)?;
        let unusable = |operation, source| LockError::Unusable(DurableError { path: path.clone(), operation, source });
        let mut file = open(&path).map_err(|source| unusable(Operation::Create, source))?;
        let deadline = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut file);
                    return Err(LockError::Held { path, holder });
                }
                Err(TryLockError::Error(source)) => return Err(unusable(Operation::Lock, source)),
            }
        }
        // Without a name in it (a full disk) the lock is held all the same: a second sidecar then reports an unknown
        // process.
        let _ = write_holder(&mut file, name);
        Ok(Self { _file: file, path })
    }

    /// Returns the process that serves the folder of `queue_file` now; `None` if there is none. It creates no file and
    /// keeps no lock: a sidecar that starts at this moment waits some microseconds longer.
    ///
    /// # Errors
    /// The lock file cannot be opened or tried.
    pub fn holder(queue_file: &Path) -> Result<Option<Holder>, DurableError> {
        let path = lock_path(queue_file)?;
        let unusable = |operation, source| DurableError { path: path.clone(), operation, source };
        let mut file = match regular_file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unusable(Operation::Read, source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => Err(unusable(Operation::Lock, source)),
        }
    }

    /// Returns the path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock_path(queue_file: &Path) -> Result<PathBuf, DurableError> {
    let mut path = atomic_file::resolve(queue_file)?.into_os_string();
    path.push(".lock");
    Ok(PathBuf::from(path))
}

fn open(path: &Path) -> io::Result<File> {
    std::fs::create_dir_all(atomic_file::folder_of(path))?;
    let mut options = private_options();
    // Not truncated: until the lock is acquired, the content is the holder's.
    options.read(true).write(true).create(true).truncate(false);
    regular_file::open_with(path, &mut options)
}

/// Writes the holder over the last one, padded with blanks to its length: cutting the file off makes the file system
/// wait for its own journal, by some ms on a busy disk, while the hub is without this agent.
fn write_holder(file: &mut File, name: Option<&str>) -> io::Result<()> {
    let holder = Holder { pid: Some(std::process::id()), name: name.map(str::to_owned), since_ms: Some(now_ms()) };
    crash_point!("after locking, before the holder's name");
    let mut text = serde_json::to_string(&holder)?;
    let last = file.metadata()?.len();
    if last > MAX_HOLDER_BYTES {
        file.set_len(0)?;
        crash_point!("after a lock file of others is emptied, before the holder's name");
    } else if let Some(blanks) = usize::try_from(last).ok().and_then(|last| last.checked_sub(text.len())) {
        text.extend(std::iter::repeat_n(' ', blanks));
    }
    file.write_all(text.as_bytes())?;
    crash_point!("after the holder's name");
    Ok(())
}

/// Reads the holder, which writes just after it locks: the content may be empty or the last holder's, whose process is
/// gone; what makes no sense yields an unknown holder.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    match file.take(MAX_HOLDER_BYTES).read_to_string(&mut text) {
        Ok(_) => serde_json::from_str(&text).unwrap_or_default(),
        Err(_) => Holder::default(),
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.pid) {
            (Some(name), Some(pid)) => write!(f, "{name:?}, process {pid}")?,
            (Some(name), None) => write!(f, "{name:?}")?,
            (None, Some(pid)) => write!(f, "process {pid}")?,
            (None, None) => f.write_str("an unknown process")?,
        }
        match self.since_ms.and_then(|since| now_ms().checked_sub(since)) {
            Some(age_ms) => write!(f, ", for {} s now", age_ms / 1_000),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn queue() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        (folder, queue)
    }

    #[test]
    fn a_second_copy_learns_who_holds_it() {
        let (_folder, queue) = queue();
        let _lock = StateLock::acquire(&queue, Some("agent one"), Duration::ZERO).unwrap();
        let error = StateLock::acquire(&queue, None, Duration::ZERO).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("\"agent one\"") && said.contains(&std::process::id().to_string()), "{said}");
    }

    #[test]
    fn who_holds_it_can_be_asked_without_taking_it() {
        let (folder, queue) = queue();
        assert_eq!(StateLock::holder(&queue).unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "asking made a file");
        let lock = StateLock::acquire(&queue, Some("agent one"), Duration::ZERO).unwrap();
        assert_eq!(StateLock::holder(&queue).unwrap().and_then(|holder| holder.name), Some("agent one".to_owned()));
        drop(lock);
        assert_eq!(StateLock::holder(&queue).unwrap(), None);
        StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    }

    #[test]
    fn it_is_free_again_when_its_holder_lets_go() {
        let (_folder, queue) = queue();
        drop(StateLock::acquire(&queue, None, Duration::ZERO).unwrap());
        StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_predecessor_that_is_leaving_is_waited_for() {
        let (_folder, queue) = queue();
        let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
        let successor = std::thread::spawn({
            let queue = queue.clone();
            move || StateLock::acquire(&queue, None, SOON).map(drop)
        });
        drop(lock);
        successor.join().unwrap().unwrap();
    }

    #[test]
    fn two_links_to_one_journal_share_one_lock() {
        let (folder, queue) = queue();
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&queue, &link).unwrap();
        let _lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
        assert!(matches!(StateLock::acquire(&link, None, Duration::ZERO), Err(LockError::Held { .. })));
    }

    #[test]
    fn a_child_does_not_keep_it() {
        let (_folder, queue) = queue();
        let lock = StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        drop(lock);
        // `spawn` may return a moment before the kernel closes the child's copy of the descriptor.
        let again = StateLock::acquire(&queue, None, SOON);
        child.kill().unwrap();
        child.wait().unwrap();
        again.unwrap();
    }

    #[test]
    fn a_lock_file_full_of_rubbish_is_no_obstacle() {
        let (folder, queue) = queue();
        std::fs::write(folder.path().join("queue.json.lock"), [0xff; 9_000]).unwrap();
        StateLock::acquire(&queue, None, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_file_where_the_folder_should_be_is_named() {
        let (folder, _) = queue();
        std::fs::write(folder.path().join("state"), "").unwrap();
        let error = StateLock::acquire(&folder.path().join("state/queue.json"), None, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("queue.json"), "{error}");
    }
}
