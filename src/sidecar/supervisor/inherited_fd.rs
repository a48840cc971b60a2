//! Takes over file descriptors by number: pm2 passes its channel down as one (`NODE_CHANNEL_FD`), a run that this one
//! replaces in place its mark on the state folder ([`KEPT_FOLDER`]). Beside it, only [`crate::common::signals`] has
//! `unsafe` in it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The variable that names the descriptor of the state folder that a run hands over to the one that replaces it.
pub(crate) const KEPT_FOLDER: &str = "AGENTCOM_STATE_FOLDER_FD";

static TAKEN: AtomicBool = AtomicBool::new(false);

static FOLDER_TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptor under the number that the supervisor gave it; open as long as the process lives, unless abandoned.
static ORIGINAL: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Takes over the supervisor's channel and sets it close-on-exec. Must be called at start, before anything else could
/// have opened a file under that number, and at most once per process.
///
/// # Errors
/// The number is below 3, not open or not a socket, or this is a second call.
pub(crate) fn take_channel(number: RawFd) -> io::Result<UnixStream> {
    require(number, rustix::fs::FileType::Socket)?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the channel has been taken"));
    }
    // SAFETY: the descriptor is open (`fcntl` succeeded) and a socket. It was inherited for this purpose, so nothing
    // else in this process owns it, and the flag above makes this the only call.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    let channel = owned.try_clone()?;
    *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(owned);
    Ok(UnixStream::from(channel))
}

/// Takes over the folder that the run before in this process has handed over, and sets it close-on-exec; `None` if there is
/// none. Must be called at start, before anything else could have opened a file under that number.
pub(crate) fn take_folder() -> Option<File> {
    let number = std::env::var(KEPT_FOLDER).ok()?.parse().ok()?;
    require(number, rustix::fs::FileType::Directory).ok()?;
    if FOLDER_TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: the descriptor is open (`fcntl` succeeded) and a folder. It was inherited for this purpose, so nothing else
    // in this process owns it, and the flag above makes this the only call.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(File::from(owned))
}

/// Lets the program that is about to replace this one inherit the folder, and returns the value for [`KEPT_FOLDER`].
///
/// # Errors
/// The kernel refuses to change the descriptor's flags.
pub(crate) fn keep_folder(folder: &File) -> io::Result<String> {
    rustix::io::fcntl_setfd(folder, rustix::io::FdFlags::empty())?;
    Ok(folder.as_raw_fd().to_string())
}

/// Checks that the number is that of an open descriptor of this type, and of none of the standard streams.
fn require(number: RawFd, wanted: rustix::fs::FileType) -> io::Result<()> {
    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is a standard stream, or none")));
    }
    // SAFETY: `BorrowedFd::borrow_raw` requires an open descriptor other than -1. Whether this one is open is what
    // `fcntl` finds out, which is defined for any number.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(probe)?;
    let found = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(probe)?.st_mode);
    if found != wanted {
        let said = format!("descriptor {number} is a {found:?} and not a {wanted:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
    }
    Ok(())
}

/// Closes the channel, so that the program that may replace this one does not inherit it.
pub(crate) fn abandon() {
    drop(ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Passes the channel, if it was taken over, on to the program that is about to replace this one.
///
/// # Errors
/// The kernel refuses to change the descriptor's flags.
pub(crate) fn keep_across_exec() -> io::Result<()> {
    match &*ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(channel) => Ok(rustix::io::fcntl_setfd(channel, rustix::io::FdFlags::empty())?),
        None => Ok(()),
    }
}
