//! Files that survive a crash at any instant: written whole or not at all, and never overwritten when they cannot be
//! read. It does not interpret their content and does not lock: the caller guarantees one writer per file
//! ([`crate::sidecar::journal::state_lock`]).

use core::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::NamedTempFile;

use crate::common::crash_points::crash_point;
use crate::common::fs::regular_file::{self, Unsuitable};

/// The number of symbolic links that are followed before they count as a loop; Linux's own figure.
const MAX_LINKS: u32 = 40;

/// The operation on a file that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Following symbolic links to the file.
    Resolve,
    /// Creating its folder.
    CreateFolder,
    /// Creating the temporary file beside it, or the lock file.
    Create,
    /// Writing.
    Write,
    /// Flushing to disk.
    Sync,
    /// Replacing the old file by the new one.
    Replace,
    /// Reading.
    Read,
    /// Moving aside a file that cannot be read.
    MoveAside,
    /// Copying a file that cannot be read completely.
    CopyAside,
    /// Locking.
    Lock,
}

/// A failed file operation: its text says what failed, where, why and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {}: {source}{}", .operation.verb(), .path.display(), advice(.path, *.operation, .source))]
pub struct DurableError {
    /// The path of the file.
    pub path: PathBuf,
    /// The operation that failed.
    pub operation: Operation,
    /// The system's error.
    pub source: io::Error,
}

impl Operation {
    /// Returns the verb for the error's text: "cannot ... the file".
    const fn verb(self) -> &'static str {
        match self {
            Self::Resolve => "follow the links to",
            Self::CreateFolder => "create the folder of",
            Self::Create => "create a file beside",
            Self::Write => "write",
            Self::Sync => "flush",
            Self::Replace => "replace",
            Self::Read => "read",
            Self::MoveAside => "move aside",
            Self::CopyAside => "make a copy beside",
            Self::Lock => "lock",
        }
    }
}

/// Returns what to do about the error, beginning with a semicolon, or an empty text.
fn advice(path: &Path, operation: Operation, source: &io::Error) -> String {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    if source.kind() == io::ErrorKind::StorageFull {
        format!("; free some space on the disk of {folder}")
    } else if source.kind() == io::ErrorKind::QuotaExceeded {
        "; this user's disk quota is used up".to_owned()
    } else if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
        format!("; {folder} is read-only: remount it, or set `queue_file` elsewhere")
    } else if source.kind() == io::ErrorKind::PermissionDenied && operation == Operation::Read {
        "; it must belong to the user that runs this process (`chown`), if another one, such as root, ran it before"
            .to_owned()
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        format!("; give the user that runs this process write permission on {folder}")
    } else if source.kind() == io::ErrorKind::NotADirectory {
        format!("; a file stands where {folder} should be a folder: move it away, or set `queue_file` elsewhere")
    } else if let Some(Unsuitable::NoFile(_)) = Unsuitable::of(source) {
        "; move it away, or set `queue_file` elsewhere".to_owned()
    } else if let Some(Unsuitable::TooLarge { .. }) = Unsuitable::of(source) {
        "; `max_frame_bytes` decides how large it may get".to_owned()
    } else if source.kind() == io::ErrorKind::IsADirectory {
        "; a folder stands where the file should be: move it away, or set `queue_file` elsewhere".to_owned()
    } else if operation == Operation::Resolve {
        "; make the links lead to a file, or set `queue_file` elsewhere".to_owned()
    } else {
        String::new()
    }
}

/// Writes `bytes` to `path` atomically: a temporary file (mode 0600) in the same folder, fsync, rename, fsync of the
/// folder. After `Ok` the bytes survive a power cut; after `Err` the file has its old content, or, if the folder's
/// fsync failed, the new. A symbolic link is followed to its target, and a missing folder is created. What is there and
/// is no file (a device, a named pipe) is not replaced.
///
/// # Errors
/// [`DurableError`]: disk full, read-only, permission, a loop of links, something that is no file.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    write(path, bytes).map(drop)
}

