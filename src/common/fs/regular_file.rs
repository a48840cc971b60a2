//! Opens files that other programs may have put there: regular files only, through symbolic links, without waiting for
//! another process, and up to the caller's maximum size. It does not interpret their content, and creates none unless
//! the caller's options say so.
//!
//! Opening a named pipe without a writer blocks for ever, and opening a device may have any effect.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

/// The kind of an object that is not a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Kind {
    /// A folder.
    #[strum(to_string = "a folder")]
    Folder,
    /// A named pipe (FIFO).
    #[strum(to_string = "a named pipe")]
    Pipe,
    /// A Unix socket.
    #[strum(to_string = "a socket")]
    Socket,
    /// A block or character device.
    #[strum(to_string = "a device")]
    Device,
    /// Any other kind that a system may have.
    #[strum(to_string = "something that is no file")]
    Other,
}

/// The reason why an existing file was not read; it is wrapped in an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// It is not a regular file.
    #[error("{0} stands where the file should be")]
    NoFile(Kind),
    /// It is larger than it may be.
    #[error("it has {bytes} bytes, more than the {max_bytes} that it may have")]
    TooLarge {
        /// Its size, in bytes; for a file that grew meanwhile, the number of bytes read.
        bytes: u64,
        /// The maximum size, in bytes.
        max_bytes: u64,
    },
}

impl Unsuitable {
    /// Returns the [`Unsuitable`] that `error` wraps, if any.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Unsuitable> for io::Error {
    fn from(unsuitable: Unsuitable) -> Self {
        let kind = match unsuitable {
            Unsuitable::NoFile(Kind::Folder) => io::ErrorKind::IsADirectory,
            Unsuitable::NoFile(Kind::Pipe | Kind::Socket | Kind::Device | Kind::Other) => io::ErrorKind::InvalidInput,
            Unsuitable::TooLarge { .. } => io::ErrorKind::FileTooLarge,
        };
        Self::new(kind, unsuitable)
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// The system's error, or [`Unsuitable::NoFile`].
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Opens a regular file with `options` (which may create it).
///
/// # Errors
/// The system's error, or [`Unsuitable::NoFile`].
pub fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Checked before opening, because opening a device may have effects. An error here shows again when opening.
    if let Ok(found) = fs::metadata(path) {
        require_regular_file(&found)?;
    }
    let file = non_blocking(options).open(path)?;
    // The opened file may be a different one than the checked one.
    require_regular_file(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `max_bytes`.
///
/// # Errors
/// The system's error, or [`Unsuitable`].
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_open(&mut open(path)?, max_bytes)
}

/// Reads an open file of at most `max_bytes` from where it stands.
///
/// # Errors
/// The system's error, or [`Unsuitable::TooLarge`].
pub fn read_open(file: &mut File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len();
    if bytes > max_bytes {
        return Err(Unsuitable::TooLarge { bytes, max_bytes }.into());
    }
    let mut content = Vec::new();
    // One byte more than allowed detects a file that grew meanwhile.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 {
        bytes if bytes > max_bytes => Err(Unsuitable::TooLarge { bytes, max_bytes }.into()),
        _ => Ok(content),
    }
}

/// Appends the last `max_bytes` of an open file to `content`.
///
/// # Errors
/// The system's error.
pub fn read_end(file: &mut File, max_bytes: u64, content: &mut Vec<u8>) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(bytes.saturating_sub(max_bytes)))?;
    file.take(max_bytes).read_to_end(content)?;
    Ok(())
}

/// Creates an empty file, or truncates the existing one.
///
/// # Errors
/// The system's error, or [`Unsuitable::NoFile`].
pub fn make_empty(path: &Path) -> io::Result<()> {
    open_with(path, OpenOptions::new().write(true).create(true).truncate(true)).map(drop)
}

/// Makes opening fail where it would wait for the other end of a named pipe. Regular files are not affected.
pub fn non_blocking(options: &mut OpenOptions) -> &mut OpenOptions {
    {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.cast_signed());
    }
    options
}

/// Checks that a path leads to a regular file, or to nothing yet.
///
/// # Errors
/// [`Unsuitable::NoFile`], and nothing else.
pub fn check(path: &Path) -> Result<(), Unsuitable> {
    fs::metadata(path).map_or(Ok(()), |found| require_regular_file(&found))
}

fn require_regular_file(found: &Metadata) -> Result<(), Unsuitable> {
    if found.is_file() { Ok(()) } else { Err(Unsuitable::NoFile(kind_of(found))) }
}

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
