//! Reads the journal at the start. A file that cannot be read, in whole or in part, is kept under another name.

use std::fs;
use std::path::Path;

use crate::common::fs::atomic_file::{self, DurableError, ReadOutcome};
use crate::machine::Journal;
use crate::protocol::JsonFields;
use crate::sidecar::config::Config;
use crate::sidecar::journal::{self, Boot, Found};
use crate::sidecar::shell::start_error::StartError;
use crate::sidecar::supervisor::pm2::machine_booted_at_ms;

/// Reads the journal, and the fields of its file that other programs wrote.
pub(super) fn read_journal(config: &Config, machine_boot: &str) -> Result<(Journal, JsonFields), StartError> {
    let path = &config.queue_file;
    if let Err(error) = atomic_file::remove_leftovers(path) {
        tracing::warn!(%error, "temporary files of a killed sidecar stay behind");
    }
    let boot = Boot { id: machine_boot, since_ms: machine_booted_at_ms() };
    let max_bytes = journal::max_bytes(config.max_frame_bytes);
    match atomic_file::read_or_quarantine(path, max_bytes, |bytes| journal::from_bytes(bytes, boot)) {
        Ok(ReadOutcome::Missing) => Ok((Journal::default(), JsonFields::default())),
        Ok(ReadOutcome::Parsed(Found::Journal { journal, other, unread, replaced })) => {
            if replaced > 0 {
                tracing::warn!(file = %path.display(), replaced, "the journal has characters that are not Unicode: read as U+FFFD");
            }
            if !unread.is_empty() {
                set_aside(path, max_bytes, &unread, &journal, &other).map_err(StartError::Journal)?;
            }
            Ok((*journal, other))
        }
        Ok(ReadOutcome::Parsed(Found::Newer { schema })) => Err(StartError::Newer { path: path.clone(), schema }),
        Ok(ReadOutcome::Quarantined { moved_to, why }) => {
            tracing::error!(
                file = %path.display(), moved_to = %moved_to.display(), why,
                "the journal makes no sense and was moved aside: a task that was under way may have to be looked up there"
            );
            Ok((Journal::default(), JsonFields::default()))
        }
        Err(error) => Err(StartError::Journal(error)),
    }
}

/// Copies the journal file aside, then writes it without the parts that cannot be read.
fn set_aside(
    path: &Path,
    max_bytes: u64,
    unread: &[String],
    journal: &Journal,
    other: &JsonFields,
) -> Result<(), DurableError> {
    let copied_to = atomic_file::copy_aside(path)?;
    for why in unread {
        tracing::error!(
            file = %path.display(), copied_to = %copied_to.display(), why,
            "a part of the journal makes no sense and counts for nothing; the rest does, and the whole file was copied aside"
        );
    }
    let written = atomic_file::write_atomic_up_to(max_bytes, path, &journal::to_bytes(journal, other));
    written.map(drop).inspect_err(|_| {
        // The next start copies the file again, so a copy would fill a full disk further. It is removed only if the
        // file is unchanged: where only the folder's fsync failed, the file may have been replaced.
        if let (Ok(file), Ok(copy)) = (fs::read(path), fs::read(&copied_to))
            && file == copy
        {
            let _ = fs::remove_file(&copied_to);
        }
    })
}
