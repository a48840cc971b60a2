//! The folder of a new agent: made where it is missing, and tried by a file before a token is asked for. It writes
//! nothing that stays but the folders.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::error::OnboardError;
use crate::shell::durable::folder_of;

/// More than a configuration takes.
const PROBE: [u8; 8_192] = [b' '; 8_192];

/// Makes the configuration's folder (0700 where it is new) and the results folder in it; answers the latter.
///
/// # Errors
/// [`OnboardError::Folder`].
pub(super) fn prepare(config: &Path) -> Result<PathBuf, OnboardError> {
    let folder = folder_of(config);
    let results = folder.join("results");
    for path in [folder, &results] {
        make(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "make", source })?;
        probe(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "write to", source })?;
    }
    Ok(results)
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A file of a configuration's size, on the disk, and gone again.
fn probe(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".agentcom-onboard.").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(&PROBE)?;
    file.as_file().sync_all()
}
