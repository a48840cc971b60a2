//! Files: written so that a crash leaves the old one or the new one, and read safely if other programs put them there.

use std::fs::OpenOptions;
use std::path::Path;

pub mod atomic_file;
pub mod regular_file;
pub mod rotating_file;
pub(crate) mod same_file;

/// Returns options under which a file is created for its owner alone (mode 0600).
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Returns whether `path` leads to a file that some user may execute.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
