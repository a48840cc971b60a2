//! Writes results that were not taken into `rejected/` of the results folder, where an operator finds them, or beside the
//! journal if that folder cannot be written. It overwrites no result there, and removes none; `aside` puts files there, and
//! `kept` bounds the folders.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::{self, DurableError, Operation};
use crate::common::fs::regular_file::{self, Unsuitable};

/// The folder's name in the results folder, and the extension of the fallback folder, which is named like the journal.
pub(super) const FOLDER: &str = "rejected";

/// Writes the result durably and returns its path: `<task_id>.json`, or `<task_id>.2.json` and so on if another file
/// has that name. A result that is already there is not written again. A hub assigns no task to an agent while it waits
/// for the last task's verdict, so a results folder that cannot be written must not block that where the journal's
/// folder can be written.
///
/// # Errors
/// Returns the [`DurableError`] of the results folder if neither folder can be written: disk full, read-only,
/// permission.
pub fn keep(results_dir: &Path, queue_file: &Path, task_id: &str, result: &str) -> Result<PathBuf, DurableError> {
    keep_in(&results_dir.join(FOLDER), task_id, result)
        .or_else(|error| keep_in(&queue_file.with_extension(FOLDER), task_id, result).map_err(|_| error))
}

fn keep_in(folder: &Path, task_id: &str, result: &str) -> Result<PathBuf, DurableError> {
    let mut path = folder.join(format!("{task_id}.json"));
    let mut number = 1_u32;
    loop {
        match regular_file::read(&path, result.len() as u64) {
            Ok(found) if found == result.as_bytes() => return Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(source) if Unsuitable::of(&source).is_none() => {
                return Err(DurableError { path, operation: Operation::Read, source });
            }
            Ok(_) | Err(_) => {
                number += 1;
                path = folder.join(format!("{task_id}.{number}.json"));
            }
        }
    }
    // A process that was killed may have left a partial file.
    atomic_file::remove_leftovers(&path)?;
    atomic_file::write_atomic(&path, result.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn kept(dir: &Path, result: &str) -> String {
        let path = keep(dir, &dir.join("queue.json"), "t", result).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), result);
        path.strip_prefix(dir).unwrap().display().to_string()
    }

    #[test]
    fn a_result_is_written_once_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        for (result, name) in [("{}", "t.json"), ("{\"n\":1}", "t.2.json"), ("{}", "t.json"), ("{\"n\":1}", "t.2.json")]
        {
            assert_eq!(kept(dir.path(), result), format!("rejected/{name}"));
        }
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rejected/t.json")).unwrap();
        assert_eq!(kept(dir.path(), "{}"), "rejected/t.2.json");
    }

    #[test]
    fn half_a_file_of_a_killed_process_goes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rejected")).unwrap();
        fs::write(dir.path().join("rejected/.t.json.x.tmp"), "{").unwrap();
        kept(dir.path(), "{}");
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 1);
    }

    #[test]
    fn where_no_folder_can_be_made_it_lies_beside_the_journal_else_the_error_says_where() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rejected"), "").unwrap();
        assert_eq!(kept(dir.path(), "{}"), "queue.rejected/t.json");
        fs::remove_dir_all(dir.path().join("queue.rejected")).unwrap();
        fs::write(dir.path().join("queue.rejected"), "").unwrap();
        let error = keep(dir.path(), &dir.path().join("queue.json"), "t", "{}").unwrap_err();
        assert_eq!(error.path, dir.path().join("rejected/t.json"));
    }
}
