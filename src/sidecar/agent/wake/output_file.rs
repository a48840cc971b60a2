//! The file for a command's stdout and stderr: an append-only file that outlives the command, since a session that it
//! detached may write to it for hours. It is kept small from its first byte on, with the beginning and the end of the
//! output, and removed when its last writer is gone; its text is only ever quoted.
//!
//! A pipe would break a session's writes once this process exits, and `/dev/null` would leave a failure without a
//! reason. A limit on the size of a file (`RLIMIT_FSIZE`) would be one for every file of the agent. So the file is looked
//! at again and again and shortened under its writers, which append. Whether a writer is left shows in a lock that belongs
//! to the *open file* which the command inherited (`flock`): it is free only when the last process that holds this file
//! has closed it, also when a later sidecar asks.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::common::fs::{private_options, regular_file, same_file};
use crate::common::logging::Redactor;
use crate::common::text::{first_chars, last_chars};

/// How much of the file's beginning and of its end is read for a quotation, bytes: more than is quoted, so that a secret
/// at an edge is whole.
const READ_BYTES: u64 = 8 * 1024;

/// How much of the output is quoted, characters: with the text before it, at most the 2,000 characters that a legacy hub
/// accepts as an error. A hub would cut off the end, where the reason is.
const QUOTED_CHARS: usize = 1_900;

/// How much of longer output is quoted from its beginning, characters.
const QUOTED_HEAD_CHARS: usize = 300;

/// The size beyond which the file is shortened, bytes.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

/// How much of the beginning, and of the end, stays when it is, bytes.
const KEPT_BYTES: u64 = 128 * 1024;

/// The time between two looks at a file that grows fast, and the longest one, at a file that does not: what a writer
/// writes in that time is on the disk until the next look.
const FASTEST_LOOK: Duration = Duration::from_millis(10);
const SLOWEST_LOOK: Duration = Duration::from_millis(100);

/// Growth between two looks from which on a file grows fast, bytes.
const FAST_BYTES: u64 = 64 * 1024;

/// The extension of output files: `<label>.output`.
const EXTENSION: &str = "output";

/// The output file of a command that is not started yet.
pub(crate) struct OutputFile {
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
        Self::try_create(scratch, label).unwrap_or_else(|error| {
            let folder = scratch.display();
            tracing::warn!(%folder, label, %error, "no file for the wake command's output; it is thrown away");
            Self { files: None }
        })
    }

    /// Creates a new file: `<label>.output`, or `<label>.2.output` and so on, since writers of an earlier one of that name
    /// may be left.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub(crate) fn try_create(scratch: &Path, label: &str) -> io::Result<Self> {
        fs::create_dir_all(scratch)?;
        let mut options = private_options();
        // Append mode, so that shortening the file while it is written leaves no hole.
        options.append(true).create_new(true);
        let mut path = scratch.join(format!("{label}.{EXTENSION}"));
        let mut number = 1_u32;
        let writer = loop {
            match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    number += 1;
                    path = scratch.join(format!("{label}.{number}.{EXTENSION}"));
                }
                opened => break opened?,
            }
        };
        writer.lock()?;
        let reader = reading_options().open(&path)?;
        Ok(Self { files: Some(Files { path, writer, reader }) })
    }

    /// Returns another handle to the file, for a child.
    pub(crate) fn stdio(&self) -> Stdio {
        let writer = self.files.as_ref().and_then(|files| files.writer.try_clone().ok());
        writer.map_or_else(Stdio::null, Stdio::from)
    }

    /// Closes this process's writing end, AFTER the command has inherited it.
    pub(crate) fn close_writers(self) -> WrittenFile {
        WrittenFile {
            file: self.files.map(|files| (files.path, Arc::new(files.reader))),
            left_out: 0,
            pace: Pace::default(),
        }
    }
}

