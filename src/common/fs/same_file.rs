//! Whether two names lead to one file.

use std::fs::{self, File, Metadata};
use std::path::Path;

/// Returns what names a file on this machine, whatever its path: device and inode.
pub(crate) fn identity(found: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (found.dev(), found.ino())
}

/// Returns whether `path` (through symbolic links) still leads to the open file: not removed, not moved away, not replaced.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => identity(&open) == identity(&there),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        assert!(!is_at(&file, &other));
        File::create(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!is_at(&file, &path));
    }
}
