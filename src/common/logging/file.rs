//! The log file: limited in size, with a few predecessors, and created again when it is deleted or moved. Failures lose
//! single lines only: a full disk or a missing folder is tried again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::{regular_file, same_file};
use crate::common::logging::queue::{LineError, WriteLine};

/// The pause before a file that could not be opened is tried again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A log file with rotation: `sidecar.log` becomes `sidecar.log.1` when it is full, and so on; the oldest is dropped.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    max_files: u32,
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
    pub(super) fn new(path: PathBuf, max_bytes: u64, max_files: u32) -> Self {
        Self { path, max_bytes, max_files, open: None, try_again_at: None }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if same_file::is_at(&open.file, &self.path) => open,
            Some(_) | None => Open::at(&self.path)?,
        };
        if open.bytes > 0 && open.bytes + line.len() as u64 > self.max_bytes {
            self.rotate()?;
            open = Open::at(&self.path)?;
        }
        let written = open.write(line);
        self.open = Some(open);
        written
    }

    /// Renames the files: `.3` becomes `.4`, ..., the file itself `.1`.
    fn rotate(&self) -> io::Result<()> {
        for age in (1..self.max_files).rev() {
            let from = if age == 1 { self.path.clone() } else { self.predecessor(age - 1) };
            match fs::rename(&from, self.predecessor(age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn predecessor(&self, age: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{age}"));
        PathBuf::from(name)
    }
}

impl WriteLine for RotatingFile {
    fn write_line(&mut self, line: &[u8]) -> Result<(), LineError> {
        if self.open.is_none() && self.try_again_at.is_some_and(|at| Instant::now() < at) {
            return Err(LineError::Lost("tried a moment ago".to_owned()));
        }
        self.try_again_at = None;
        self.try_write(line).map_err(|error| {
            if self.open.is_none() {
                self.try_again_at = Some(Instant::now() + REOPEN_PAUSE);
            }
            LineError::Lost(format!("{}: {error}", self.path.display()))
        })
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A device or a pipe is accepted, but opening it must not wait for a reader.
        regular_file::non_blocking(options.append(true).create(true));
        // The log contains task descriptions; the group may read it, as with other logs.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder_of(path))?;
                options.open(path)?
            }
            other => other?,
        };
        let bytes = file.metadata()?.len();
        // A previous process may have been killed in the middle of a line; an empty line between two is harmless.
        Ok(Self { file, bytes, torn: bytes > 0 && !ends_with_newline(path) })
    }

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
