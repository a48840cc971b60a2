//! Reads the history, also while the sidecar writes it.

use std::path::{Path, PathBuf};

use crate::common::fs::{regular_file, rotating_file};
use crate::sidecar::history::{Entry, LIMITS, path_of};

/// The most that is read of one file: it is rotated before a line would make it larger.
const MAX_FILE_BYTES: u64 = 2 * LIMITS.max_bytes;

/// How much is read of the end of each file for the last run, in bytes: some hundred lines.
const LAST_BYTES: u64 = 1 << 15;

/// The lines of the history.
#[derive(Debug, Default)]
pub struct History {
    /// The lines that can be read, oldest first.
    pub entries: Vec<Entry>,
    /// The number of those that cannot: torn by a crash, or a newer sidecar's.
    pub skipped: u64,
}

/// The reason why a history cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the history {}: {source}; it is this program's alone: move away what is there", path.display())]
pub struct UnreadableHistory {
    /// The path of the file.
    pub path: PathBuf,
    /// The system's error.
    pub source: std::io::Error,
}

/// Reads the history beside the journal `queue_file`; it is empty where there is none.
///
/// # Errors
/// [`UnreadableHistory`]: a file is there and cannot be read.
pub fn read(queue_file: &Path) -> Result<History, UnreadableHistory> {
    let unreadable = |path: &Path, source| UnreadableHistory { path: path.to_owned(), source };
    let path = path_of(queue_file).map_err(|source| unreadable(queue_file, source))?;
    let parts = rotating_file::open_all(&path, LIMITS.max_files).map_err(|(path, source)| unreadable(&path, source))?;
    let mut history = History::default();
    for mut part in parts {
        let bytes =
            regular_file::read_open(&mut part.file, MAX_FILE_BYTES).map_err(|source| unreadable(&path, source))?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => history.entries.push(entry),
                Err(_) => history.skipped += 1,
            }
        }
    }
    Ok(history)
}

/// Reads the last lines of the history, those of the latest runs, oldest first.
///
/// # Errors
/// [`UnreadableHistory`]: a file is there and cannot be read.
pub(crate) fn read_last(queue_file: &Path) -> Result<Vec<Entry>, UnreadableHistory> {
    let unreadable = |path: &Path, source| UnreadableHistory { path: path.to_owned(), source };
    let path = path_of(queue_file).map_err(|source| unreadable(queue_file, source))?;
    let parts = rotating_file::open_all(&path, LIMITS.max_files).map_err(|(path, source)| unreadable(&path, source))?;
    let mut text = Vec::new();
    for mut part in parts {
        regular_file::read_end(&mut part.file, LAST_BYTES, &mut text).map_err(|source| unreadable(&path, source))?;
    }
    // The first line may be cut, and makes no sense then.
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_and_an_unknown_one_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        assert!(read(&queue).unwrap().entries.is_empty());
        let line = r#"{"at_ms":1,"boot_id":"b","event":"draining","on":true}"#;
        let text =
            format!("{line}\n{{\"at_ms\":2,\"boot\n{line}\n{{\"at_ms\":3,\"boot_id\":\"b\",\"event\":\"new\"}}\n\u{1}");
        std::fs::write(path_of(&queue).unwrap(), text).unwrap();
        let history = read(&queue).unwrap();
        assert_eq!((history.entries.len(), history.skipped), (2, 3));
    }

    #[test]
    fn what_is_no_history_is_refused_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("queue.json");
        std::fs::File::create(path_of(&queue).unwrap()).unwrap().set_len(1 << 40).unwrap();
        let error = read(&queue).unwrap_err().to_string();
        assert!(error.contains("queue.json.history") && error.contains("1099511627776 bytes"), "{error}");
    }
}
