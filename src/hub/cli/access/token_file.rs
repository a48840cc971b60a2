//! The file that `agentcom-hub token --out` writes: one new token, readable by its owner only. It makes no tokens.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::private_options;

/// A new file of mode 0600 with a token that a hub may know. It stays unless it is [removed](Self::remove), also where the
/// command is stopped: one that was lost could not be got back.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
}

/// The reason why the token is not in the file; the hub has made no token then.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenFileError {
    /// The name exists already, possibly as a dangling symbolic link.
    #[error(
        "{} is there already and was left as it is, and no token was made: name another file with --out, \
         or move that one away", .0.display()
    )]
    Taken(PathBuf),
    /// The file cannot be created.
    #[error(
        "cannot create {}: {}, and no token was made: --out needs a folder that is there and that you can write in",
        .0.display(), .1
    )]
    Create(PathBuf, io::Error),
    /// The file cannot be written.
    #[error(
        "cannot write {}: {}, and no token was made: free some space on its disk, or name a file elsewhere with --out",
        .0.display(), .1
    )]
    Write(PathBuf, io::Error),
}

impl TokenFile {
    /// Creates the file and writes the token into it as one line; both are on disk after `Ok`.
    ///
    /// # Errors
    /// [`TokenFileError`]; no new file is left behind then.
    pub(super) fn create(path: &Path, token: &str) -> Result<Self, TokenFileError> {
        // Exclusive creation: an existing file is not opened, and a symbolic link not followed.
        let file = private_options().write(true).create_new(true).open(path);
        let file = file.map_err(|error| {
            let taken = error.kind() == io::ErrorKind::AlreadyExists;
            let path = path.to_owned();
            if taken { TokenFileError::Taken(path) } else { TokenFileError::Create(path, error) }
        });
        let mut file = file?;
        let written = write(&mut file, path, token);
        let new = Self { path: path.to_owned() };
        match written {
            Ok(()) => Ok(new),
            Err(error) => {
                new.remove();
                Err(TokenFileError::Write(path.to_owned(), error))
            }
        }
    }

    /// Removes the file: its token is unknown to the hub.
    pub(super) fn remove(self) {
        // Nobody can do anything with what stays.
        let _ = fs::remove_file(&self.path);
    }
}

fn write(file: &mut File, path: &Path, token: &str) -> io::Result<()> {
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    File::open(folder_of(path))?.sync_all()
}
