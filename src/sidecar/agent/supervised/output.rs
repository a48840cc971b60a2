//! A command's output: without secrets, its end kept for the result, and all of it, bounded in size and rate, as lines
//! in the progress file. It waits for nothing.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::common::fs::regular_file;
use crate::common::logging::Redactor;
use crate::common::text::{last_bytes, to_unicode};
use crate::sidecar::agent::supervised::claim_record::private_file_options;
use crate::sidecar::agent::supervised::verdict::DroppedText;

/// How much of a stream's end is kept, bytes: a result that is printed as one JSON object must fit.
const KEPT_BYTES: usize = 1024 * 1024;

/// The most text of one stream in one line of progress, bytes.
const LINE_BYTES: usize = 16 * 1024;

/// The progress file is truncated when it exceeds this size, bytes.
pub(super) const FILE_BYTES: u64 = 1024 * 1024;

/// One line of progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutputLine {
    /// `stdout` or `stderr`.
    pub(super) stream: String,
    pub(super) text: String,
    /// How many bytes were left out before the text.
    pub(super) left_out: u64,
}

/// One stream of a command.
pub(super) struct Stream {
    name: &'static str,
    redactor: Redactor,
    /// Bytes that do not form a whole character yet.
    bytes: Vec<u8>,
    /// Text that may be the start of a secret.
    pending: String,
    /// The end of the whole output.
    kept: String,
    /// How many bytes were dropped from the start of `kept`, and how they end.
    lost: u64,
    dropped: DroppedText,
    /// The number of parts that are not UTF-8, and were replaced by U+FFFD.
    replaced: usize,
    /// Text that is not in the progress file yet.
    line: String,
    left_out: u64,
}

impl Stream {
    pub(super) fn new(name: &'static str, redactor: Redactor) -> Self {
        let (bytes, pending, kept, line) = (Vec::new(), String::new(), String::new(), String::new());
        Self {
            name,
            redactor,
            bytes,
            pending,
            kept,
            lost: 0,
            dropped: DroppedText::default(),
            replaced: 0,
            line,
            left_out: 0,
        }
    }

    /// Adds bytes that were read.
    pub(super) fn push(&mut self, read: &[u8]) {
        self.bytes.extend_from_slice(read);
        let whole = whole_characters(&self.bytes);
        let (text, replaced) = to_unicode(&self.bytes[..whole]);
        self.pending.push_str(&text);
        self.replaced += replaced;
        self.bytes.drain(..whole);
        let mut clean = self.redactor.clean(std::mem::take(&mut self.pending));
        let pending = self.redactor.possible_beginning(&clean);
        self.pending = clean.split_off(clean.len() - pending);
        self.append(&clean);
    }

    /// Flushes what is held back; nothing may be added afterwards.
    pub(super) fn finish(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let (rest, replaced) = to_unicode(&bytes);
        self.replaced += replaced;
        let last = std::mem::take(&mut self.pending) + &rest;
        let last = self.redactor.clean(last);
        self.append(&last);
    }

    /// Returns the kept text, and how many bytes before it were dropped.
    pub(super) fn kept(&self) -> (&str, u64) {
        (&self.kept, self.lost)
    }

    /// Returns how many parts of it were not UTF-8.
    pub(super) fn replaced(&self) -> usize {
        self.replaced
    }

    /// Removes and returns what is known of the dropped bytes.
    pub(super) fn take_dropped(&mut self) -> DroppedText {
        std::mem::take(&mut self.dropped)
    }

    fn append(&mut self, text: &str) {
        self.kept.push_str(text);
        // Only at twice the size: each cut costs a copy.
        if self.kept.len() > KEPT_BYTES * 2 {
            let dropped = self.kept.len() - last_bytes(&self.kept, KEPT_BYTES).len();
            self.dropped.push(self.kept.get(..dropped).unwrap_or_default());
            self.lost += cut_to_end(&mut self.kept, KEPT_BYTES);
        }
        self.line.push_str(text);
        if self.line.len() > LINE_BYTES * 2 {
            self.left_out += cut_to_end(&mut self.line, LINE_BYTES);
        }
    }

