//! Decides whether a result file is removed with its task's files, or kept with the results that were not taken.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::machine::ResultFile;
use crate::sidecar::agent::results::aside::PrivateFile;
use crate::sidecar::agent::results::content::{self, FileVersion};
use crate::sidecar::agent::results::{ResultContent, ResultsConfig};

/// Tells whether a verdict on the task is made of this content.
pub type MadeOf<'a> = &'a dyn Fn(ResultContent) -> bool;

/// A file that was reported as a task's result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) version: FileVersion,
    /// Whether it was read as a result: else there was something that was not taken.
    pub(super) taken: bool,
    /// Whether it could not be taken away with its task's files. The same version is not judged again.
    pub(super) left: bool,
}

/// What is known of a result file.
pub(super) struct Known<'a> {
    pub(super) result: ResultFile,
    /// What this process reported.
    pub(super) judged: Option<Judged>,
    /// What a process before this one made of it.
    pub(super) made_of: MadeOf<'a>,
}

/// Takes away the result file at `path`: it is removed if it is the one that was read, or its task was cancelled; else it
/// is kept.
///
/// # Errors
/// The file stays, or there is none.
pub(super) fn take_away(path: &Path, known: &Known<'_>, config: &ResultsConfig) -> io::Result<()> {
    if let Some(left_over) = PrivateFile::left_over(path) {
        settle(left_over, path, &Known { judged: None, ..*known }, config)?;
    }
    match PrivateFile::take(path)? {
        Some(taken) => settle(taken, path, known, config),
        None => Err(ErrorKind::NotFound.into()),
    }
}

fn settle(taken: PrivateFile, path: &Path, known: &Known<'_>, config: &ResultsConfig) -> io::Result<()> {
    let is_done_with = match (known.result, known.judged) {
        (ResultFile::OfCancelledTask, _) => true,
        (ResultFile::Unread, _) => false,
        (ResultFile::Read, Some(judged)) => {
            judged.taken && std::fs::metadata(taken.at()).is_ok_and(|found| FileVersion::of(&found) == judged.version)
        }
        (ResultFile::Read, None) => content::of(taken.at(), config.max_bytes).is_some_and(known.made_of),
    };
    if is_done_with {
        return taken.remove();
    }
    if let Some(kept) = taken.keep(&config.kept_in())? {
        tracing::warn!(file = %path.display(), kept = %kept.display(), "a result that was not read is kept there");
    }
    Ok(())
}