fn write(path: &Path, bytes: &[u8]) -> Result<File, DurableError> {
    let target = resolve(path)?;
    let failed = |operation| {
        let path = target.clone();
        move |source| DurableError { path, operation, source }
    };
    regular_file::check(&target).map_err(|unsuitable| failed(Operation::Replace)(unsuitable.into()))?;
    let folder = folder_of(&target);
    crash_point!("before the temporary file");
    let mut temporary = match temporary_beside(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(failed(Operation::CreateFolder))?;
            crash_point!("after creating the folder");
            temporary_beside(&target)
        }
        other => other,
    }
    .map_err(failed(Operation::Create))?;
    crash_point!("after the temporary file, before its text");
    temporary.write_all(bytes).map_err(failed(Operation::Write))?;
    crash_point!("after its text, before fsync");
    temporary.as_file().sync_all().map_err(failed(Operation::Sync))?;
    crash_point!("after fsync, before the rename");
    let written = temporary.persist(&target).map_err(|error| failed(Operation::Replace)(error.error))?;
    crash_point!("after the rename, before the folder's fsync");
    sync_folder(folder).map_err(failed(Operation::Sync))?;
    crash_point!("after the folder's fsync");
    Ok(written)
}

/// Writes as [`write_atomic`], unless there are more than `max_bytes`: a larger file could not be read again. Returns the
/// file, which others may have replaced since.
///
/// # Errors
/// As [`write_atomic`], and [`Unsuitable::TooLarge`].
pub fn write_atomic_up_to(max_bytes: u64, path: &Path, bytes: &[u8]) -> Result<File, DurableError> {
    match bytes.len() as u64 {
        bytes if bytes > max_bytes => {
            let source = Unsuitable::TooLarge { bytes, max_bytes }.into();
            Err(DurableError { path: path.to_owned(), operation: Operation::Write, source })
        }
        _ => write(path, bytes),
    }
}

/// Removes temporary files that a killed process left beside `path`, and returns how many. Call it at start, under the
/// lock.
///
/// # Errors
/// [`DurableError`] when the folder cannot be listed or a leftover not removed. A missing folder has no leftovers.
pub fn remove_leftovers(path: &Path) -> Result<usize, DurableError> {
    let target = resolve(path)?;
    let failed = |source| DurableError { path: target.clone(), operation: Operation::Read, source };
    let (prefix, suffix) = temporary_name(&target);
    let entries = match fs::read_dir(folder_of(&target)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(suffix));
        if ours && entry.file_type().map_err(failed)?.is_file() {
            crash_point!("before removing a leftover");
            fs::remove_file(entry.path()).map_err(failed)?;
            crash_point!("after removing a leftover");
            removed += 1;
        }
    }
    Ok(removed)
}

/// The outcome of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadOutcome<T> {
    /// The file does not exist.
    Missing,
    /// The file was read and parsed.
    Parsed(T),
    /// The file could not be parsed and was moved to `moved_to`, unchanged. The caller logs it as an error.
    Quarantined {
        /// The new path of the file.
        moved_to: PathBuf,
        /// What is wrong with the file.
        why: String,
    },
}

