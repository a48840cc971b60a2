//! The folder of a new agent: made where it is missing, and tried by a file before a token is asked for. It leaves
//! nothing but the folders, and those only if they are kept.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;
use crate::sidecar::cli::onboard::error::OnboardError;

/// More than a configuration takes.
const PROBE: [u8; 8_192] = [b' '; 8_192];

/// The folders of a new agent. What was made for it goes again when it is dropped, so that an agent that was not
/// registered leaves nothing.
#[derive(Debug)]
pub(super) struct AgentFolder {
    results: PathBuf,
    made: Vec<PathBuf>,
}

impl AgentFolder {
    /// The agent is there: everything stays. Answers the results folder.
    pub(super) fn keep(mut self) -> PathBuf {
        self.made.clear();
        self.results.clone()
    }

    fn make(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = path.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
        self.made.extend(missing.into_iter().rev().map(Path::to_path_buf));
        make(path)
    }
}

impl Drop for AgentFolder {
    fn drop(&mut self) {
        // The innermost first; one that somebody has put something into meanwhile stays.
        for path in self.made.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Makes the configuration's folder (0700 where it is new) and the results folder in it.
///
/// # Errors
/// [`OnboardError::Folder`].
pub(super) fn prepare(config: &Path) -> Result<AgentFolder, OnboardError> {
    let folder = folder_of(config);
    let results = folder.join("results");
    let mut place = AgentFolder { results: results.clone(), made: Vec::new() };
    for path in [folder, &results] {
        place.make(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "make", source })?;
        probe(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "write to", source })?;
    }
    Ok(place)
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
