//! Takes result files out of the way: under a private name first, so that a file that is put in its place meanwhile is
//! another result; then it is removed, or put to where results are kept that were not taken. It overwrites none there.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::fs::same_file;
use crate::sidecar::agent::results::outcome::MAX_FILE_BYTES;

/// Puts the result file at `path` into the first of `folders` that takes it, whatever it holds, and returns its path there:
/// `<name>.json`, or `<name>.2.json` and so on if another file has that name. The file itself stays, and is not copied
/// twice.
///
/// # Errors
/// The file can neither be linked nor copied (another user's, for example), or there is no such file.
pub(super) fn keep_file(path: &Path, folders: &[PathBuf]) -> io::Result<PathBuf> {
    keep_as(path, &name_of(path), folders)
}

fn keep_as(path: &Path, name: &str, folders: &[PathBuf]) -> io::Result<PathBuf> {
    // The target of a symbolic link, which may be on another disk.
    let source = fs::canonicalize(path)?;
    first_of(folders, |folder| {
        numbered(folder, name, "json", |target| {
            let is_new = match fs::hard_link(&source, target) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
                Ok(()) => true,
                Err(_) => copy_new(&source, target)?,
            };
            Ok(is_new || have_same_content(&source, target))
        })
    })
}

/// A result file under a name beside its own that nobody else uses. Dropped, it stays there.
#[derive(Debug)]
pub(super) struct PrivateFile {
    /// Where it was.
    path: PathBuf,
    /// Where it is.
    private: PathBuf,
}

impl PrivateFile {
    /// Takes the file at `path`; returns `None` if there is none. A process that still writes to it writes on.
    ///
    /// # Errors
    /// The file cannot be renamed; or it is a folder, which is left alone.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => return Err(Unsuitable::NoFile(regular_file::Kind::Folder).into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        match numbered(folder, &private_name(path), TAKEN, |target| rename_new(path, target)) {
            Ok(private) => Ok(Some(Self { path: path.to_owned(), private })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the file that a process took from `path` and was killed before it had put it anywhere.
    pub(super) fn left_over(path: &Path) -> Option<Self> {
        let private = path.with_file_name(format!("{}.{TAKEN}", private_name(path)));
        fs::symlink_metadata(&private).is_ok().then(|| Self { path: path.to_owned(), private })
    }

    /// Returns where the file is.
    pub(super) fn at(&self) -> &Path {
        &self.private
    }

    /// Removes it.
    ///
    /// # Errors
    /// It cannot be removed, and is where it was, unless another file is there.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.private).inspect_err(|_| self.put_back())
    }

    /// Moves it into the first of `folders` that takes it, whatever it holds and whoever may read it, and returns its path
    /// there, as [`keep_file`] does. Onto another disk it is copied, and what is written to it later is lost. Returns `None`
    /// if it is nothing that can be kept (a named pipe, a socket, a device, a link that leads nowhere): then it is removed.
    ///
    /// # Errors
    /// It cannot be moved, and is where it was, unless another file is there.
    pub(super) fn keep(self, folders: &[PathBuf]) -> io::Result<Option<PathBuf>> {
        self.put_into(folders).inspect_err(|_| self.put_back())
    }

    fn put_into(&self, folders: &[PathBuf]) -> io::Result<Option<PathBuf>> {
        let found = fs::symlink_metadata(&self.private)?;
        if found.is_symlink() && fs::metadata(&self.private).is_ok() {
            // The target may be a file of the session's own: it stays where it is, and its content is kept.
            let kept = keep_as(&self.private, &name_of(&self.path), folders)?;
            return fs::remove_file(&self.private).map(|()| Some(kept));
        }
        if !found.is_file() {
            return fs::remove_file(&self.private).map(|()| None);
        }
        first_of(folders, |folder| self.move_into(folder)).map(Some)
    }

    fn move_into(&self, folder: &Path) -> io::Result<PathBuf> {
        numbered(folder, &name_of(&self.path), "json", |target| {
            if have_same_content(&self.private, target) {
                return fs::remove_file(&self.private).map(|()| true);
            }
            match rename_new(&self.private, target) {
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    let is_new = copy_new(&self.private, target)?;
                    if is_new { fs::remove_file(&self.private).map(|()| true) } else { Ok(false) }
                }
                renamed => renamed,
            }
        })
    }

    fn put_back(&self) {
        match rename_new(&self.private, &self.path) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(file = %self.private.display(), "a result stays there: another has its name"),
            Err(error) => tracing::warn!(file = %self.private.display(), %error, "a result stays there"),
        }
    }
}

/// The extension of a file that was taken.
const TAKEN: &str = "taken";

