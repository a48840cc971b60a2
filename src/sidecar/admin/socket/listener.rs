//! Creates the local socket: never accessible to other users, not even for a moment, and at a path of any length.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file;

/// The longest path that a socket's address holds everywhere, in bytes (107 on Linux, 103 elsewhere).
const LONGEST_PATH: usize = 103;

/// Returns the socket's path for a journal: the journal's (symbolic links resolved) with `.sock` appended.
pub(super) fn path_of(queue_file: &Path) -> io::Result<PathBuf> {
    let mut path = atomic_file::resolve(queue_file).map_err(|error| error.source)?.into_os_string();
    path.push(".sock");
    Ok(path.into())
}

/// Removes the socket's file when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketGuard(PathBuf);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // A file that cannot be removed is replaced by the next run.
        let _ = remove_socket(&self.0);
    }
}

/// Creates the listener. The caller must hold the state folder's lock: then no process listens on a socket that is
/// already there, and it is replaced.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn open(queue_file: &Path) -> io::Result<(UnixListener, SocketGuard)> {
    let path = path_of(queue_file)?;
    remove_socket(&path)?;
    // Bound in a folder that only this user may enter, restricted there, then moved into place.
    let mut staging = atomic_file::folder_of(&path).join(".").into_os_string();
    staging.push(path.file_name().unwrap_or_default());
    staging.push(".new");
    let staging = PathBuf::from(staging);
    let staged = staging.join("s");
    remove_staging(&staging, &staged)?;
    DirBuilder::new().mode(0o700).create(&staging)?;
    let bound = bind(&staging, &staged).and_then(|listener| {
        fs::set_permissions(&staged, Permissions::from_mode(0o600))?;
        fs::rename(&staged, &path)?;
        Ok((listener, SocketGuard(path)))
    });
    let removed = remove_staging(&staging, &staged);
    let open = bound?;
    removed?;
    Ok(open)
}

/// Removes the file at `path` if it is a socket. Any other file is not ours, and an error.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => ignore_not_found(fs::remove_file(path)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there and is no socket: move it away", path.display()),
        )),
        Err(error) => ignore_not_found(Err(error)),
    }
}

fn remove_staging(staging: &Path, staged: &Path) -> io::Result<()> {
    ignore_not_found(fs::remove_file(staged))?;
    ignore_not_found(fs::remove_dir(staging))
}

fn ignore_not_found(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn bind(folder: &Path, staged: &Path) -> io::Result<UnixListener> {
    if fits(staged) {
        return UnixListener::bind(staged);
    }
    let (_held, short) = short_path(folder)?;
    UnixListener::bind(short.join("s"))
}

/// Connects to the socket at a path of any length.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    if fits(path) {
        return UnixStream::connect(path);
    }
    let (_held, short) = short_path(path)?;
    UnixStream::connect(short)
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= LONGEST_PATH
}

/// Returns a short path to the same file, valid as long as the descriptor is held.
#[cfg(target_os = "linux")]
fn short_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{Mode, OFlags};
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    Ok((held, short))
}

#[cfg(not(target_os = "linux"))]
fn short_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("{} is too long for a socket: set `queue_file` to a shorter path", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_stands_closed_to_others_and_goes_with_its_plate() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let (_listener, plate) = open(&queue).unwrap();
        let path = path_of(&queue).unwrap();
        assert_eq!(mode(&path), 0o600);
        connect(&path).unwrap();
        drop(plate);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        let (listener, plate) = open(&queue).unwrap();
        std::mem::forget(plate);
        drop(listener);
        let staging = folder.path().join(".queue.json.sock.new");
        fs::create_dir(&staging).unwrap();
        UnixListener::bind(staging.join("s")).unwrap();
        assert!(connect(&path_of(&queue).unwrap()).is_err());
        let (_listener, _plate) = open(&queue).unwrap();
        connect(&path_of(&queue).unwrap()).unwrap();
    }

    #[test]
    fn somebody_elses_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        fs::write(path_of(&queue).unwrap(), "notes").unwrap();
        let error = open(&queue).unwrap_err();
        assert!(error.to_string().contains("is no socket: move it away"), "{error}");
        assert_eq!(fs::read(path_of(&queue).unwrap()).unwrap(), b"notes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_of_any_length_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        let queue = deep.join("f".repeat(120));
        let (_listener, _plate) = open(&queue).unwrap();
        let path = path_of(&queue).unwrap();
        connect(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }
}
