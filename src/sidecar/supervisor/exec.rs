//! Replaces the process by a new run of its own program: the restart for a process that no supervisor would restart.
//! Same pid, same arguments, same environment; the program is whatever file is at its path by then. It returns only on
//! failure.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::common::fs::same_file;
use crate::sidecar::supervisor::inherited_fd::{self, KEPT_FOLDER};

/// The file that this process runs, even if it has been moved.
#[cfg(target_os = "linux")]
const IMAGE: &str = "/proc/self/exe";

/// The program to run again.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    image: Option<Stamp>,
}

/// Distinguishes two files, or two states of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    /// The permission bits: a file that may not be executed cannot be started.
    mode: u32,
    bytes: u64,
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    /// Returns the stamp of the file at the path; `None` if its metadata cannot be read.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            file: same_file::identity(&meta),
            mode: meta.mode(),
            bytes: meta.len(),
            modified: meta.modified().ok(),
        })
    }
}

impl Program {
    /// Returns this process's program. Call it at the start: once the file has been replaced, its path may be unknown.
    ///
    /// # Errors
    /// The system does not provide the path.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        // The path by which this process was started, if it is one: a symbolic link in it may lead to another version
        // the next time.
        let named = arguments.next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let path = match named.and_then(|name| std::path::absolute(name).ok()).filter(|path| path.is_file()) {
            Some(path) => path,
            None => std::env::current_exe()?,
        };
        #[cfg(target_os = "linux")]
        let image = Stamp::of(Path::new(IMAGE));
        #[cfg(not(target_os = "linux"))]
        let image = Stamp::of(&path);
        Ok(Self { path, arguments: arguments.collect(), image })
    }

    /// Returns the program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the arguments of this process.
    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Returns whether the file at the path has been replaced or removed.
    pub(crate) fn is_replaced(&self) -> bool {
        Stamp::of(&self.path) != self.image
    }

    /// Runs the program at the path in this process. If that is missing or broken, runs the one that this process was
    /// started from, so that a bad upgrade does not stop the agent. `kept_folder` is what [`KEPT_FOLDER`] is to say.
    ///
    /// # Errors
    /// Neither program could be run.
    pub fn run_again(&self, kept_folder: Option<&str>) -> io::Error {
        let error = self.exec(&self.path, kept_folder);
        tracing::error!(program = %self.path.display(), %error, "the program at this path cannot be run; going on with the old one");
        self.run_current_image(kept_folder)
    }

    /// Runs the program that this process was started from again, whatever file is at its path by now.
    ///
    /// # Errors
    /// The program could not be run.
    pub fn run_current_image(&self, kept_folder: Option<&str>) -> io::Error {
        #[cfg(target_os = "linux")]
        let image = Path::new(IMAGE);
        #[cfg(not(target_os = "linux"))]
        let image = &self.path;
        self.exec(image, kept_folder)
    }

    fn exec(&self, file: &Path, kept_folder: Option<&str>) -> io::Error {
        use std::os::unix::process::CommandExt;
        if let Err(error) = inherited_fd::keep_across_exec() {
            tracing::warn!(%error, "the next run will not have pm2's channel");
        }
        crate::common::signals::ignore_across_exec();
        // Under the same name, so that the next run uses the same path.
        let mut next = std::process::Command::new(file);
        next.arg0(&self.path).args(&self.arguments).env_remove(KEPT_FOLDER);
        if let Some(value) = kept_folder {
            next.env(KEPT_FOLDER, value);
        }
        next.exec()
    }
}
