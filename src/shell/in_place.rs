//! Replaces the process by a new run of its own program: the restart where nobody else would do it. Same pid, same
//! arguments, same environment; the program is whatever stands at its path by then. It returns only if it failed.

use std::io;
use std::path::PathBuf;

/// What to run again.
#[derive(Debug)]
pub struct Program(PathBuf);

impl Program {
    /// This process's program. Call it at the start: once the file has been replaced, its path cannot be found out.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn of_this_process() -> io::Result<Self> {
        std::env::current_exe().map(Self)
    }

    /// Runs the program that stands at the path now, in this process. If that is missing or broken, the one that this
    /// process was started from, so that a bad upgrade does not take the agent away.
    ///
    /// # Errors
    /// Neither could be run.
    #[cfg(unix)]
    pub fn run_again(&self) -> io::Error {
        use std::os::unix::process::CommandExt;
        if let Err(error) = super::inherited_fd::keep_across_exec() {
            tracing::warn!(%error, "the next run will not have pm2's channel");
        }
        let run =
            |program: &std::path::Path| std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
        let error = run(&self.0);
        tracing::error!(program = %self.0.display(), %error, "the program at this path cannot be run; going on with the old one");
        run(std::path::Path::new("/proc/self/exe"))
    }

    /// Starts the program anew beside this process, which is about to end.
    ///
    /// # Errors
    /// It could not be started.
    #[cfg(not(unix))]
    pub fn run_again(&self) -> io::Error {
        match std::process::Command::new(&self.0).args(std::env::args_os().skip(1)).spawn() {
            Ok(_) => std::process::exit(0),
            Err(error) => error,
        }
    }
}