fn private_name(path: &Path) -> String {
    format!(".{}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns what `put` returns for the first folder that it accepts, which is on the disk then; else the first error.
fn first_of(folders: &[PathBuf], mut put: impl FnMut(&Path) -> io::Result<PathBuf>) -> io::Result<PathBuf> {
    let mut first = None;
    for folder in folders {
        match fs::create_dir_all(folder).and_then(|()| put(folder)) {
            // What is there already counts as put, also where the folder cannot be synced.
            Ok(kept) => {
                if let Err(error) = fs::File::open(folder).and_then(|folder| folder.sync_all()) {
                    tracing::warn!(folder = %folder.display(), %error, "a folder of kept results was not synced");
                }
                return Ok(kept);
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| ErrorKind::Unsupported.into()))
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
        // A file system without that flag: nobody else uses these names.
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

    fn folders(dir: &Path) -> [PathBuf; 2] {
        ["rejected", "queue.rejected"].map(|name| dir.join(name))
    }

    fn move_file(path: &Path, dir: &Path) -> io::Result<Option<PathBuf>> {
        PrivateFile::take(path)?.map_or(Ok(None), |taken| taken.keep(&folders(dir)))
    }

    #[test]
    fn a_file_is_kept_once_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        for (content, name) in [("[[", "t.json"), ("[", "t.2.json"), ("[", "t.2.json"), ("[[", "t.json")] {
            fs::remove_file(&path).ok();
            fs::write(&path, content).unwrap();
            for _ in 0..2 {
                let kept = keep_file(&path, &folders(dir.path())).unwrap();
                assert_eq!(kept, dir.path().join("rejected").join(name));
                assert_eq!(fs::read_to_string(kept).unwrap(), content);
            }
        }
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 2);
        assert!(keep_file(&dir.path().join("other.json"), &folders(dir.path())).is_err());
    }

    #[test]
    fn a_file_that_is_moved_is_there_once_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        for (content, name) in [("[[", "t.json"), ("[", "t.2.json"), ("[", "t.2.json"), ("[[", "t.json")] {
            fs::write(&path, content).unwrap();
            let kept = move_file(&path, dir.path()).unwrap().unwrap();
            assert_eq!(kept, dir.path().join("rejected").join(name));
            assert_eq!((fs::read_to_string(kept).unwrap().as_str(), path.exists()), (content, false));
        }
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 2);
        assert_eq!(move_file(&path, dir.path()).unwrap(), None);
    }

    #[test]
    fn a_file_that_lies_there_already_goes_from_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        fs::write(&path, "[[").unwrap();
        let kept = keep_file(&path, &folders(dir.path())).unwrap();
        assert_eq!(move_file(&path, dir.path()).unwrap(), Some(kept.clone()));
        assert_eq!((fs::read_to_string(kept).unwrap().as_str(), path.exists()), ("[[", false));
        assert_eq!(fs::read_dir(dir.path().join("rejected")).unwrap().count(), 1);
    }

    #[test]
    fn what_a_writer_adds_to_a_file_that_was_moved_is_kept_too() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let mut writer = fs::File::create(dir.path().join("t.json")).unwrap();
        let kept = move_file(&dir.path().join("t.json"), dir.path()).unwrap().unwrap();
        writer.write_all(b"{}").unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_result_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("t.json")).unwrap();
        assert!(move_file(&dir.path().join("t.json"), dir.path()).is_err());
        assert!(dir.path().join("t.json").is_dir());
        std::os::unix::fs::symlink("nowhere", dir.path().join("u.json")).unwrap();
        assert_eq!(move_file(&dir.path().join("u.json"), dir.path()).unwrap(), None);
        assert!(!dir.path().join("rejected/u.json").exists());
    }

    #[test]
    fn a_link_keeps_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("out.txt"), "[[").unwrap();
        std::os::unix::fs::symlink(dir.path().join("out.txt"), dir.path().join("t.json")).unwrap();
        let kept = keep_file(&dir.path().join("t.json"), &folders(dir.path())).unwrap();
        assert!(fs::symlink_metadata(&kept).unwrap().is_file());
        assert_eq!(fs::read_to_string(kept).unwrap(), "[[");
    }

    #[test]
    fn where_the_first_folder_cannot_be_made_the_other_takes_it_else_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        fs::write(dir.path().join("rejected"), "").unwrap();
        fs::write(&path, "[").unwrap();
        let there = dir.path().join("queue.rejected/t.json");
        assert_eq!(keep_file(&path, &folders(dir.path())).unwrap(), there);
        assert_eq!(move_file(&path, dir.path()).unwrap(), Some(there));
        assert!(!path.exists());
        fs::remove_dir_all(dir.path().join("queue.rejected")).unwrap();
        fs::write(dir.path().join("queue.rejected"), "").unwrap();
        fs::write(&path, "[").unwrap();
        assert!(move_file(&path, dir.path()).is_err());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), fs::read_dir(dir.path()).unwrap().count()), ("[", 3));
    }

    #[test]
    fn a_file_that_is_put_in_place_of_one_that_was_taken_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        fs::write(&path, "1").unwrap();
        let taken = PrivateFile::take(&path).unwrap().unwrap();
        fs::write(&path, "2").unwrap();
        taken.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        // As if the process were killed here.
        drop(PrivateFile::take(&path).unwrap());
        let kept = PrivateFile::left_over(&path).unwrap().keep(&folders(dir.path())).unwrap().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "2");
        assert!(PrivateFile::left_over(&path).is_none());
    }
}