    /// Returns the text since the last call as a line of progress.
    fn take_line(&mut self) -> Option<OutputLine> {
        if self.line.is_empty() {
            return None;
        }
        self.left_out += cut_to_end(&mut self.line, LINE_BYTES);
        let (text, left_out) = (std::mem::take(&mut self.line), std::mem::take(&mut self.left_out));
        Some(OutputLine { stream: self.name.to_owned(), text, left_out })
    }
}

/// The progress file, which a sidecar follows.
pub(super) struct Progress(Option<File>);

impl Progress {
    /// Creates the file; if that fails, the run continues without it.
    pub(super) fn create(path: &Path) -> Self {
        Self(regular_file::open_with(path, private_file_options().create(true).truncate(true)).ok())
    }

    /// Appends the new output. On a full disk the progress is lost, not the run.
    pub(super) fn write(&mut self, streams: [&mut Stream; 2]) {
        let lines: Vec<OutputLine> = streams.into_iter().filter_map(Stream::take_line).collect();
        let Some(file) = &mut self.0 else { return };
        for line in lines {
            let Ok(mut text) = serde_json::to_vec(&line) else { continue };
            text.push(b'\n');
            let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
            if length + text.len() as u64 > FILE_BYTES && file.set_len(0).is_ok() {
                let _ = file.seek(SeekFrom::Start(0));
            }
            let _ = file.write_all(&text);
        }
    }
}

/// Keeps at most the last `most` bytes; returns how many bytes were removed.
pub(super) fn cut_to_end(text: &mut String, most: usize) -> u64 {
    let at = text.len() - last_bytes(text, most).len();
    text.drain(..at);
    at as u64
}

/// Returns the length of the bytes without an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // Invalid bytes in the middle are replaced; only an incomplete end is held back.
        Err(_) => {
            let tail = bytes.len().saturating_sub(3);
            let begin = (tail..bytes.len()).rev().find(|at| bytes[*at] >= 0xc0);
            begin.filter(|at| std::str::from_utf8(&bytes[*at..]).is_err_and(|e| e.error_len().is_none()))
        }
        .unwrap_or(bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::secret::Secret;

    fn stream() -> Stream {
        Stream::new("stdout", Redactor::new(&[Secret::new("s3cret-token")]))
    }

    #[test]
    fn a_secret_is_blotted_out_however_it_is_cut() {
        let text = b"a s3cret-token b s3cret";
        for at in 0..text.len() {
            let mut stream = stream();
            stream.push(&text[..at]);
            stream.push(&text[at..]);
            stream.finish();
            assert_eq!(stream.kept().0, "a <redacted> b s3cret", "cut at {at}");
            assert_eq!(stream.take_line().unwrap().text, "a <redacted> b s3cret");
        }
    }

    #[test]
    fn a_character_is_not_cut() {
        let mut stream = stream();
        for byte in "aä→🦀".as_bytes() {
            stream.push(&[*byte]);
        }
        stream.finish();
        assert_eq!(stream.kept().0, "aä→🦀");
    }

    #[test]
    fn bytes_that_are_no_text_hold_nothing_up() {
        let mut stream = stream();
        stream.push(&[b'a', 0xff, b'b']);
        assert_eq!(stream.kept().0, "a\u{fffd}b");
    }

    #[test]
    fn of_a_flood_the_end_is_kept_and_the_rest_counted() {
        let mut stream = stream();
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..64 {
            stream.push(&chunk);
        }
        stream.push(b"the end");
        let (kept, lost) = stream.kept();
        assert!(kept.len() <= KEPT_BYTES * 2 && kept.ends_with("the end"));
        assert_eq!(lost + kept.len() as u64, 64 * 64 * 1024 + 7);
        let line = stream.take_line().unwrap();
        assert!(line.text.len() <= LINE_BYTES && line.text.ends_with("the end"));
        assert_eq!(line.left_out + line.text.len() as u64, 64 * 64 * 1024 + 7);
    }

    #[test]
    fn the_progress_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.progress");
        let mut progress = Progress::create(&path);
        let (mut out, mut err) = (stream(), stream());
        for _ in 0..200 {
            out.push(&vec![b'x'; LINE_BYTES]);
            progress.write([&mut out, &mut err]);
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= FILE_BYTES);
    }
}
