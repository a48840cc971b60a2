//! The file for a command's stdout and stderr: an append-only file that outlives the command, since a session that it
//! detached may write to it for hours. It is kept small and removed when its last writer is gone; its text is only ever
//! quoted.
//!
//! A pipe would break a session's writes once this process exits, and `/dev/null` would leave a failure without a
//! reason. Whether a writer is left shows in a lock that belongs to the *open file* which the command inherited
//! (`flock`): it is free only when the last process that holds this file has closed it, also when a later sidecar asks.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::common::fs::{private_options, regular_file, same_file};
use crate::common::text::last_chars;

/// How much of the file's end is read, bytes.
const TAIL_BYTES: u64 = 4 * 1024;

/// How much of that is quoted, characters: with the text before it, at most the 2,000 characters that a legacy hub
/// accepts as an error. A hub would cut off the end, where the reason is.
const QUOTED_CHARS: usize = 1_900;

/// The size beyond which a session's output is discarded while a sidecar runs, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// How often a file that still has writers is checked.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The extension of output files: `<label>.output`.
const EXTENSION: &str = "output";

/// The output file of a command that is not started yet.
pub(super) struct OutputFile {
    /// None if the scratch folder is unusable: the command matters more than its output.
    files: Option<Files>,
}

struct Files {
    path: PathBuf,
    /// The handle that the command inherits; it carries the lock.
    writer: File,
    /// A separate open file, so that trying the lock tests the writers.
    reader: File,
}

impl OutputFile {
    /// Creates a new file; logs a warning and goes on without one if that fails.
    pub(super) fn create(scratch: &Path, label: &str) -> Self {
        let path = scratch.join(format!("{label}.{EXTENSION}"));
        let files = Self::open(scratch, path.clone());
        if let Err(error) = &files {
            tracing::warn!(file = %path.display(), %error, "no file for the wake command's output; it is thrown away");
        }
        Self { files: files.ok() }
    }

    fn open(scratch: &Path, path: PathBuf) -> std::io::Result<Files> {
        fs::create_dir_all(scratch)?;
        // The same attempt of the same task again (after a crash): the old file stays with its writers, unlinked.
        let _ = fs::remove_file(&path);
        let mut options = private_options();
        // Append mode, so that truncating the file while it is written leaves no hole.
        options.append(true).create_new(true);
        let writer = options.open(&path)?;
        writer.lock()?;
        let reader = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Files { path, writer, reader })
    }

    /// Returns another handle to the file, for a child.
    pub(super) fn stdio(&self) -> Stdio {
        let writer = self.files.as_ref().and_then(|files| files.writer.try_clone().ok());
        writer.map_or_else(Stdio::null, Stdio::from)
    }

    /// Closes this process's writing end, AFTER the command has inherited it.
    pub(super) fn close_writers(self) -> WrittenFile {
        WrittenFile { file: self.files.map(|files| (files.path, files.reader)) }
    }
}

/// The output file of a command that was started.
pub(super) struct WrittenFile {
    file: Option<(PathBuf, File)>,
}

impl WrittenFile {
    /// Returns the end of the output, as text.
    pub(super) fn tail(&self) -> String {
        let Some((_, file)) = &self.file else { return String::new() };
        match read_tail(file) {
            Ok(bytes) => last_chars(String::from_utf8_lossy(&bytes).trim(), QUOTED_CHARS).to_owned(),
            Err(error) => format!("(its output cannot be read: {error})"),
        }
    }

    /// Keeps the file small until its last writer is gone, then removes it.
    pub(super) async fn keep_small(self) {
        let Some((path, file)) = self.file else { return };
        while file.try_lock().is_err() {
            if file.metadata().is_ok_and(|now| now.len() > MAX_BYTES)
                && let Err(error) = file.set_len(0)
            {
                tracing::warn!(file = %path.display(), %error, "cannot shorten a session's output");
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        // A newer file under the same name belongs to another command.
        if same_file::is_at(&file, &path) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Opens the output files that an earlier sidecar left. Called BEFORE any command starts, so that none of them is new.
pub(super) fn open_leftover_files(scratch: &Path) -> Vec<WrittenFile> {
    // A missing folder holds no files.
    let Ok(entries) = fs::read_dir(scratch) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
        .filter_map(|path| {
            let file = regular_file::open_with(&path, OpenOptions::new().read(true).write(true)).ok()?;
            Some(WrittenFile { file: Some((path, file)) })
        })
        .collect()
}

fn read_tail(mut file: &File) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Advances the paused clock until `condition` holds.
    async fn eventually(condition: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if condition() {
                return;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        panic!("never happened");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_talks_for_ever_is_kept_small_and_its_file_goes_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let output = OutputFile::create(scratch.path(), "t1.1.1");
        let mut session = output.files.as_ref().unwrap().writer.try_clone().unwrap();
        let path = output.files.as_ref().unwrap().path.clone();
        let length = || fs::metadata(&path).unwrap().len();
        tokio::spawn(output.close_writers().keep_small());

        session.write_all(&vec![b'x'; 2 * 1024 * 1024]).unwrap();
        eventually(|| length() == 0).await;
        session.write_all(b"go on").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "go on");

        drop(session);
        eventually(|| !path.exists()).await;
    }
}
