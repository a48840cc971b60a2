//! Creates the folders of a new agent, and probes them with a temporary file before a token is requested. Unless the
//! folders are kept, it leaves nothing behind.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::folder_of;
use crate::sidecar::cli::onboard::error::OnboardError;

/// The content of the probe file; larger than a configuration.
const PROBE: [u8; 8_192] = [b' '; 8_192];

/// The folders of a new agent. The folders that were created are removed when this is dropped, unless [`Self::keep`]
/// was called: an agent that was not registered leaves nothing behind.
#[derive(Debug)]
pub(super) struct AgentFolder {
    results: PathBuf,
    created: Vec<PathBuf>,
}

impl AgentFolder {
    /// Keeps the folders, and returns the results folder.
    pub(super) fn keep(mut self) -> PathBuf {
        self.created.clear();
        self.results.clone()
    }

    fn make(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = path.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
        self.created.extend(missing.into_iter().rev().map(Path::to_path_buf));
        make(path)
    }
}

impl Drop for AgentFolder {
    fn drop(&mut self) {
        // The innermost first. `remove_dir` keeps a folder that is no longer empty.
        for path in self.created.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Creates the configuration's folder (mode 0700 if it is new) and the results folder in it.
///
/// # Errors
/// Returns [`OnboardError::Folder`] if one cannot be created or written.
pub(super) fn prepare(config: &Path) -> Result<AgentFolder, OnboardError> {
    let folder = folder_of(config);
    let results = folder.join("results");
    let mut folders = AgentFolder { results: results.clone(), created: Vec::new() };
    for path in [folder, &results] {
        folders.make(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "make", source })?;
        probe(path).map_err(|source| OnboardError::Folder { path: path.to_owned(), doing: "write to", source })?;
    }
    Ok(folders)
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file of a configuration's size to disk and removes it.
fn probe(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".agentcom-onboard.").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(&PROBE)?;
    file.as_file().sync_all()
}
