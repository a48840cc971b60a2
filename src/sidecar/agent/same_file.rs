//! Tells whether an open file is still the one at its path.

use std::fs::File;
#[cfg(unix)]
use std::fs::Metadata;
use std::path::Path;

/// Returns whether `path` leads to the open `file`, and not to a newer one or to none.
#[cfg(unix)]
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: Metadata| (found.dev(), found.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => identity(ours) == identity(there),
        (Ok(_) | Err(_), _) => false,
    }
}

/// Returns whether there is a file at `path`: this system does not identify files.
#[cfg(not(unix))]
pub(crate) fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}
