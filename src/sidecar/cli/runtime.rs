//! Builds the single-threaded Tokio runtime that a command runs in.

use crate::common::signals::handle_meaningless;

/// The least number of open files; with fewer, Tokio panics while it builds a runtime.
const MIN_OPEN_FILES: u64 = 16;

/// How many events are taken from the kernel at once. Tokio's 1,024 are 12 kB of memory, for a dozen descriptors.
const IO_EVENTS: usize = 64;

/// Builds the runtime.
///
/// # Errors
/// Returns a text for the operator that says what the system lacks.
pub(super) fn build() -> Result<tokio::runtime::Runtime, String> {
    if let Some(files) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current
        && files < MIN_OPEN_FILES
    {
        return Err(format!(
            "only {files} files may be open at once (`ulimit -n`), and that is too few: allow 64 or more"
        ));
    }
    let build_failed = |error| format!("the runtime cannot be made: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(IO_EVENTS)
        .build()
        .map_err(build_failed)?;
    runtime.block_on(async { handle_meaningless() }).map_err(build_failed)?;
    Ok(runtime)
}
