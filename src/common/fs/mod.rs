//! Files: written so that a crash leaves the old one or the new one, and read safely if other programs put them there.

use std::fs::OpenOptions;

pub mod atomic_file;
pub mod regular_file;
pub(crate) mod same_file;

/// Returns options under which a file is created for its owner alone (mode 0600).
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
