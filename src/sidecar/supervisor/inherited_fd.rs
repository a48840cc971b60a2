//! Takes over a file descriptor by number: pm2 passes its channel down as one (`NODE_CHANNEL_FD`). Beside
//! it, only [`crate::common::signals`] has `unsafe` in it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptor under the number that the supervisor gave it; open as long as the process lives, unless abandoned.
static ORIGINAL: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Takes over the supervisor's channel and sets it close-on-exec. Must be called at start, before anything else could
/// have opened a file under that number, and at most once per process.
///
/// # Errors
/// The number is below 3, not open or not a socket, or this is a second call.
pub(crate) fn take_channel(number: RawFd) -> io::Result<UnixStream> {
    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is no channel")));
    }
    // SAFETY: `BorrowedFd::borrow_raw` requires an open descriptor other than -1. Whether this one is open is what
    // `fcntl` finds out, which is defined for any number.
    let probe = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(probe)?;
    let stat = rustix::fs::fstat(probe)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} is not a socket")));
    }
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
