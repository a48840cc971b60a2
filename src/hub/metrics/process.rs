//! What the system tells of this process and of the disk. Where it does not, the values are `None`; nothing here is an
//! error.

use std::path::Path;

use crate::hub::connections::fd_limit;

/// The figures of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// The resident set size, in bytes.
    pub memory_bytes: Option<u64>,
    /// The number of open files.
    pub open_files: Option<u64>,
    /// The number of files that may be open.
    pub max_files: Option<u64>,
}

impl ProcessFigures {
    /// Reads `/proc/self`. It takes some tens of microseconds, on a Linux before 6.2 some milliseconds with 10,000 open
    /// files.
    pub fn read() -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").ok();
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
        Self {
            memory_bytes: statm.as_deref().and_then(resident_pages).map(|pages| pages.saturating_mul(page)),
            open_files: open_files(),
            max_files: u64::try_from(fd_limit::max_open_files()).ok(),
        }
    }
}

/// Returns the number of bytes that are free for this process on the disk of a folder.
pub fn disk_free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Since Linux 6.2 the folder's size is the number of open files; before, it is 0, and they are counted.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        // One of them is opened to count them.
        0 => (std::fs::read_dir(FOLDER).ok()?.count() as u64).checked_sub(1),
        count => Some(count),
    }
}

/// Returns field 2 of `/proc/PID/statm`, the number of resident pages.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_a_disk() {
        let own = ProcessFigures::read();
        assert!(own.memory_bytes.is_some_and(|bytes| (100_000..1 << 40).contains(&bytes)), "{own:?}");
        let (open, max) = (own.open_files.unwrap(), own.max_files.unwrap());
        assert!((3..=max).contains(&open), "{own:?}");
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> =
            (0..50).map(|n| std::fs::File::create(folder.path().join(n.to_string())).unwrap()).collect();
        assert!(ProcessFigures::read().open_files.unwrap() >= open + 40, "{open}");
        drop(files);
        assert!(disk_free(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(disk_free(Path::new("/nowhere/at/all")), None);
        assert_eq!(resident_pages("nonsense"), None);
    }
}
