//! A file of lines that is limited in size, with a few predecessors, and that is created again when it is deleted or
//! moved; and how such a file is read with its predecessors. A failed write loses single lines only: a full disk or a
//! missing folder is tried again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::{regular_file, same_file};

/// The pause before a file that could not be opened is tried again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// How large such a file gets, how many there are, and who may read them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum size of one file, in bytes. A line that is longer has a file of its own.
    pub max_bytes: u64,
    /// The number of files: the current one and its predecessors, `.1` (the newest) and on.
    pub max_files: u32,
    /// The mode of a new file.
    pub mode: u32,
}

/// The writer of a file with rotation: `sidecar.log` becomes `sidecar.log.1` when it is full, and so on; the oldest is
/// dropped.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    limits: Limits,
    open: Option<Open>,
    try_again_at: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Whether the last write ended in the middle of a line.
    torn: bool,
}

impl RotatingFile {
    /// Creates the writer; the file is opened with the first line.
    pub fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, open: None, try_again_at: None }
    }

    /// Appends one line, which includes the newline.
    ///
    /// # Errors
    /// Returns why it is lost; the next may succeed.
    pub fn append(&mut self, line: &[u8]) -> Result<(), String> {
        if self.open.is_none() && self.try_again_at.is_some_and(|at| Instant::now() < at) {
            return Err("tried a moment ago".to_owned());
        }
        self.try_again_at = None;
        self.try_append(line).map_err(|error| {
            if self.open.is_none() {
                self.try_again_at = Some(Instant::now() + REOPEN_PAUSE);
            }
            format!("{}: {error}", self.path.display())
        })
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if same_file::is_at(&open.file, &self.path) => open,
            Some(_) | None => self.open_anew()?,
        };
        if open.bytes > 0 && open.bytes + line.len() as u64 > self.limits.max_bytes {
            self.rotate()?;
            open = self.open_anew()?;
        }
        let written = open.write(line);
        self.open = Some(open);
        written
    }

    /// Renames the files: `.3` becomes `.4`, ..., the file itself `.1`.
    fn rotate(&self) -> io::Result<()> {
        for age in (1..self.limits.max_files).rev() {
            match fs::rename(predecessor(&self.path, age - 1), predecessor(&self.path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn open_anew(&self) -> io::Result<Open> {
        let mut options = OpenOptions::new();
        // A device or a pipe is accepted, but opening it must not wait for a reader.
        regular_file::non_blocking(options.append(true).create(true));
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.limits.mode);
        let file = match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder_of(&self.path))?;
                options.open(&self.path)?
            }
            other => other?,
        };
        let bytes = file.metadata()?.len();
        // A previous process may have been killed in the middle of a line; an empty line between two is harmless.
        Ok(Open { file, bytes, torn: bytes > 0 && !ends_with_newline(&self.path) })
    }
}

impl Open {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
            self.torn = false;
        }
        let written = self.file.write_all(line);
        if written.is_err() {
            // How many bytes were written is unknown; the next line starts with a newline.
            self.torn = true;
        }
        self.bytes = self.file.metadata().map_or(self.bytes + line.len() as u64, |metadata| metadata.len());
        written
    }
}

/// Returns the path of the file (0) or of its predecessor of that age.
fn predecessor(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

fn ends_with_newline(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let last_byte = || {
        let mut file = regular_file::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        io::Result::Ok(byte[0])
    };
    last_byte().is_ok_and(|byte| byte == b'\n')
}

/// A file of the series that was opened for reading.
#[derive(Debug)]
pub struct Part {
    /// The open file, at its beginning.
    pub file: File,
    /// What names it on this machine, also once it is rotated.
    pub identity: (u64, u64),
}

/// Opens the file and its predecessors for reading, the oldest first, also while another process writes and rotates them:
/// none is returned twice, and none left out but one that is dropped meanwhile. A file that is not there is no part.
///
/// # Errors
/// A file is there and cannot be opened: its path and why.
pub fn open_all(path: &Path, max_files: u32) -> Result<Vec<Part>, (PathBuf, io::Error)> {
    let mut parts: Vec<Part> = Vec::new();
    // From the newest: a file that is rotated meanwhile is met again one place further on.
    for age in 0..max_files {
        let path = predecessor(path, age);
        let part = regular_file::open(&path).and_then(|file| {
            let identity = same_file::identity(&file.metadata()?);
            Ok(Part { file, identity })
        });
        match part {
            Ok(part) if parts.iter().any(|known| known.identity == part.identity) => {}
            Ok(part) => parts.push(part),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((path, error)),
        }
    }
    parts.reverse();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn file(path: &Path, max_bytes: u64) -> RotatingFile {
        RotatingFile::new(path.to_owned(), Limits { max_bytes, max_files: 3, mode: 0o600 })
    }

    #[test]
    fn a_full_file_becomes_its_own_predecessor_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = file(&path, 100);
        for number in 0..40 {
            lines.append(format!("line {number:03} of ten\n").as_bytes()).unwrap();
        }
        let sizes: Vec<u64> = (0..3).map(|age| fs::metadata(predecessor(&path, age)).unwrap().len()).collect();
        assert!(sizes.iter().all(|size| (1..=100).contains(size)), "{sizes:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 039 of ten\n"));
    }

    #[test]
    fn a_deleted_folder_comes_back_with_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/lines");
        let mut lines = file(&path, 1_000);
        lines.append(b"one\n").unwrap();
        fs::remove_dir_all(folder.path().join("below")).unwrap();
        lines.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_file_that_another_program_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = file(&path, 1_000);
        lines.append(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        lines.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn half_a_line_of_a_killed_predecessor_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "{\"half").unwrap();
        file(&path, 1_000).append(b"whole\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\nwhole\n");
    }

    fn read_all(path: &Path) -> String {
        let mut text = String::new();
        for mut part in open_all(path, 3).unwrap() {
            part.file.read_to_string(&mut text).unwrap();
        }
        text
    }

    #[test]
    fn the_parts_are_read_from_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        assert_eq!(read_all(&path), "");
        let mut lines = file(&path, 10);
        ["one", "two", "three", "four"]
            .iter()
            .for_each(|word| lines.append(format!("{word:<7}\n").as_bytes()).unwrap());
        assert_eq!(read_all(&path), "two    \nthree  \nfour   \n");
    }

    #[test]
    fn a_part_under_two_names_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "one\n").unwrap();
        // As it looks to a reader that opened the file just before its rotation.
        fs::hard_link(&path, predecessor(&path, 1)).unwrap();
        fs::write(predecessor(&path, 2), "none\n").unwrap();
        assert_eq!(read_all(&path), "none\none\n");
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::create_dir(predecessor(&path, 1)).unwrap();
        let (named, error) = open_all(&path, 3).unwrap_err();
        assert_eq!((named, error.kind()), (predecessor(&path, 1), io::ErrorKind::IsADirectory));
    }
}