/// Reads `path` and gives its bytes to `parse`. A file that does not parse, or has more than `max_bytes`, is moved
/// aside as `<name>.corrupt-<UTC time>`, under a name that did not exist before.
///
/// # Errors
/// [`DurableError`] when it is not a regular file, or cannot be read or moved aside: it is still in its place then.
pub fn read_or_quarantine<T, E: fmt::Display>(
    path: &Path,
    max_bytes: u64,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<ReadOutcome<T>, DurableError> {
    let target = resolve(path)?;
    let why = match regular_file::read(&target, max_bytes) {
        Ok(bytes) => match parse(&bytes) {
            Ok(value) => return Ok(ReadOutcome::Parsed(value)),
            Err(why) => why.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ReadOutcome::Missing),
        Err(source) => match Unsuitable::of(&source) {
            Some(too_large @ Unsuitable::TooLarge { .. }) => too_large.to_string(),
            Some(Unsuitable::NoFile(_)) | None => {
                return Err(DurableError { path: target, operation: Operation::Read, source });
            }
        },
    };
    let failed = |source| DurableError { path: target.clone(), operation: Operation::MoveAside, source };
    let moved_to = move_aside(&target).map_err(failed)?;
    Ok(ReadOutcome::Quarantined { moved_to, why })
}

/// Copies `path`, which may be a symbolic link, to `<name>.corrupt-<UTC time>`, a name that did not exist before, and
/// returns the copy's path. The copy survives a power cut.
///
/// # Errors
/// [`DurableError`]: disk full, read-only, permission.
pub fn copy_aside(path: &Path) -> Result<PathBuf, DurableError> {
    let target = resolve(path)?;
    let copied = claim_aside(&target).and_then(|aside| {
        crash_point!("after claiming a name to copy aside to");
        fs::copy(&target, &aside).and_then(|_| File::open(&aside)?.sync_all()).inspect_err(|_| {
            // A partial copy is useless. A failure to remove it is ignored: nothing else can be done.
            let _ = fs::remove_file(&aside);
        })?;
        crash_point!("after copying aside, before the folder's fsync");
        sync_folder(folder_of(&target))?;
        crash_point!("after copying aside for good");
        Ok(aside)
    });
    copied.map_err(|source| DurableError { path: target, operation: Operation::CopyAside, source })
}

fn move_aside(target: &Path) -> io::Result<PathBuf> {
    crash_point!("before claiming a name to move aside to");
    // The name is reserved first, because a rename overwrites.
    let aside = claim_aside(target)?;
    crash_point!("after claiming it, before moving aside");
    fs::rename(target, &aside).inspect_err(|_| {
        // Only the empty placeholder is removed. A failure to remove it is ignored: nothing else can be done.
        let _ = fs::remove_file(&aside);
    })?;
    crash_point!("after moving aside, before the folder's fsync");
    sync_folder(folder_of(target))?;
    crash_point!("after moving aside for good");
    Ok(aside)
}

/// Creates an empty file beside `target`, reserving the name for its copy or for the file itself.
fn claim_aside(target: &Path) -> io::Result<PathBuf> {
    let stamp = utc_stamp(SystemTime::now());
    let mut attempt = 1_u32;
    loop {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".corrupt-{stamp}"));
        if attempt > 1 {
            name.push(format!("-{attempt}"));
        }
        let aside = target.with_file_name(name);
        match File::create_new(&aside) {
            Ok(_) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Returns the path that `path` leads to: symbolic links are followed, also to a target that does not exist yet.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, DurableError> {
    let failed = |source| DurableError { path: path.to_owned(), operation: Operation::Resolve, source };
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = folder_of(&target).join(link),
            // Not a link, or absent: this is the target.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(target);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::Error::other(format!("more than {MAX_LINKS} symbolic links"))))
}

/// Returns the folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates an empty file of mode 0600 (it may hold task texts) beside `target`, for what gets that name once it is whole. One
/// that a killed process left is removed by [`remove_leftovers`].
pub(crate) fn temporary_beside(target: &Path) -> io::Result<NamedTempFile> {
    let (prefix, suffix) = temporary_name(target);
    tempfile::Builder::new().prefix(&prefix).suffix(suffix).tempfile_in(folder_of(target))
}

fn temporary_name(target: &Path) -> (String, &'static str) {
    (format!(".{}.", target.file_name().unwrap_or_default().to_string_lossy()), ".tmp")
}

/// Flushes a folder: the names in it survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Returns the time in UTC, as in `20261124T055401Z`.
pub(crate) fn utc_stamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 0000-03-01, so that the leap day ends a year; 146,097 days are a cycle of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests;