/// The options of the handle that reads the file and shortens it.
fn reading_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// The output file of a command that was started.
pub(crate) struct WrittenFile {
    file: Option<(PathBuf, Arc<File>)>,
    /// How many bytes were removed from its middle.
    left_out: u64,
    pace: Pace,
}

/// How often the file is looked at.
struct Pace {
    next: Duration,
    length: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: FASTEST_LOOK, length: 0 }
    }
}

impl Pace {
    fn found(&mut self, length: u64) {
        let fast = length > self.length.saturating_add(FAST_BYTES);
        self.next = if fast { FASTEST_LOOK } else { (self.next * 2).min(SLOWEST_LOOK) };
        self.length = length;
    }
}

impl WrittenFile {
    /// Returns the size of the output, bytes.
    pub(crate) fn length(&self) -> u64 {
        let found = self.file.as_ref().and_then(|(_, file)| file.metadata().ok());
        found.map_or(0, |found| found.len())
    }

    /// Returns the output up to this size, as text.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn text(&self, max_bytes: u64) -> io::Result<String> {
        let Some((_, file)) = &self.file else { return Ok(String::new()) };
        Ok(String::from_utf8_lossy(&read_part(file, 0, max_bytes)?).into_owned())
    }

    /// Returns the beginning and the end of the output, as text without secrets.
    pub(crate) fn quote(&self, redactor: &Redactor) -> String {
        let Some((_, file)) = &self.file else { return String::new() };
        match self.try_quote(file, redactor) {
            Ok(text) => text,
            Err(error) => format!("(its output cannot be read: {error})"),
        }
    }

    fn try_quote(&self, file: &File, redactor: &Redactor) -> io::Result<String> {
        let length = file.metadata()?.len();
        let text = |from| -> io::Result<String> {
            let bytes = read_part(file, from, READ_BYTES)?;
            Ok(redactor.clean(String::from_utf8_lossy(&bytes).trim().to_owned()))
        };
        let end = text(length.saturating_sub(READ_BYTES))?;
        if length <= READ_BYTES && end.chars().count() <= QUOTED_CHARS {
            return Ok(end);
        }
        let start = text(0)?;
        let mark = format!("\n[... of {} bytes ...]\n", length + self.left_out);
        let head = first_chars(&start, QUOTED_HEAD_CHARS);
        Ok(format!("{head}{mark}{}", last_chars(&end, QUOTED_CHARS - QUOTED_HEAD_CHARS - mark.len())))
    }

    /// Does the work while it keeps the file small.
    pub(crate) async fn keep_small_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(self.pace.next) => {}
            }
            self.keep_small().await;
        }
    }

    /// Keeps the file small until its last writer is gone, then removes it.
    pub(crate) async fn keep_small_to_the_end(mut self) {
        let Some((path, file)) = self.file.clone() else { return };
        while file.try_lock().is_err() {
            self.keep_small().await;
            sleep(self.pace.next).await;
        }
        // A newer file under the same name belongs to another command.
        if same_file::is_at(&file, &path) {
            let _ = fs::remove_file(&path);
        }
    }

    /// Looks at the file, and shortens it if it is too long.
    async fn keep_small(&mut self) {
        let length = self.length();
        self.pace.found(length);
        let Some((path, file)) = &self.file else { return };
        if length <= MAX_BYTES {
            return;
        }
        let (file, left_out) = (Arc::clone(file), self.left_out);
        // On a blocking thread: what was written meanwhile may be much, and takes its time to go.
        let shortened = tokio::task::spawn_blocking(move || shorten(&file, left_out)).await;
        match shortened.unwrap_or_else(|died| Err(io::Error::other(died))) {
            Ok((length, left_out)) => (self.pace.length, self.left_out) = (length, left_out),
            Err(error) => tracing::warn!(file = %path.display(), %error, "cannot shorten a command's output"),
        }
    }
}

