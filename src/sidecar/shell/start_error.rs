//! The error that keeps a sidecar from starting.

use std::path::PathBuf;

use crate::common::fs::atomic_file::DurableError;

/// An error that keeps a sidecar from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be read, or cannot be moved aside.
    #[error("{0}")]
    Journal(DurableError),
    /// The journal was written by a newer version; it is left in place.
    #[error(
        "{}: schema {schema} is a newer sidecar's: start that version, or move the file away (a task in it will then be \
         assigned again by the hub)",
        path.display()
    )]
    Newer {
        /// The journal file.
        path: PathBuf,
        /// The journal's schema version.
        schema: u32,
    },
    /// Signal handlers cannot be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}
