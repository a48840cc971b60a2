//! The process that holds the lock, as the lock file names it.

use core::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::common::crash_points::crash_point;
use crate::common::wall_clock::now_ms;

/// The most that is read of the lock file, bytes.
const MAX_HOLDER_BYTES: u64 = 4_096;

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

/// Writes the holder over the last one, padded with blanks to its length: cutting the file off makes the file system
/// wait for its own journal, by some ms on a busy disk, while the hub is without this agent.
pub(super) fn write_holder(file: &mut File, name: Option<&str>) -> io::Result<()> {
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
pub(super) fn read_holder(file: &mut File) -> Holder {
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
            Some(age_ms) => write!(f, ", running for {} s,", age_ms / 1_000),
            None => Ok(()),
        }
    }
}