/// Removes the middle of a file that may be appended to meanwhile. Returns its length then, and how many bytes have been
/// removed in all, where there were `left_out` before.
fn shorten(mut file: &File, left_out: u64) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let end = read_part(file, length.saturating_sub(KEPT_BYTES), KEPT_BYTES)?;
    file.set_len(KEPT_BYTES)?;
    let left_out = left_out + length.saturating_sub(KEPT_BYTES).saturating_sub(end.len() as u64);
    let mark = format!("\n[agentcom-sidecar left out {left_out} bytes here]\n");
    file.write_all(&[mark.as_bytes(), &end].concat())?;
    Ok((KEPT_BYTES + (mark.len() + end.len()) as u64, left_out))
}

/// Opens the output files that an earlier sidecar left. Called BEFORE any command starts, so that none of them is new.
pub(super) fn open_leftover_files(scratch: &Path) -> Vec<WrittenFile> {
    // A missing folder holds no files.
    let Ok(entries) = fs::read_dir(scratch) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
        .filter_map(|path| {
            let file = regular_file::open_with(&path, &mut reading_options()).ok()?;
            Some(WrittenFile { file: Some((path, Arc::new(file))), left_out: 0, pace: Pace::default() })
        })
        .collect()
}

fn read_part(mut file: &File, from: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advances the paused clock until `condition` holds.
    async fn eventually(condition: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if condition() {
                return;
            }
            sleep(SLOWEST_LOOK).await;
        }
        panic!("never happened");
    }

    fn session(scratch: &Path) -> (File, PathBuf, WrittenFile) {
        let output = OutputFile::create(scratch, "t1.1.1");
        let files = output.files.as_ref().unwrap();
        let (session, path) = (files.writer.try_clone().unwrap(), files.path.clone());
        (session, path, output.close_writers())
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_talks_for_ever_is_kept_small_with_both_ends_and_its_file_goes_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, path, output) = session(scratch.path());
        let length = || fs::metadata(&path).unwrap().len();
        tokio::spawn(output.keep_small_to_the_end());

        for number in 0..300_000 {
            writeln!(session, "line {number}").unwrap();
        }
        eventually(|| length() <= MAX_BYTES).await;
        session.write_all(b"go on\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("line 0\nline 1\n"), "{}", &text[..40]);
        assert!(text.ends_with("line 299998\nline 299999\ngo on\n"), "{}", &text[text.len() - 40..]);
        assert!(text.contains("[agentcom-sidecar left out "), "where it was cut");

        drop(session);
        eventually(|| !path.exists()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_counted_over_all_cuts() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, path, mut output) = session(scratch.path());
        let mut written = 0;
        for _ in 0..3 {
            session.write_all(&vec![b'x'; 2 * 1024 * 1024]).unwrap();
            written += 2 * 1024 * 1024;
            output.keep_small().await;
        }
        let text = fs::read_to_string(&path).unwrap();
        let kept = text.chars().filter(|c| *c == 'x').count() as u64;
        assert!(text.contains(&format!("left out {} bytes", output.left_out)), "the count");
        assert!(written - output.left_out - kept < 200, "{written} {} {kept}", output.left_out);
    }

    #[test]
    fn a_file_whose_writers_are_left_is_not_taken_for_another_command() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, path, _output) = session(scratch.path());
        let _next = OutputFile::create(scratch.path(), "t1.1.1");
        session.write_all(b"still here").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "still here");
        assert!(scratch.path().join("t1.1.1.2.output").exists());
    }

    #[test]
    fn a_file_that_grows_fast_is_looked_at_often() {
        let mut pace = Pace::default();
        let mut found = |length| {
            pace.found(length);
            pace.next.as_millis()
        };
        assert_eq!([0, 1, 2, 3, 4].map(&mut found), [20, 40, 80, 100, 100]);
        assert_eq!([FAST_BYTES * 2, FAST_BYTES * 4, 0].map(&mut found), [10, 10, 20]);
    }
}
