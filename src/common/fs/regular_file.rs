//! Opens files that others may have put there: regular ones, through symbolic links, without ever waiting for another
//! process, and of no more than the caller's size. It does not know what is in them, and creates none of its own accord.
//!
//! A named pipe that nobody writes to holds whoever opens it for ever, and opening a device may do anything.

use core::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// What stands where a file should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Kind {
    /// A folder.
    #[strum(to_string = "a folder")]
    Folder,
    /// A FIFO.
    #[strum(to_string = "a named pipe")]
    Pipe,
    /// A Unix socket.
    #[strum(to_string = "a socket")]
    Socket,
    /// A block or character device.
    #[strum(to_string = "a device")]
    Device,
    /// Whatever else a system may have.
    #[strum(to_string = "something that is no file")]
    Other,
}

/// Why a file that is there was not read; it comes inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsuitable {
    /// It is no regular file.
    NoFile(Kind),
    /// It is larger than whatever it should be can get.
    TooLarge {
        /// Its size; as much as was read of one that grew meanwhile.
        bytes: u64,
        /// The most that is read.
        max_bytes: u64,
    },
}

impl Unsuitable {
    /// What is unfit, if that is the reason.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile(kind) => write!(f, "{kind} stands where the file should be"),
            Self::TooLarge { bytes, max_bytes } => {
                write!(f, "it has {bytes} bytes, more than the {max_bytes} that it may have")
            }
        }
    }
}

impl core::error::Error for Unsuitable {}

impl From<Unsuitable> for io::Error {
    fn from(unfit: Unsuitable) -> Self {
        let kind = match unfit {
            Unsuitable::NoFile(Kind::Folder) => io::ErrorKind::IsADirectory,
            Unsuitable::NoFile(Kind::Pipe | Kind::Socket | Kind::Device | Kind::Other) => io::ErrorKind::InvalidInput,
            Unsuitable::TooLarge { .. } => io::ErrorKind::FileTooLarge,
        };
        Self::new(kind, unfit)
    }
}

/// Opens it to be read.
///
/// # Errors
/// What the system says, or [`Unsuitable::NoFile`].
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Opens it as `options` say (which may create it).
///
/// # Errors
/// What the system says, or [`Unsuitable::NoFile`].
pub fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Before it is opened: a device would notice. What cannot be looked at is the opening's to tell.
    if let Ok(found) = fs::metadata(path) {
        must_be_a_file(&found)?;
    }
    let file = without_waiting(options).open(path)?;
    // What was opened may be another than what was looked at.
    must_be_a_file(&file.metadata()?)?;
    Ok(file)
}

/// Reads all of it, if it has no more than `max_bytes`.
///
/// # Errors
/// What the system says, or [`Unsuitable`].
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > max_bytes {
        return Err(Unsuitable::TooLarge { bytes, max_bytes }.into());
    }
    let mut content = Vec::new();
    // One byte more than allowed tells a file that grew meanwhile from one that fits.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 {
        bytes if bytes > max_bytes => Err(Unsuitable::TooLarge { bytes, max_bytes }.into()),
        _ => Ok(content),
    }
}

/// Makes an empty file of it, whether or not one is there.
///
/// # Errors
/// What the system says, or [`Unsuitable::NoFile`].
pub fn make_empty(path: &Path) -> io::Result<()> {
    open_with(path, OpenOptions::new().write(true).create(true).truncate(true)).map(drop)
}

/// Opening fails where it would wait for whoever is at a named pipe's other end. A regular file knows no difference.
pub fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.cast_signed());
    }
    options
}

/// Whether a path that is there leads to a regular file; one that is not there may become one.
///
/// # Errors
/// [`Unsuitable::NoFile`], and nothing else.
pub fn check(path: &Path) -> Result<(), Unsuitable> {
    fs::metadata(path).map_or(Ok(()), |found| must_be_a_file(&found))
}

fn must_be_a_file(found: &Metadata) -> Result<(), Unsuitable> {
    if found.is_file() { Ok(()) } else { Err(Unsuitable::NoFile(kind_of(found))) }
}

#[cfg(unix)]
fn kind_of(found: &Metadata) -> Kind {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = found.file_type();
    if kind.is_dir() {
        Kind::Folder
    } else if kind.is_fifo() {
        Kind::Pipe
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_block_device() || kind.is_char_device() {
        Kind::Device
    } else {
        Kind::Other
    }
}

#[cfg(not(unix))]
fn kind_of(found: &Metadata) -> Kind {
    if found.is_dir() { Kind::Folder } else { Kind::Other }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn unfit(path: &Path) -> Option<Unsuitable> {
        Unsuitable::of(&read(path, 10).unwrap_err())
    }

    #[test]
    fn what_is_no_file_is_called_by_its_name_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(unfit(folder.path()), Some(Unsuitable::NoFile(Kind::Folder)));
        assert_eq!(unfit(&pipe), Some(Unsuitable::NoFile(Kind::Pipe)));
        assert_eq!(unfit(&socket), Some(Unsuitable::NoFile(Kind::Socket)));
        assert_eq!(unfit(Path::new("/dev/zero")), Some(Unsuitable::NoFile(Kind::Device)));
    }

    #[test]
    fn a_link_to_a_file_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "content").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, 10).unwrap(), b"content");
    }

    #[test]
    fn no_more_is_read_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, [b'x'; 10]).unwrap();
        assert_eq!(read(&file, 10).unwrap().len(), 10);
        assert_eq!(
            Unsuitable::of(&read(&file, 9).unwrap_err()),
            Some(Unsuitable::TooLarge { bytes: 10, max_bytes: 9 })
        );
        // Sparse, and far more than memory.
        File::options().write(true).open(&file).unwrap().set_len(1 << 42).unwrap();
        assert!(matches!(unfit(&file), Some(Unsuitable::TooLarge { .. })));
    }

    #[test]
    fn what_is_not_there_is_not_unfit() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(&folder.path().join("none"), 10).unwrap_err();
        assert_eq!((error.kind(), Unsuitable::of(&error)), (io::ErrorKind::NotFound, None));
    }
}
