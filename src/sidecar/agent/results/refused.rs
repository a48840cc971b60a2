//! Keeps results that were not taken in `rejected/` of the results folder, where an operator finds them, or beside the
//! journal if that folder cannot be written. It overwrites no result there, and removes none; `kept` bounds the folders.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::{self, DurableError, Operation};
use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::fs::same_file;
use crate::sidecar::agent::results::outcome::MAX_FILE_BYTES;

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

/// Puts the result file at `path` there too, whatever it holds, and returns its path there: `<name>.json`, or
/// `<name>.2.json` and so on if another file has that name. The file itself stays, and is not copied twice.
///
/// # Errors
/// The file can neither be linked nor copied (another user's, for example), or there is no such file.
pub fn keep_file(path: &Path) -> io::Result<PathBuf> {
    // The target of a symbolic link, which may be on another disk.
    let source = fs::canonicalize(path)?;
    let folder = path.with_file_name(FOLDER);
    fs::create_dir_all(&folder)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let target = numbered(&folder, &name, "json", |target| {
        let is_new = match fs::hard_link(&source, target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Ok(()) => true,
            Err(_) => copy_new(&source, target)?,
        };
        Ok(is_new || have_same_content(&source, target))
    })?;
    fs::File::open(&folder)?.sync_all()?;
    Ok(target)
}

/// Moves the result file at `path` there, whatever it holds and whoever may read it, and returns its path there, as
/// [`keep_file`] does. A process that still writes to it writes on. Returns `None` if there is no such file, or nothing
/// that can be kept (a named pipe, a socket, a device).
///
/// # Errors
/// The file cannot be moved, and is where it was; or it is a folder, which is left alone.
pub fn move_file(path: &Path) -> io::Result<Option<PathBuf>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        // The target may be a file of the session's own: it stays where it is, and its content is kept.
        return match keep_file(path) {
            Ok(kept) => fs::remove_file(path).map(|()| Some(kept)),
            // A dangling link leads to no result.
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_file(path).map(|()| None),
            Err(error) => Err(error),
        };
    }
    if found.is_dir() {
        return Err(Unsuitable::NoFile(regular_file::Kind::Folder).into());
    }
    if !found.is_file() {
        return fs::remove_file(path).map(|()| None);
    }
    let folder = path.with_file_name(FOLDER);
    fs::create_dir_all(&folder)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Taken under a name of its own first: a file that is put at `path` meanwhile is another result.
    let taken = numbered(&folder, &name, "taken", |target| rename_new(path, target))?;
    let kept = numbered(&folder, &name, "json", |target| match have_same_content(&taken, target) {
        true => fs::remove_file(&taken).map(|()| true),
        false => rename_new(&taken, target),
    })?;
    fs::File::open(&folder)?.sync_all()?;
    Ok(Some(kept))
}

/// Returns the first of `<name>.<extension>`, `<name>.2.<extension>` and so on that `put` accepts.
fn numbered(
    folder: &Path,
    name: &str,
    extension: &str,
    mut put: impl FnMut(&Path) -> io::Result<bool>,
) -> io::Result<PathBuf> {
    let mut number = 1_u32;
    loop {
        let file = if number == 1 { format!("{name}.{extension}") } else { format!("{name}.{number}.{extension}") };
        let target = folder.join(file);
        if put(&target)? {
            return Ok(target);
        }
        number += 1;
    }
}

/// Renames `from` to a name that is free; returns false if it is not.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // A file system without that flag: nobody else makes files in this folder.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(from, to).map(|()| true),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// Copies to a new file; returns false if the target exists already.
fn copy_new(source: &Path, target: &Path) -> io::Result<bool> {
    let mut new = match OpenOptions::new().write(true).create_new(true).open(target) {
        Ok(new) => new,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    let copied =
        regular_file::open(source).and_then(|mut file| io::copy(&mut file, &mut new)).and_then(|_| new.sync_all());
    copied.map(|()| true).inspect_err(|_| {
        // A partial copy is useless; if removing it fails too, nothing better can be done.
        let _ = fs::remove_file(target);
    })
}

/// Returns whether two paths name one file, or files of at most a result's size with equal content.
fn have_same_content(one: &Path, other: &Path) -> bool {
    let file = |path| fs::metadata(path).ok().map(|found| same_file::identity(&found));
    if file(one).is_some() && file(one) == file(other) {
        return true;
    }
    let read = |path| regular_file::read(path, MAX_FILE_BYTES).ok();
    read(one).is_some_and(|content| read(other) == Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_file_is_kept_once_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        for (content, name) in [("[[", "t.json"), ("[", "t.2.json"), ("[", "t.2.json"), ("[[", "t.json")] {
            fs::remove_file(&path).ok();
            fs::write(&path, content).unwrap();
            for _ in 0..2 {
                let kept = keep_file(&path).unwrap();
                assert_eq!(kept, dir.path().join("rejected").join(name));
                assert_eq!(fs::read_to_string(kept).unwrap(), content);
            }
        }
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 2);
        assert!(keep_file(&dir.path().join("other.json")).is_err());
    }

    #[test]
    fn a_file_that_is_moved_is_there_once_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        for (content, name) in [("[[", "t.json"), ("[", "t.2.json"), ("[", "t.2.json"), ("[[", "t.json")] {
            fs::write(&path, content).unwrap();
            let kept = move_file(&path).unwrap().unwrap();
            assert_eq!(kept, dir.path().join("rejected").join(name));
            assert_eq!((fs::read_to_string(kept).unwrap().as_str(), path.exists()), (content, false));
        }
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 2);
        assert_eq!(move_file(&path).unwrap(), None);
    }

    #[test]
    fn a_file_that_lies_there_already_goes_from_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        fs::write(&path, "[[").unwrap();
        let kept = keep_file(&path).unwrap();
        assert_eq!(move_file(&path).unwrap(), Some(kept.clone()));
        assert_eq!((fs::read_to_string(kept).unwrap().as_str(), path.exists()), ("[[", false));
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 1);
    }

    #[test]
    fn what_a_writer_adds_to_a_file_that_was_moved_is_kept_too() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let mut writer = fs::File::create(dir.path().join("t.json")).unwrap();
        let kept = move_file(&dir.path().join("t.json")).unwrap().unwrap();
        writer.write_all(b"{}").unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_result_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("t.json")).unwrap();
        assert!(move_file(&dir.path().join("t.json")).is_err());
        assert!(dir.path().join("t.json").is_dir());
        std::os::unix::fs::symlink("nowhere", dir.path().join("u.json")).unwrap();
        assert_eq!(move_file(&dir.path().join("u.json")).unwrap(), None);
        assert!(!dir.path().join("rejected/u.json").exists());
    }

    #[test]
    fn a_link_keeps_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("out.txt"), "[[").unwrap();
        std::os::unix::fs::symlink(dir.path().join("out.txt"), dir.path().join("t.json")).unwrap();
        let kept = keep_file(&dir.path().join("t.json")).unwrap();
        assert!(fs::symlink_metadata(&kept).unwrap().is_file());
        assert_eq!(fs::read_to_string(kept).unwrap(), "[[");
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
