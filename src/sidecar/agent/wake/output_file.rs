//! The file for a command's stdout and stderr: an append-only file that outlives the command, since a session that it
//! detached may write to it for hours. It is kept small from its first byte on, with the beginning and the end of the
//! output, and removed when its last writer is gone; its text is only ever quoted.
//!
//! A pipe would break a session's writes once this process exits, and `/dev/null` would leave a failure without a
//! reason. A limit on the size of a file (`RLIMIT_FSIZE`) would be one for every file of the agent. So the file is looked
//! at again and again, and the disk space of its middle is given back under its writers, which append: nothing that they
//! write meanwhile is lost, and the length goes on counting. Whether a writer is left shows in a lock that belongs
//! to the *open file* which the command inherited (`flock`): it is free only when the last process that holds this file
//! has closed it, also when a later sidecar asks.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::common::fs::{private_options, regular_file, same_file};
use crate::common::logging::Redactor;
use crate::common::text::{first_chars, last_chars};

/// How much of the file's beginning and of its end is read for a quotation, bytes: more than is quoted, so that a secret
/// at an edge is whole.
const READ_BYTES: u64 = 8 * 1024;

/// The part of a quotation of longer output that is its beginning: this share of its characters.
const HEAD_SHARE: usize = 6;

/// The space on disk beyond which the file's middle is given back, bytes.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

/// How much of the beginning, and of the end, stays when it is, bytes.
const KEPT_BYTES: u64 = 128 * 1024;

/// The time between two looks at a file that grows fast, and the longest one, at a file that does not: what a writer
/// writes in that time is on the disk until the next look.
const FASTEST_LOOK: Duration = Duration::from_millis(10);
const SLOWEST_LOOK: Duration = Duration::from_millis(100);

/// The block size that holes are aligned to, bytes: parts of blocks are written over, and free nothing.
const BLOCK_BYTES: u64 = 4096;

/// The time until a file is looked at again that could not be kept small: each time leaves a line in the log.
const AFTER_ERROR: Duration = Duration::from_secs(10);

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

    /// Closes this process's writing end, AFTER the command has inherited it, and keeps the file to `max_bytes` in the
    /// background until its last writer is gone. Then it is removed; what is returned can still be read.
    pub(crate) fn close_writers(self, max_bytes: u64) -> WrittenFile {
        let written = WrittenFile { kept: self.files.map(|files| SmallFile::new(files.path, files.reader, max_bytes)) };
        written.keep_small();
        written
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
    kept: Option<Arc<SmallFile>>,
}

/// A file that is kept small.
struct SmallFile {
    path: PathBuf,
    file: File,
    max_bytes: u64,
    /// The position up to which the middle has been given back.
    hole_end: AtomicU64,
    /// How many bytes were removed where there can be no holes.
    removed: AtomicU64,
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
    /// Returns how much was printed, bytes.
    pub(crate) fn printed(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.printed())
    }

    /// Does the work for as long as at most this much is printed; returns `None` once there is more.
    pub(crate) async fn while_at_most<T>(&self, max_bytes: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = sleep(SLOWEST_LOOK) => if self.printed() > max_bytes {
                    return None;
                }
            }
        }
    }

    /// Returns the beginning of the output.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(&self, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.kept.as_ref().map_or(Ok(Vec::new()), |kept| kept.read(0, max_bytes))
    }

    /// Returns the beginning and the end of the output, as text of at most this many characters without secrets.
    pub(crate) fn quote(&self, most_chars: usize, redactor: &Redactor) -> String {
        let Some(kept) = &self.kept else { return String::new() };
        kept.quote(most_chars, redactor).unwrap_or_else(|error| format!("(its output cannot be read: {error})"))
    }

    /// Keeps the file small in the background until its last writer is gone, then removes it.
    pub(super) fn keep_small(&self) {
        if let Some(kept) = self.kept.clone() {
            tokio::spawn(keep_small(kept));
        }
    }
}

async fn keep_small(kept: Arc<SmallFile>) {
    let mut pace = Pace::default();
    while kept.file.try_lock().is_err() {
        pace.found(kept.length());
        if kept.on_disk(pace.length) > kept.max_bytes {
            let file = Arc::clone(&kept);
            // On a blocking thread: what was written meanwhile may be much, and takes its time to go.
            let freed = tokio::task::spawn_blocking(move || file.free_middle()).await;
            if let Err(error) = freed.unwrap_or_else(|died| Err(io::Error::other(died))) {
                tracing::warn!(file = %kept.path.display(), %error, "a command's output cannot be kept small");
                pace.next = AFTER_ERROR;
            }
        }
        sleep(pace.next).await;
    }
    // A newer file under the same name belongs to another command.
    if same_file::is_at(&kept.file, &kept.path) {
        let _ = fs::remove_file(&kept.path);
    }
}

