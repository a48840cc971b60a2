//! Local sockets that only this process's user (and root) may connect to: closed to others from the first moment on, and
//! whatever the length of their path.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;

/// The longest path that a socket's address holds, bytes: 107 on Linux, 103 elsewhere.
const LONGEST_PATH: usize = 103;

/// Binds a socket at `path`, mode 0600, in place of a socket that a dead process left there. To be called only while
/// holding a lock that says that no living process listens there.
///
/// # Errors
/// Anything that keeps a socket from being there; a file that is no socket is left alone and named.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    remove(path)?;
    // Bound in a folder that only this user may enter, closed to others there, then put in place.
    let mut hidden = folder_of(path).join(".").into_os_string();
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".new");
    let hidden = PathBuf::from(hidden);
    let inside = hidden.join("s");
    clear(&hidden, &inside)?;
    DirBuilder::new().mode(0o700).create(&hidden)?;
    let bound = bind_inside(&hidden, &inside).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    let cleared = clear(&hidden, &inside);
    let listener = bound?;
    cleared?;
    Ok(listener)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// No process listens there, or it may not be connected to.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    if fits(path) {
        return UnixStream::connect(path);
    }
    let (_held, short) = by_descriptor(path)?;
    UnixStream::connect(short)
}

/// Removes a socket, where there is one.
///
/// # Errors
/// A file that is no socket, which is left alone, or a folder that may not be written.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => absent_is_fine(fs::remove_file(path)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there and is no socket: move it away", path.display()),
        )),
        Err(error) => absent_is_fine(Err(error)),
    }
}

fn clear(hidden: &Path, inside: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(inside))?;
    absent_is_fine(fs::remove_dir(hidden))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn bind_inside(folder: &Path, inside: &Path) -> io::Result<UnixListener> {
    if fits(inside) {
        return UnixListener::bind(inside);
    }
    let (_held, short) = by_descriptor(folder)?;
    UnixListener::bind(short.join("s"))
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= LONGEST_PATH
}

/// A short path to the same file, valid as long as the descriptor is held.
#[cfg(target_os = "linux")]
fn by_descriptor(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{Mode, OFlags};
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    Ok((held, short))
}

#[cfg(not(target_os = "linux"))]
fn by_descriptor(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("{} is too long for a socket: take a shorter path", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.json.sock");
        let _listener = bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.json.sock");
        drop(bind(&path).unwrap());
        let hidden = folder.path().join(".queue.json.sock.new");
        fs::create_dir(&hidden).unwrap();
        UnixListener::bind(hidden.join("s")).unwrap();
        assert!(connect(&path).is_err());
        let _listener = bind(&path).unwrap();
        connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.json.sock");
        fs::write(&path, "notes").unwrap();
        let error = bind(&path).unwrap_err();
        assert!(error.to_string().contains("is no socket: move it away"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"notes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_of_any_length_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("f".repeat(120));
        let _listener = bind(&path).unwrap();
        connect(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }
}