impl SmallFile {
    fn new(path: PathBuf, file: File, max_bytes: u64) -> Arc<Self> {
        let (hole_end, removed) = (AtomicU64::new(KEPT_BYTES), AtomicU64::new(0));
        Arc::new(Self { path, file, max_bytes, hole_end, removed })
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len())
    }

    /// Returns how much was written to the file in all, bytes.
    fn printed(&self) -> u64 {
        self.length() + self.removed.load(Ordering::Relaxed)
    }

    /// Returns how much of a file of this length is on disk, bytes.
    fn on_disk(&self, length: u64) -> u64 {
        length.saturating_sub(self.hole_end.load(Ordering::Relaxed) - KEPT_BYTES)
    }

    /// Gives the space of the file's middle back, which reads as zeros from then on. Where the file system has no holes
    /// (some network ones), what was written so far is removed.
    fn free_middle(&self) -> io::Result<()> {
        let length = self.length();
        let from = self.hole_end.load(Ordering::Relaxed);
        let to = length.saturating_sub(KEPT_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
        if to <= from {
            return Ok(());
        }
        match punch_hole(&self.file, from, to - from) {
            Ok(()) => self.hole_end.store(to, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.file.set_len(0)?;
                self.removed.fetch_add(length, Ordering::Relaxed);
                self.hole_end.store(KEPT_BYTES, Ordering::Relaxed);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read(&self, from: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
        // By position: the background reads the same open file.
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; usize::try_from(max_bytes.min(self.length().saturating_sub(from))).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], from + filled as u64) {
                // It was shortened meanwhile.
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn quote(&self, most_chars: usize, redactor: &Redactor) -> io::Result<String> {
        let length = self.length();
        let text = |from| -> io::Result<String> {
            let bytes = self.read(from, READ_BYTES)?;
            Ok(redactor.clean(String::from_utf8_lossy(&bytes).trim().to_owned()))
        };
        let end = text(length.saturating_sub(READ_BYTES))?;
        if length <= READ_BYTES && end.chars().count() <= most_chars {
            return Ok(end);
        }
        let start = text(0)?;
        let mark = format!("\n[... of {} bytes ...]\n", self.printed());
        let head = first_chars(&start, most_chars / HEAD_SHARE);
        let rest = most_chars.saturating_sub(head.chars().count() + mark.len());
        Ok(format!("{head}{mark}{}", last_chars(&end, rest)))
    }
}

#[cfg(target_os = "linux")]
fn punch_hole(file: &File, from: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, from, length).map_err(|errno| match errno {
        rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS => ErrorKind::Unsupported.into(),
        other => other.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn punch_hole(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
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
            Some(WrittenFile { kept: Some(SmallFile::new(path, file, MAX_BYTES)) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

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

    fn session(scratch: &Path) -> (File, PathBuf, OutputFile) {
        let output = OutputFile::create(scratch, "t1.1.1");
        let files = output.files.as_ref().unwrap();
        let (session, path) = (files.writer.try_clone().unwrap(), files.path.clone());
        (session, path, output)
    }

    fn on_disk(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(path).unwrap().blocks() * 512
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_talks_for_ever_is_kept_small_with_both_ends_and_its_file_goes_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, path, output) = session(scratch.path());
        let written = output.close_writers(MAX_BYTES);

        let mut printed = 0;
        for number in 0..300_000 {
            let line = format!("line {number}\n");
            printed += line.len() as u64;
            session.write_all(line.as_bytes()).unwrap();
        }
        eventually(|| on_disk(&path) <= MAX_BYTES).await;
        session.write_all(b"go on\n").unwrap();
        assert_eq!(written.printed(), printed + 6);
        let quoted = written.quote(200, &Redactor::new(&[]));
        assert!(quoted.starts_with("line 0\n") && quoted.len() <= 200, "{quoted}");
        assert!(
            quoted.ends_with("line 299999\ngo on") && quoted.contains(&format!("of {} bytes", printed + 6)),
            "{quoted}"
        );

        drop(session);
        eventually(|| !path.exists()).await;
    }

    #[test]
    fn what_is_written_while_the_middle_is_given_back_is_not_lost() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, path, output) = session(scratch.path());
        let files = output.files.unwrap();
        let kept = SmallFile::new(files.path, files.reader, MAX_BYTES);
        let writer = std::thread::spawn(move || {
            let mut written = 0;
            for number in 0..20_000 {
                let line = format!("{number:>1023}\n");
                written += line.len() as u64;
                session.write_all(line.as_bytes()).unwrap();
            }
            written
        });
        while !writer.is_finished() {
            kept.free_middle().unwrap();
        }
        let written = writer.join().unwrap();
        kept.free_middle().unwrap();
        assert_eq!((kept.length(), kept.printed()), (written, written));
        assert!(on_disk(&path) <= 3 * KEPT_BYTES, "{}", on_disk(&path));
        let end = String::from_utf8(kept.read(written - KEPT_BYTES, KEPT_BYTES).unwrap()).unwrap();
        let numbers: Vec<u32> = end.lines().map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!(numbers, (20_000 - 128..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_secret_at_the_edge_of_what_is_quoted_is_not_quoted_in_half() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut session, _, output) = session(scratch.path());
        let text = format!("{}s3cret-token{}s3cret-token{}", "a".repeat(13), "-".repeat(20_000), "z".repeat(60));
        session.write_all(text.as_bytes()).unwrap();
        let files = output.files.unwrap();
        let redactor = Redactor::new(&[crate::common::secret::Secret::new("s3cret-token")]);
        for most in 60..120 {
            let quoted =
                SmallFile::new(files.path.clone(), files.reader.try_clone().unwrap(), 0).quote(most, &redactor);
            let quoted = quoted.unwrap();
            assert!(!quoted.contains("s3") && !quoted.contains("token"), "{quoted}");
        }
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
